"""Sending: confirmations and failures, and that a failure affects one message only."""

from __future__ import annotations

import asyncio
import logging
from unittest import mock

import pytest

import echorig
from echorig import (
    ConnectionClosedError,
    EchoMismatchError,
    EchoProtocol,
    EchoTimeoutError,
    ExpMessage,
    ExpStatus,
    MessageTooLongError,
    PeerUnreachableError,
)
from eventually import eventually
from lab import REF, RawUdp, free_port
from systems import needs_refusals, needs_reuse_port
from tagging import ACK, read_tag, run_of, strip_tag, tag


async def test_every_message_arrives_as_documented(lab, transport):
    server, client = await lab.pair(transport)
    received = []
    server.assign_callback(ExpMessage.any(), lambda data, addr, event: received.append((event.name, data)))
    await client.init(42)
    await client.start(REF, {'foo': 'bar'})
    await client.start({'date': '2022-01-01', 'sequence': '01', 'subject': 'mouse'})
    await client.status('running')
    await client.info(ExpStatus.RUNNING, ['é'])
    await client.stop('done')
    await client.stop(immediately=True)
    await client.cleanup()
    await client.confirmed_send([ExpMessage.EXPSTATUS])
    assert received == [
        ('EXPINIT', [42]),
        ('EXPSTART', [REF, {'foo': 'bar'}]),
        ('EXPSTART', ['2022-01-01_1_mouse', None]),
        ('EXPSTATUS', [20]),
        ('EXPINFO', [20, ['é']]),
        ('EXPEND', ['done']),
        ('EXPINTERRUPT', [None]),
        ('EXPCLEANUP', [None]),
        ('EXPSTATUS', []),
    ]


async def test_the_server_tells_its_clients(lab, transport):
    server = await lab.server(transport)
    clients = [await lab.client(server, f'c{i}') for i in range(3)]
    addrs = []
    server.assign_callback('EXPINIT', lambda data, addr: addrs.append(addr))
    for client in clients:
        await client.init()
    assert addrs == [client._transport.get_extra_info('sockname')[:2] for client in clients]
    for client, addr in zip(clients, addrs, strict=True):
        waiting = asyncio.ensure_future(client.on_event('EXPSTART'))
        await server.start(REF, addr=addr)
        assert await waiting == ([REF, None], (server.hostname, server.port))
    await server.start(REF, addr=['localhost', str(addrs[0][1])])


async def test_concurrent_and_identical_sends_all_succeed_in_order(lab, transport):
    server, client = await lab.pair(transport)
    received = []
    server.assign_callback('EXPINFO', lambda data, addr: received.append(data[1]))
    await asyncio.gather(*(client.info(0, i // 2) for i in range(100)))
    assert received == [i // 2 for i in range(100)]


async def test_messages_that_cross_are_both_delivered(lab, transport):
    server, client = await lab.pair(transport)
    first = asyncio.ensure_future(server.on_event('EXPINIT'))
    await client.init()
    _, addr = await first
    received = []
    server.assign_callback('EXPSTART', lambda data, addr: received.append('server'))
    client.assign_callback('EXPEND', lambda data, addr: received.append('client'))
    for _ in range(50):
        await asyncio.gather(client.start(REF), server.stop(addr=addr))
    assert sorted(received) == ['client'] * 50 + ['server'] * 50


async def test_raw_bytes_and_text_travel_as_they_are(lab):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri)
    for raw, frame in ((b'\xff\x00', b'\xff\x00'), ('é', 'é'.encode()), (bytearray(b'[8]'), b'[8]')):
        sending = asyncio.ensure_future(client.confirmed_send(raw))
        data, addr = await peer.hear()
        assert data == frame
        peer.say(data, addr)
        await sending
    peer.close()


async def test_arguments_are_checked_before_anything_is_sent(lab, transport):
    server, client = await lab.pair(transport)
    with pytest.raises(TypeError, match='addr'):
        await server.init()
    with pytest.raises(ValueError, match='Unexpected remote address'):
        await client.confirmed_send([1], addr=(client.hostname, client.port % 65535 + 1))
    with pytest.raises(ValueError, match='Unexpected remote address'):
        await client.confirmed_send([1], addr=('127.0.0.9', client.port))
    for timeout in (0, -1, float('nan')):
        with pytest.raises(ValueError, match='non-zero'):
            await client.confirmed_send([1], timeout=timeout)
    with pytest.raises(ValueError, match='default_echo_timeout must be non-zero'):
        client.default_echo_timeout = 0
    await client.init()
    with pytest.raises(TypeError, match='object'):
        await client.confirmed_send([object()])
    with pytest.raises(ValueError, match='empty'):
        await client.confirmed_send(b'')
    with pytest.raises(ValueError, match='status'):
        await client.status('ASLEEP')
    with pytest.raises(ValueError, match='sequence'):
        await client.start({'date': '2022-01-01', 'subject': 'x'})
    await client.confirmed_send([1, None], addr=[client.hostname, str(client.port)], timeout=float('inf'))


async def test_a_message_too_long_for_a_datagram_is_refused(lab):
    server, client = await lab.pair()
    await client.init('x' * (65_507 - len('[1, ""]')))
    with pytest.raises(MessageTooLongError, match=r'65508 bytes.*tcp://'):
        await client.init('x' * (65_508 - len('[1, ""]')))
    with pytest.raises(ValueError):
        client.send('x' * 70_000)


async def test_silence_times_out_and_closes_nothing(lab):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri, 'camera')
    kept = mock.Mock()
    client.assign_callback('EXPEND', kept)
    with pytest.raises(EchoTimeoutError, match=r'camera \(udp://127.0.0.1:\d+\) did not echo EXPINIT within 0\.\d+ s'):
        await client.confirmed_send([1, None], timeout=0.05)
    with pytest.raises(asyncio.TimeoutError):
        await client.confirmed_send([1, None], timeout=0.05)
    assert client.is_connected
    assert not client.awaiting_response()
    late = [await peer.hear() for _ in range(2)]
    for data, addr in late:
        peer.say(data, addr)  # the echoes, too late: no messages
    retry = asyncio.ensure_future(client.confirmed_send([2, REF, None]))
    data, addr = await peer.hear()
    peer.say(data, addr)
    await retry
    peer.say(b'[4, "now"]', addr)
    await peer.hear()
    kept.assert_called_once_with(['now'], peer.addr)
    peer.close()


async def test_other_peers_are_untouched_by_a_silent_one(lab):
    server = await lab.server()
    peer, client = await RawUdp.open(), await lab.client(server)
    first = asyncio.ensure_future(server.on_event('EXPINIT'))
    await client.init()
    _, addr = await first
    silent = asyncio.ensure_future(server.confirmed_send([1, None], peer.addr, timeout=0.2))
    for _ in range(20):
        await server.start(REF, addr=addr)
    assert not silent.done()
    with pytest.raises(TimeoutError if hasattr(asyncio, 'timeout') else asyncio.TimeoutError):
        await silent
    peer.close()


async def test_a_wrong_echo_is_an_error_of_that_send(lab, caplog):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri, 'camera')
    other = b'[2, "other", null]'
    for wrong in (lambda data: b'nonsense', lambda data: tag(other, read_tag(data) + ACK, run_of(data))):
        sending = asyncio.ensure_future(client.start(REF))
        data, addr = await peer.hear()
        peer.say(wrong(data), addr)
        with pytest.raises(EchoMismatchError, match=r'Unexpected response from camera .* EXPSTART'):
            await asyncio.wait_for(sending, 0.9)
        assert any(r.levelno == logging.ERROR and r.getMessage().startswith('Expected [2,') for r in caplog.records)
        caplog.clear()
    # A message of the same event may have crossed ours; if no echo comes, it was meant as one.
    sending = asyncio.ensure_future(client.confirmed_send([2, REF], timeout=0.1))
    _, addr = await peer.hear()
    peer.say(b'[2, "other", null]', addr)
    with pytest.raises(EchoMismatchError, match='other'):
        await sending
    sending = asyncio.ensure_future(client.start(REF))
    data = b''
    while strip_tag(data) != client.encode([2, REF, None]):
        data, addr = await peer.hear()  # the echo of the message that crossed comes before
    peer.say(data, addr)
    await sending
    peer.close()


async def test_a_cancelled_send_leaves_nothing_behind(lab, transport):
    server, client = await lab.pair(transport)
    received = []
    client.assign_callback(ExpMessage.any(), lambda *args: received.append(args))
    server.assign_callback('EXPSTART', lambda data, addr: server.send([4, 'answer'], addr))
    await client.init()  # what is cancelled before the server is known would not be sent
    for _ in range(20):
        answer = asyncio.ensure_future(client.on_event('EXPEND'))
        sending = asyncio.ensure_future(client.start(REF))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await client.init()
        await asyncio.wait_for(answer, 2)
    assert not client.awaiting_response()
    assert {args[2] for args in received} == {ExpMessage.EXPEND}, 'a late echo was delivered'


@needs_refusals
async def test_nobody_listens(lab):
    client = await lab.client(f'udp://127.0.0.1:{free_port()}', 'camera', log=logging.getLogger('refused'))
    client.default_echo_timeout = 30.0
    for _ in range(2):
        with pytest.raises(PeerUnreachableError, match=r'Nobody listens at camera .*EXPSTART') as caught:
            await client.start(REF)
        assert isinstance(caught.value, ConnectionRefusedError)
        assert isinstance(caught.value, asyncio.TimeoutError)
    assert client.is_connected
    assert isinstance(await client.on_error_received, ConnectionRefusedError)


@needs_refusals
async def test_a_peer_that_was_heard_may_be_restarting(lab):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri)
    sending = asyncio.ensure_future(client.init())
    data, addr = await peer.hear()
    peer.say(data, addr)
    await sending
    peer.close()
    await asyncio.sleep(0.01)
    started = asyncio.get_running_loop().time()
    with pytest.raises(PeerUnreachableError):
        await client.confirmed_send([1, None], timeout=0.3)
    assert asyncio.get_running_loop().time() - started >= 0.29


async def test_send_without_confirmation(lab, transport):
    server, client = await lab.pair(transport)
    waiting = asyncio.ensure_future(server.on_event('EXPSTATUS'))
    received = []
    client.assign_callback(ExpMessage.any(), lambda *args: received.append(args))
    client.send([ExpMessage.EXPSTATUS, 20])
    data, addr = await waiting
    assert data == [20]
    back = asyncio.ensure_future(client.on_event('EXPINFO'))
    server.send([64, 20, None], ('localhost', addr[1]))
    assert (await back)[0] == [20, None]
    await client.init()  # the echoes of both are in by now
    assert [args[2].name for args in received] == ['EXPINFO']


async def test_a_message_sent_to_a_name_is_tagged_like_any_other(lab):
    server, peer = await lab.server(), await RawUdp.open()
    for host in ('127.0.0.1', 'localhost'):
        server.send([ExpMessage.EXPSTATUS, 20], (host, peer.addr[1]))
        data, _ = await peer.hear()
        assert strip_tag(data) == b'[32, 20]'
        assert read_tag(data) >= 0
    peer.close()


async def test_send_to_an_unexpected_address(lab, caplog):
    server, client = await lab.pair('tcp')
    with mock.patch.object(client, '_transport') as patched:
        client.send(b'foo')
        patched.write.assert_called_once_with(b'foo')
        client.send(b'foo', addr=('192.168.0.0', 0))
        patched.write.assert_called_once()
    assert 'Message not sent: unexpected address' in caplog.text
    with pytest.raises(ConnectionClosedError, match='No client'):
        await server.init(addr=('127.0.0.1', 9))
    udp_server, udp_client = await lab.pair('udp')
    with pytest.raises(ValueError, match='Unexpected remote address'):
        udp_client.send([8], ('127.0.0.1', 9))
    with pytest.raises(TypeError, match='addr'):
        udp_server.send([8])


async def test_last_sent_tells_the_newest_unconfirmed_message(lab):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri)
    assert not client.awaiting_response()
    sending = asyncio.ensure_future(client.init())
    data, addr = await peer.hear()
    message, echo = client._last_sent[peer.addr]
    assert (strip_tag(message), echo.done()) == (b'[1, null]', False)
    assert client.awaiting_response()
    assert client.awaiting_response(peer.addr)
    assert not client.awaiting_response(('localhost', 8080))
    peer.say(data, addr)
    await sending
    assert await echo is True
    assert not client.awaiting_response()
    assert peer.addr not in client._last_sent
    peer.close()


async def test_a_pair_put_into_last_sent_by_hand_is_a_message_sent(lab, caplog):
    server, client = await lab.pair()
    addr = (server.hostname, server.port)
    future = asyncio.get_running_loop().create_future()
    client._last_sent[addr] = (b'foo', future)
    assert client.awaiting_response()
    client._receive(b'foo', addr)
    assert await future is True
    future = asyncio.get_running_loop().create_future()
    client._last_sent[addr] = (b'foo', future)
    client._receive(b'bar', addr)
    assert isinstance(future.exception(), RuntimeError)
    assert any(record.levelno == logging.ERROR for record in caplog.records)
    del client._last_sent[addr]
    await client.init()


async def test_ipv6(lab, transport):
    try:
        server = await lab.server(transport, host='[::1]')
    except OSError:
        pytest.skip('no IPv6 loopback here')
    client = await lab.client(server)
    waiting = asyncio.ensure_future(server.on_event('EXPSTART'))
    await client.start(REF)
    data, addr = await waiting
    assert len(addr) == 2
    await server.init(addr=addr)
    assert server.server_uri.startswith(f'{transport}://[::1]:')


@pytest.mark.parametrize(('listens', 'calls'), [('::1', '[0:0:0:0:0:0:0:1]'), ('0.0.0.0', '0.0.0.0')])
async def test_other_spellings_of_an_address(lab, transport, listens, calls):
    try:
        server = await lab.server(transport, host=f'[{listens}]' if ':' in listens else listens)
    except OSError:
        pytest.skip(f'no {listens} here')
    client = await lab.client(f'{transport}://{calls}:{server.port}')
    await client.start(REF)
    await client.confirmed_send([8], addr=(calls.strip('[]'), server.port))
    assert not client.awaiting_response((calls.strip('[]'), server.port))


async def test_an_address_of_the_other_family_is_refused_before_anything_is_sent(lab):
    server = await lab.server()
    with pytest.raises(ValueError, match='IPv6'):
        await server.init(addr=('::1', 9))
    assert not server.awaiting_response()


async def test_the_reason_that_the_system_gives_is_passed_on(lab):
    server = await lab.server()
    with pytest.raises(EchoTimeoutError) as caught:
        await server.confirmed_send([1], ('255.255.255.255', 9), timeout=0.1)
    assert isinstance(caught.value.__cause__, OSError)
    assert str(caught.value.__cause__) in str(caught.value)


async def test_the_size_of_a_truncated_echo_can_be_set_at_any_time(lab):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri)
    client.max_message_size = 100
    sending = asyncio.ensure_future(client.init('x' * 500))
    data, addr = await peer.hear()
    peer.say(data[:100], addr)
    await sending
    peer.close()


async def test_ping(lab, transport):
    server, client = await lab.pair(transport)
    received = []
    server.assign_callback(ExpMessage.any(), lambda *args: received.append(args))
    assert 0 < await client.ping() < 1
    peer = await RawUdp.open()
    plain = await lab.client(peer.uri)
    pinging = asyncio.ensure_future(plain.ping())
    data, addr = await asyncio.wait_for(peer.heard.get(), 2)
    assert strip_tag(data) == b'[]'
    peer.say(data, addr)
    assert 0 < await pinging < 1
    assert plain.peers[peer.addr].kind == 'legacy'
    with pytest.raises(EchoTimeoutError):
        await plain.ping(timeout=0.05)
    with pytest.raises(TypeError, match='addr'):
        await server.ping()
    assert received == []
    peer.close()


async def test_statistics_of_peers(lab):
    server, client = await lab.pair()
    for _ in range(3):
        await client.init()
    addr = (server.hostname, server.port)
    ours, theirs = client.peers[addr], next(iter(server.peers.values()))
    assert (ours.kind, ours.sent, ours.confirmed, ours.failed, ours.retransmitted) == ('echorig', 3, 3, 0, 0)
    assert 0 < ours.min_rtt <= ours.srtt < 1
    assert (theirs.kind, theirs.sent, theirs.srtt) == ('unknown', 0, None)
    assert list(client.peers) == [addr]
    assert ('10.0.0.1', 5) not in client.peers
    client.send(b'nonsense')
    await eventually(lambda: next(iter(server.peers.values())).malformed, 'next(iter(server.peers.values())).malformed')


async def test_localhost_and_the_documented_properties(lab, transport):
    server = await lab.server(transport, host='localhost')
    client = await lab.client(f'{transport}://localhost:{server.port}', None)
    await client.init()
    assert (client.hostname, client.protocol, client.role) == ('127.0.0.1', transport, 'client')
    assert client.name == client.server_uri == server.server_uri
    assert client.logger is logging.getLogger(client.name)
    with pytest.raises(AttributeError):
        client.role = 'server'


@needs_reuse_port
async def test_keyword_arguments_reach_the_loop(lab):
    uri = f'127.0.0.1:{free_port()}'
    for name in ('first', 'second'):  # both can bind only if the option has its effect
        lab.opened.append(await EchoProtocol.server(uri, name, reuse_port=True))
    with pytest.raises(TypeError):
        await EchoProtocol.client('127.0.0.1', no_such_argument=1)


def test_roles_are_checked_without_a_loop():
    for role in ('foo', '', None):
        with pytest.raises(ValueError, match='role'):
            EchoProtocol('localhost', role)


async def test_wrong_schemes_and_addresses_in_use(lab):
    for open_ in (EchoProtocol.client, EchoProtocol.server):
        with pytest.raises(ValueError, match='scheme'):
            await open_('http://127.0.0.1:80')
    server = await lab.server('tcp')
    with pytest.raises(OSError):
        await EchoProtocol.server(server.server_uri)
    with pytest.raises(PeerUnreachableError, match=r'Nobody listens at camera \(tcp://'):
        await EchoProtocol.client(f'tcp://127.0.0.1:{free_port()}', 'camera')


async def test_an_address_that_is_not_ours_leaves_nothing_behind(lab, transport):
    with pytest.raises(OSError):
        await EchoProtocol.server(f'{transport}://192.0.2.1:11001')
    with pytest.raises(TypeError):
        await EchoProtocol.server(f'{transport}://127.0.0.1:0', no_such_argument=1)


async def test_never_plaintext_under_wss(lab):
    with pytest.raises(ValueError, match='ssl='):
        await EchoProtocol.server('wss://127.0.0.1:0')
    plain = await lab.server('tcp')
    with pytest.raises(OSError):
        await EchoProtocol.client(plain.server_uri.replace('tcp', 'wss'), ssl_handshake_timeout=2.0)


def test_every_documented_name_can_be_mocked():
    names = (
        'role is_connected awaiting_response cleanup start stop status info init alyx encode decode send '
        'confirmed_send close connection_made datagram_received data_received error_received eof_received '
        'connection_lost server client server_uri logger name Server default_echo_timeout _last_sent '
        'assign_callback clear_callbacks on_event port hostname protocol max_message_size on_connection_lost '
        'on_error_received on_eof_received _callbacks _transport _socket _receive'
    ).split()
    assert set(names) <= set(dir(EchoProtocol))
    rig = mock.Mock(spec_set=EchoProtocol)
    rig.name, rig.server_uri, rig.port, rig.hostname = 'rig', 'udp://127.0.0.1:11001', 11001, '127.0.0.1'
    assert isinstance(rig, echorig.Service)
    for name in ('init', 'start', 'stop', 'status', 'info', 'cleanup', 'alyx', 'confirmed_send', 'on_event'):
        assert asyncio.iscoroutinefunction(getattr(EchoProtocol, name)), name
