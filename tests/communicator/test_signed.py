"""Communicators with a key, over real sockets: they accept messages only from each other."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys

import pytest

from echorig import (
    ConnectionClosedError,
    EchoProtocol,
    EchoTimeoutError,
    ExpMessage,
    MessageTooLongError,
    PeerUnreachableError,
    Services,
    Tuning,
)
from echorig.testing import LossyLink
from echorig.tuning import InternalTuning
from echorig.wire._codec import encode
from eventually import eventually
from lab import REF, RawUdp, free_port
from systems import needs_refusals
from tagging import set_ack, tag, tag_answer

KEY = 'only the laboratory has this key'
ANOTHER = 'somebody else has this other key'
SOON = 0.3  # seconds; a message that must not be delivered would have arrived by then


def listening(com):
    """Return a list that grows by the event and data of each message that a communicator receives."""
    received = []
    com.assign_callback(ExpMessage.any(), lambda data, addr, event: received.append((event.name, *data)))
    return received


# --- among those who have it ---


async def test_everything_that_is_said(lab, transport):
    server, client = await lab.pair(transport, key=KEY)
    received, answers = listening(server), listening(client)
    await client.init({'foo': 'bär 🐭'})
    await client.start(REF)
    await client.info('RUNNING', [1, 2.5])
    await client.stop()
    client.send([32, 30])
    await client.cleanup()
    assert await client.ping() > 0
    assert received == [
        ('EXPINIT', {'foo': 'bär 🐭'}),
        ('EXPSTART', REF, None),
        ('EXPINFO', 20, [1, 2.5]),
        ('EXPEND', None),
        ('EXPSTATUS', 30),
        ('EXPCLEANUP', None),
    ]
    (addr,) = server.peers
    await server.status('STOPPED', addr)
    server.send([64, 20, 'unconfirmed'], addr)
    await server.info('STOPPED', None, addr)
    assert answers == [('EXPSTATUS', 30), ('EXPINFO', 20, 'unconfirmed'), ('EXPINFO', 30, None)]


async def test_many_at_once_in_order(lab, transport):
    server, client = await lab.pair(transport, key=KEY)
    received = listening(server)
    await asyncio.gather(*(client.info('RUNNING', i) for i in range(200)))
    assert received == [('EXPINFO', 20, i) for i in range(200)]


async def test_a_failing_callback_is_told(lab, transport):
    server, client = await lab.pair(transport, key=KEY)
    server.assign_callback('EXPINIT', lambda data, addr: 1 / 0)
    notice = asyncio.ensure_future(client.on_event(0))
    await asyncio.sleep(0)
    await client.init()
    (text, event), _ = await asyncio.wait_for(notice, 5)
    assert text.startswith('ZeroDivisionError')
    assert event == 1


async def test_answers_name_their_question(lab, transport):
    server, client = await lab.pair(transport, key=KEY)

    async def answer(data, addr):
        await server.info('RUNNING', data, addr)

    server.assign_callback('EXPINFO', answer)
    async with client.events('EXPINFO') as answers:
        for i in range(20):
            await client.info('INITIALIZED', i)
            data, *_ = await asyncio.wait_for(answers.__anext__(), 5)
            assert data == [20, [10, i]]


async def test_services(lab, transport):
    rigs = {f'rig{i}': await lab.server(transport, f'rig{i}', key=f'the own key of rig {i}') for i in range(5)}
    for rig in rigs.values():

        async def answer(data, addr, rig=rig):
            await rig.init({'from': rig.name}, addr)

        rig.assign_callback('EXPINIT', answer)
    uris = {name: rig.server_uri for name, rig in rigs.items()}
    with pytest.raises(ValueError, match='rig4'):
        await Services.connect(uris, key={f'rig{i}': f'the own key of rig {i}' for i in range(4)})
    services = await Services.connect(uris, timeout=5.0, key={f'rig{i}': f'the own key of rig {i}' for i in range(5)})
    lab.opened += services.values()
    answers = await services.init()
    assert {name: answer[0]['from'] for name, answer in answers.items()} == {name: name for name in rigs}


async def test_two_peers_with_the_key_and_long_messages(lab, transport):
    server = await lab.server(transport, key=KEY)
    received = listening(server)
    longest = 65_507 - 320 - len(b'[64, 20, ""]')
    for _ in range(2):
        client = await lab.client(server, key=KEY.encode())
        await client.confirmed_send([64, 20, 'x' * longest], timeout=30)
        if transport == 'udp':
            with pytest.raises(MessageTooLongError):
                await client.info('RUNNING', 'x' * (longest + 1))
        else:
            await client.confirmed_send([64, 20, 'x' * 2_000_000], timeout=30)
    assert len(received) == (2 if transport == 'udp' else 4)


async def test_only_messages_can_be_signed(lab, transport):
    server, client = await lab.pair(transport, key=KEY)
    for what in (b'[64, 20, 1]', 'text', {'not': 'an array'}, 7):
        with pytest.raises(ValueError, match='signed'):
            await client.confirmed_send(what)
        with pytest.raises(ValueError, match='signed'):
            client.send(what)
    await client.init()


async def test_on_a_bad_network(lab):
    server = await lab.server(key=KEY)
    received = listening(server)
    async with LossyLink(server.server_uri, loss=0.2, duplicate=0.1, reorder=0.1, seed=3) as link:
        client = await lab.client(link.uri, key=KEY)
        for i in range(200):
            await client.confirmed_send([64, 20, i], timeout=10.0)
    assert received == [('EXPINFO', 20, i) for i in range(200)]


async def test_more_than_there_is_room_for(lab, transport):
    """What is refused because the backlog is full is no replay when it comes again."""
    server, client = await lab.pair(transport, key=KEY, tuning=Tuning(max_backlog=5))
    listener = asyncio.ensure_future(server.on_event('EXPINFO'))
    await asyncio.sleep(0)
    await client.info('RUNNING', 0)
    sends = [asyncio.ensure_future(client.confirmed_send([64, 20, i], timeout=20)) for i in range(1, 10)]
    numbers = [(await listener)[0][1]]
    while len(numbers) < 10:
        await asyncio.sleep(0.02)
        numbers.append((await asyncio.wait_for(server.on_event('EXPINFO'), 10))[0][1])
    await asyncio.gather(*sends)
    assert numbers == list(range(10))


async def test_a_rig_that_starts_anew(lab):
    server, client = await lab.pair(key=KEY)
    await client.init()
    for i in range(5):
        server.close()
        await server.wait_closed()
        server = await EchoProtocol.server(server.server_uri, 'server', key=KEY)
        lab.opened.append(server)
        received = listening(server)
        await client.confirmed_send([64, 20, i], timeout=10)
        assert received == [('EXPINFO', 20, i)]


async def test_a_rig_that_starts_anew_over_tcp(lab):
    tuning = InternalTuning(first_reconnect_delay=0.01)
    server, client = await lab.pair('tcp', key=KEY, tuning=tuning)
    await client.init()
    server.close()
    await server.wait_closed()
    await asyncio.wait_for(client.on_connection_lost, 10)
    server = await EchoProtocol.server(server.server_uri, 'server', key=KEY)
    lab.opened.append(server)
    received = listening(server)
    await eventually(lambda: client.is_connected, 'client.is_connected')
    await client.info('RUNNING', 1)
    assert received == [('EXPINFO', 20, 1)]


async def test_a_main_pc_that_starts_anew_at_its_old_port(lab):
    server = await lab.server(key=KEY)
    received = listening(server)
    port = free_port()
    for i in range(3):
        client = await lab.client(server, key=KEY, local_addr=('127.0.0.1', port))
        await client.info('RUNNING', i)
        client.close()
        await client.wait_closed()
    assert received == [('EXPINFO', 20, i) for i in range(3)]


@needs_refusals
async def test_nobody_there_is_still_said(lab):
    client = await lab.client(f'udp://127.0.0.1:{free_port()}', key=KEY)
    with pytest.raises(PeerUnreachableError):
        await client.init()


async def test_what_has_failed_is_not_said_later(lab):
    """A main PC tries again and again, until the rig is there."""
    port = free_port()
    client = await lab.client(f'udp://127.0.0.1:{port}', key=KEY)
    for _ in range(5):
        with pytest.raises(EchoTimeoutError):
            await client.confirmed_send([1, 'too early'], timeout=0.05)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client.confirmed_send([1, 'given up'], timeout=20), 0.05)
    server = await EchoProtocol.server(f'udp://127.0.0.1:{port}', 'server', key=KEY)
    lab.opened.append(server)
    received = listening(server)
    await client.confirmed_send([4, None], timeout=20)
    assert received == [('EXPEND', None)]


async def test_much_at_once_on_a_new_connection(lab):
    server, client = await lab.pair('tcp', key=KEY)
    received = listening(server)
    await asyncio.gather(*(client.confirmed_send([64, i, 'x' * 200_000], timeout=30) for i in range(20)))
    assert [number for _, number, _ in received] == list(range(20))


async def test_a_signature_must_fit_into_what_the_other_end_takes(lab):
    server, client = await lab.pair('tcp', key=KEY, tuning=Tuning(max_stream_message=2000))
    received = listening(server)
    longest = 2000 - 320 - len(b'[64, 20, ""]')
    await client.info('RUNNING', 'x' * longest)
    with pytest.raises(MessageTooLongError, match='signature'):
        await client.info('RUNNING', 'x' * (longest + 1))
    await client.stop()
    assert len(received) == 2


async def test_what_close_takes_with_it_is_said(lab, caplog):
    client = await lab.client(f'udp://127.0.0.1:{free_port()}', key=KEY)
    client.send([64, 20])
    client.close()
    assert '1 messages were not sent' in caplog.text


# --- those who have it not ---


@pytest.mark.parametrize('keys', [(KEY, None), (None, KEY), (KEY, ANOTHER)])
async def test_without_the_same_key_nothing_is_heard(lab, transport, keys, caplog):
    server, client = await lab.server(transport, key=keys[0]), None
    received = listening(server)
    client = await lab.client(server, key=keys[1])
    with pytest.raises(EchoTimeoutError) as raised:
        await client.confirmed_send([1, None], timeout=SOON)
    if keys[1] and not keys[0]:  # the error names the cause, as far as it is known
        assert 'not signed with the same key' in str(raised.value)
    client.send([1, None])
    with pytest.raises(EchoTimeoutError):
        await client.ping(timeout=SOON)
    assert received == []
    if keys[0]:
        assert [record.name for record in caplog.records if 'not signed with our key' in record.message].count(
            'server'
        ) == 1
        assert server.rejected['127.0.0.1'].unsigned
    assert 'Expected list' not in caplog.text


async def test_a_server_is_not_heard_either(lab):
    """The main PC has a key, a rig none: what the rig says of itself is not believed."""
    server, client = await lab.server(), None
    client = await lab.client(server, key=KEY)
    received = listening(client)
    with pytest.raises(EchoTimeoutError):
        await client.confirmed_send([1, None], timeout=SOON)
    (addr,) = server.peers  # the handshake reached it, as a ping
    with pytest.raises(EchoTimeoutError):
        await server.confirmed_send([32, 20], addr, timeout=SOON)
    assert received == []


async def test_a_handshake_is_a_ping_to_those_without_a_key(lab, caplog):
    server = await lab.server()
    received = listening(server)
    client = await lab.client(server, key=KEY)
    with caplog.at_level(logging.DEBUG), pytest.raises(EchoTimeoutError):
        await client.confirmed_send([1, None], timeout=SOON)
    assert received == []
    assert server.peers[next(iter(server.peers))].malformed == 0
    assert 'no message' not in caplog.text


class Relay(RawUdp):
    """An attacker between a client and its server: receives every frame, and can replay it from the same address."""

    def join(self, server):
        self.server = server.server_uri.rsplit(':', 1)[0].removeprefix('udp://'), server.port
        self.client = None
        self.recorded = []

    def datagram_received(self, data, addr):
        if addr == self.server:
            self.transport.sendto(data, self.client)
        else:
            self.client = addr
            self.recorded.append(data)
            self.transport.sendto(data, self.server)


async def dealt_with(server):
    """Wait until a server has read all that was sent to it so far: datagrams are read in order on loopback."""
    client = await EchoProtocol.client(server.server_uri, key=KEY)
    await client.confirmed_send([64, 20, 'sync'], timeout=20)
    client.close()
    await client.wait_closed()


async def test_forged_datagrams(lab):
    server, client = await lab.pair(key=KEY)
    received = listening(server)
    await client.init()
    attacker = await RawUdp.open()
    address = server.hostname, server.port
    for i in range(30):
        message = encode([64, 20, f'forged {i}'])
        for frame in (message, tag(message, i), tag_answer(message, i, i), b'[0, "notice", 1]', b'no message', b'['):
            attacker.say(frame, address)
            attacker.say(tag(b'[]', i), address)
            attacker.say(set_ack(tag(message, i)), address)
        await dealt_with(server)  # before the system has no more room for datagrams
    assert received == [('EXPINIT', None), *[('EXPINFO', 20, 'sync')] * 30]
    assert server.rejected['127.0.0.1'].unsigned == 30 * 18
    assert attacker.heard.empty()
    assert attacker.addr not in server.peers
    await client.init()


async def test_replayed_datagrams(lab):
    server = await lab.server(key=KEY)
    received = listening(server)
    relay = await Relay.open()
    relay.join(server)
    client = await lab.client(relay.uri, key=KEY)
    for i in range(1, 6):
        await client.info('RUNNING', i)
    recorded = list(relay.recorded)
    assert len(recorded) > 5
    stranger = await RawUdp.open()
    for _ in range(3):
        for frame in recorded:
            relay.transport.sendto(frame, relay.server)  # from the address of its sender
            stranger.say(frame, relay.server)
            relay.transport.sendto(frame, relay.client)  # and back
    await dealt_with(server)
    assert received == [('EXPINFO', 20, i) for i in (*range(1, 6), 'sync')]
    assert client.peers[relay.addr].duplicates == 0
    await client.info('RUNNING', 6)
    assert received[-1] == ('EXPINFO', 20, 6)


async def test_replayed_datagrams_after_a_restart(lab):
    server = await lab.server(key=KEY)
    relay = await Relay.open()
    relay.join(server)
    client = await lab.client(relay.uri, key=KEY)
    await client.start(REF)
    recorded = list(relay.recorded)
    server.close()
    await server.wait_closed()
    server = await EchoProtocol.server(server.server_uri, 'server', key=KEY)
    lab.opened.append(server)
    received = listening(server)
    for _ in range(3):
        for frame in recorded:
            relay.transport.sendto(frame, relay.server)
    await dealt_with(server)
    assert received == [('EXPINFO', 20, 'sync')]
    await client.confirmed_send([64, 20, 'again'], timeout=20)
    assert received[-1] == ('EXPINFO', 20, 'again')


async def test_forged_confirmations(lab):
    """An attacker in the place of the rig sends back each frame, as every peer without a key would."""
    attacker = await RawUdp.open()
    client = await lab.client(attacker.uri, key=KEY)
    send = asyncio.ensure_future(client.confirmed_send([2, REF, None], timeout=1.0))
    for _ in range(3):
        frame, addr = await asyncio.wait_for(attacker.heard.get(), 5)
        for forged in (frame, set_ack(frame), tag(b'[2, "%s", null]' % REF.encode(), 1)):
            attacker.say(forged, addr)
    with pytest.raises(EchoTimeoutError, match='not signed with the same key'):
        await send


async def test_a_forger_over_tcp(lab):
    server = await lab.server('tcp', key=KEY)
    received = listening(server)
    reader, writer = await asyncio.open_connection(server.hostname, server.port)
    writer.write(b'[2, "ref", null]' + tag(b'[1, null]', 7) + b'[0, "x"]' + tag(b'[]', 8) + b'text')
    client = await lab.client(server, key=KEY)
    await client.init()
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 10) == b''
    writer.close()
    assert received == [('EXPINIT', None)]


# --- the key itself ---


@pytest.mark.parametrize('key', ['', 'short', b'fifteen bytes..', 12345678901234567890])
async def test_a_bad_key_leaves_nothing_behind(lab, transport, key):
    with pytest.raises((ValueError, TypeError)) as raised:
        await lab.server(transport, key=key)
    assert not key or str(key) not in str(raised.value)
    with pytest.raises((ValueError, TypeError)):
        await lab.client(f'{transport}://127.0.0.1:{free_port()}', key=key)


async def test_without_numbers_nothing_is_signed(lab):
    with pytest.raises(ValueError, match='tags'):
        await lab.server(key=KEY, tuning=Tuning(tags=False))


async def test_the_key_is_nowhere_to_be_seen(lab, transport, caplog):
    with caplog.at_level(logging.DEBUG):
        server, client = await lab.pair(transport, key=KEY)
        stranger = await lab.client(server)
        await client.init()
        with pytest.raises(EchoTimeoutError) as raised:
            await stranger.confirmed_send([1, None], timeout=SOON)
    shown = [caplog.text, str(raised.value), repr(server), repr(client), str(vars(client)), repr(client.peers)]
    assert KEY not in '\n'.join(shown)


@pytest.mark.blocks
def test_the_command_line_reads_a_key_from_a_file(tmp_path):
    file, other = tmp_path / 'key', tmp_path / 'other'
    file.write_text(KEY + '\n')
    other.write_text(ANOTHER)
    command = [sys.executable, '-u', '-m', 'echorig']
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [*command, 'server', 'udp://127.0.0.1:0', '--key-file', str(file)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as server:
        try:
            uri = server.stdout.readline().split()[2].rstrip(';')
            outcomes = {}
            for key in (file, other, tmp_path / 'missing'):
                client = [*command, 'client', uri, '--key-file', str(key), '--timeout', '2']
                outcomes[key.name] = subprocess.run(client, capture_output=True, text=True, env=environment, timeout=60)
        finally:
            server.terminate()
    assert outcomes['key'].returncode == 0, outcomes['key'].stderr
    assert outcomes['other'].returncode == 1
    assert outcomes['missing'].returncode == 2
    assert 'cannot read the key' in outcomes['missing'].stderr
    assert not any(KEY in done.stderr + done.stdout for done in outcomes.values())


async def test_closing_while_a_session_is_begun(lab, transport):
    silent = await lab.server(transport)  # it has no key, so no session begins
    client = await lab.client(silent, key=KEY)
    send = asyncio.ensure_future(client.confirmed_send([1, None], timeout=30))
    await eventually(lambda: silent.peers, 'the handshake has reached it')
    client.close()
    with pytest.raises(ConnectionClosedError):
        await send
