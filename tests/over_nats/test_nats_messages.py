"""Messages over a real NATS broker: both ways, of any size, signed and foreign ones; subjects with and without rig."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import sys

import nats
import pytest

from brokers import needs_broker, stop, subject
from echorig import (
    ConnectionClosedError,
    EchoProtocol,
    EchoTimeoutError,
    MessageTooLongError,
    PeerUnreachableError,
    Services,
    ServicesError,
    discover,
)
from echorig.sync import Services as BlockingServices
from eventually import eventually
from lab import REF
from programs import Program

pytestmark = needs_broker

RIG = """
import asyncio, sys
from echorig import EchoProtocol

async def main():
    com = await EchoProtocol.server(sys.argv[1], 'rig')
    async def answer(data, addr, event):
        await com.confirmed_send([event, *data], addr)
    com.assign_callback(127, answer)
    print('serves', flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_both_ways(lab, broker):
    """The address of a client is a subject; the answer goes there."""
    server, client = await lab.over_nats(broker.uri)
    seen = []
    server.assign_callback('EXPINFO', lambda data, addr: seen.append((data, addr)))
    await client.info('RUNNING', {'x': 1})
    data, addr = seen[0]
    assert data[1] == {'x': 1}
    assert addr == client._transport.get_extra_info('sockname')
    answer = asyncio.ensure_future(client.on_event('EXPSTART'))
    await asyncio.sleep(0)
    await server.start(REF, {'y': 2}, addr=addr)
    assert (await answer)[0] == [REF, {'y': 2}]
    assert client.peers[client_server(client)].kind == 'echorig'
    assert await client.ping() > 0.0
    assert await server.ping(addr) > 0.0
    assert (await client.measure_clock()).error < 10.0


def client_server(client: EchoProtocol) -> tuple[str, int]:
    (addr,) = client.peers
    return addr


async def test_many_at_once_arrive_once_in_order(lab, broker):
    server, client = await lab.over_nats(broker.uri)
    seen = []
    server.assign_callback('EXPINFO', lambda data, addr: seen.append(data[1]['n']))
    await asyncio.gather(*(client.info('RUNNING', {'n': n}) for n in range(300)))
    assert seen == list(range(300))


async def test_clients_in_one_process_are_told_apart(lab, broker):
    server, first = await lab.over_nats(broker.uri)
    second = await lab.client(f'{broker.uri}/{client_subject(server)}', 'second')
    heard = []
    server.assign_callback('EXPINFO', lambda data, addr: heard.append((data[1], addr)))
    await first.info('RUNNING', 'first')
    await second.info('RUNNING', 'second')
    assert [who for who, _ in heard] == ['first', 'second']
    assert heard[0][1] != heard[1][1]
    told = []
    second.assign_callback('EXPEND', lambda data, addr: told.append(data))
    await server.stop(addr=heard[1][1])
    assert len(told) == 1


def client_subject(server: EchoProtocol) -> str:
    return server.server_uri.rpartition('/')[2]


@pytest.mark.parametrize('size', [10, 70_000, 1_000_000])
async def test_long_messages_both_ways(lab, broker, size):
    server, client = await lab.over_nats(broker.uri)
    heard = []
    server.assign_callback('EXPINFO', lambda data, addr: heard.append((data[1], addr)))
    client.assign_callback('EXPINFO', lambda data, addr: heard.append((data[1], addr)))
    text = 'x' * size
    await client.info('RUNNING', text)
    await server.info('RUNNING', text, addr=heard[0][1])
    assert [len(data) for data, _ in heard] == [size, size]


@pytest.mark.parametrize('key', [None, 'a long shared secret of the lab'])
async def test_a_message_beyond_the_limit_of_the_broker(lab, broker, key):
    server, client = await lab.over_nats(broker.uri, **({} if key is None else {'key': key}))
    heard = []
    server.assign_callback('EXPINFO', lambda data, addr: heard.append(data[1]))
    with pytest.raises(MessageTooLongError, match='max_payload') as caught:
        await client.info('RUNNING', 'x' * 2**20)
    longest = int(str(caught.value).split('at most ')[1].split()[0])
    overhead = int(str(caught.value).split(' bytes')[0].split()[-1]) - 2**20
    await client.info('RUNNING', 'x' * (longest - overhead))  # the longest one arrives
    with pytest.raises(MessageTooLongError):
        await client.info('RUNNING', 'x' * (longest - overhead + 1))
    assert [len(text) for text in heard] == [longest - overhead]


async def test_nobody_subscribes(lab, broker):
    """That is known at once, not after the timeout."""
    uri = f'{broker.uri}/{subject()}'
    client = await lab.client(uri)
    with pytest.raises(PeerUnreachableError, match='Nobody listens at') as caught:
        await client.confirmed_send([2, REF], timeout=500)
    assert uri in str(caught.value)
    with pytest.raises(PeerUnreachableError):
        await client.ping(timeout=500)
    server = await EchoProtocol.server(uri, 'rig')  # it starts later
    lab.opened.append(server)
    await client.start(REF)


CLIENT = """
import asyncio, sys
from echorig import EchoProtocol

async def main():
    com = await EchoProtocol.client(sys.argv[1], 'main')
    await com.start('REF')
    print('started', flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.blocks
async def test_a_client_that_is_gone_is_reported_to_its_server(lab, broker):
    server = await EchoProtocol.server(f'{broker.uri}/{subject()}', 'rig')
    lab.opened.append(server)
    with Program(CLIENT, server.server_uri) as client:
        await asyncio.to_thread(client.wait_for, 'started')
    (addr,) = server.peers
    with pytest.raises(PeerUnreachableError, match='Nobody listens at subject'):
        await server.confirmed_send([2, REF], addr, timeout=1.0)


async def test_one_server_for_each_subject(lab, broker):
    server, client = await lab.over_nats(broker.uri)
    with pytest.raises(OSError, match='Another server answers') as caught:
        await EchoProtocol.server(server.server_uri, 'second')
    assert caught.value.errno == errno.EADDRINUSE
    await client.start(REF)
    server.close()
    await server.wait_closed()
    again = await EchoProtocol.server(server.server_uri, 'second')
    lab.opened.append(again)
    await client.start(REF)


@pytest.mark.blocks
async def test_one_server_in_all_processes_and_after_it_was_killed(lab, broker):
    uri = f'{broker.uri}/{subject()}'
    with Program(RIG, uri) as rig:
        await asyncio.to_thread(rig.wait_for, 'serves')
        with pytest.raises(OSError, match='Another server answers') as caught:
            await EchoProtocol.server(uri, 'second')
        assert caught.value.errno == errno.EADDRINUSE
        client = await lab.client(uri)
        await client.start(REF)
        rig.process.kill()
        rig.wait()
    server = await EchoProtocol.server(uri, 'second')
    lab.opened.append(server)
    heard = []
    server.assign_callback('EXPSTART', lambda data, addr: heard.append(data))
    await client.start(REF)
    assert len(heard) == 1


@pytest.mark.blocks
@pytest.mark.skipif(sys.platform == 'win32', reason='SIGSTOP')
async def test_a_server_that_stood_still_when_a_second_one_started(lab, broker, caplog):
    """The second one cannot know of it. When the first goes on, the second logs that both get each message."""
    uri = f'{broker.uri}/{subject()}'
    with Program(RIG, uri) as rig:
        await asyncio.to_thread(rig.wait_for, 'serves')
        stop(rig.process)
        lab.opened.append(await EchoProtocol.server(uri, 'second'))
        assert 'another server also answers' not in caplog.text
        rig.send_signal(signal.SIGCONT)
        await eventually(lambda: 'another server also answers' in caplog.text, 'the second server logs it', 30)
    # One server alone asks as well, and its own question is no answer.
    caplog.clear()
    lab.opened.append(alone := await EchoProtocol.server(f'{broker.uri}/{subject()}', 'alone'))
    async with EchoProtocol.client(alone.server_uri, 'client') as client:
        await client.ping(timeout=30)
    assert 'another server also answers' not in caplog.text


async def test_servers_of_one_subject_that_start_together(broker):
    """One of them gets the subject at most; no message has two receivers."""
    uri = f'{broker.uri}/{subject()}'
    found = await asyncio.gather(*(EchoProtocol.server(uri, f'rig{i}') for i in range(4)), return_exceptions=True)
    opened = [com for com in found if isinstance(com, EchoProtocol)]
    try:
        assert len(opened) <= 1, found
        assert all(isinstance(ex, OSError) and ex.errno == errno.EADDRINUSE for ex in found if ex not in opened)
    finally:
        for com in opened:
            com.close()
            await com.wait_closed()


async def test_no_broker_there():
    with pytest.raises(PeerUnreachableError, match=r'No broker listens at nats://127\.0\.0\.1:9'):
        await EchoProtocol.client('nats://127.0.0.1:9/lab.rig')
    with pytest.raises(PeerUnreachableError, match='No broker listens'):
        await EchoProtocol.server('nats://127.0.0.1:9/lab.rig')


@pytest.mark.slow
async def test_a_broker_that_says_nothing():
    """The program that listens there is no broker: an error after some seconds, and nothing is left."""
    writers = []
    server = await asyncio.start_server(lambda reader, writer: writers.append(writer), '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(EchoTimeoutError, match='accepted no connection'):
            await EchoProtocol.client(f'nats://127.0.0.1:{port}/lab.rig')
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.mark.parametrize(
    'greeting', [b'220 mail.lab.org ESMTP\r\n', b'INFO {"max_payload": \r\n', b'\xff' * 300 + b'\r\n', b'']
)
async def test_a_program_that_is_no_broker(greeting):
    async def accepted(reader, writer):
        writer.write(greeting)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(accepted, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(OSError, match=f'127.0.0.1:{port}'):
            await EchoProtocol.client(f'nats://127.0.0.1:{port}/lab.rig')
    finally:
        server.close()


async def test_cancelled_while_opening(broker):
    """Nothing is left, whenever that happens; `guards` looks for tasks."""
    uri = f'{broker.uri}/{subject()}'
    for delay in (0.0, 0.0001, 0.0005, 0.001, 0.002, 0.004, 0.008):
        opening = asyncio.ensure_future(EchoProtocol.server(uri, 'rig'))
        await asyncio.sleep(delay)
        opening.cancel()
        (result,) = await asyncio.gather(opening, return_exceptions=True)
        if isinstance(result, EchoProtocol):
            result.close()
            await result.wait_closed()
    async with await EchoProtocol.server(uri, 'rig') as server:
        assert server.is_connected


async def test_signed(lab, broker, caplog):
    """Programs with another key, and without one, are refused."""
    server, client = await lab.over_nats(broker.uri, key='the key of this lab')
    heard = []
    server.assign_callback('EXPSTART', lambda data, addr: heard.append(data[0]))
    await client.start(REF)
    for options in ({}, {'key': 'the key of another lab'}):
        other = await lab.client(server.server_uri, 'other', **options)
        with pytest.raises(EchoTimeoutError):
            await other.confirmed_send([2, 'forged'], timeout=0.5)
    assert heard == [REF]


async def test_foreign_messages_are_ignored(lab, broker, caplog):
    """Whatever a program of NATS publishes: at most one line is logged for a flood of it."""
    caplog.set_level(logging.WARNING)
    server, client = await lab.over_nats(broker.uri)
    await client.start(REF)
    private, topic = client._transport.get_extra_info('sockname')[0], client_subject(server)
    foreign = await nats.connect(broker.uri)
    junk = [b'', b'?', b'\x01', b'hello', b'\x01' * 9, b'\x00' * 2000, b'\x00' + os.urandom(500)]
    try:
        for where in (topic, private, f'{private}.lab', f'{private}...'.rstrip('.')):
            for data in junk:
                for reply in ('', 'a.b', topic, private, '*.>', 'x' * 300):
                    await foreign.publish(where, data, reply) if '*' not in reply else None
                await foreign.publish(where, data, headers={'Status': '503'})
                await foreign.publish(where, data, 'a.b', headers={'Status': '200', 'x': 'y'})
        await foreign.flush()
        for _ in range(3):
            await client.start(REF)
    finally:
        await foreign.close()
    logged = [record for record in caplog.records if 'no message' in record.getMessage()]
    assert logged
    assert len(logged) <= 40  # of nearly 400, ten of each communicator, and ten more in the next interval
    assert await client.ping() > 0


async def test_services_over_nats(lab, broker):
    """Calls, the watch, and an experiment on several rigs; a rig that is not there is named."""
    uris = {f'rig{i}': f'{broker.uri}/{subject()}' for i in range(5)}
    servers = {}
    for name, uri in uris.items():
        servers[name] = server = await EchoProtocol.server(uri, name)
        lab.opened.append(server)

        async def answer(data, addr, event, server=server):
            await server.confirmed_send([event, *data], addr)

        server.assign_callback(127, answer)
    async with await Services.connect(uris, timeout=10.0) as rigs:
        assert len(await rigs.start(REF)) == 5
        assert all(seconds > 0.0 for seconds in (await rigs.ping()).values())
        async with rigs.watch(0.1) as presence, presence.events() as changes:
            await eventually(lambda: all(rig.state == 'online' for rig in presence.values()), 'all are present')
            servers['rig2'].close()
            await servers['rig2'].wait_closed()
            while True:
                change = await asyncio.wait_for(anext(changes), 20)
                if change.state == 'offline':
                    break
        assert change.name == 'rig2'
        rigs.timeout = 0.3
        with pytest.raises(ServicesError, match='rig2') as caught:
            await rigs.start(REF)
        assert list(caught.value.failures) == ['rig2']


@pytest.mark.blocks
def test_the_blocking_interface(broker):
    uri = f'{broker.uri}/{subject()}'
    with Program(RIG, uri) as rig:
        rig.wait_for('serves')
        with BlockingServices.connect({'rig': uri}, timeout=10.0) as rigs:
            assert list(rigs.start(REF)) == ['rig']


async def test_rigs_are_discovered_at_their_broker(lab, broker):
    group = f'g{subject()[-8:]}'
    for name in ('camera', 'ephys'):
        com = await EchoProtocol.server(f'{broker.uri}/{subject()}', name, announce={'group': group})
        lab.opened.append(com)
    found = []

    async def search():
        found[:] = await discover(group, 0.3, broker=broker.uri)
        return len(found) == 2

    for _ in range(30):
        if await search():
            break
    assert [rig.name for rig in found] == ['camera', 'ephys']
    client = await lab.client(found[0].uri)
    await client.start(REF)


async def test_a_set_waits_for_a_rig_that_starts_later(lab, broker):
    group = f'g{subject()[-8:]}'
    finding = asyncio.ensure_future(Services.discover(['camera'], group, 60.0, broker=broker.uri))
    await asyncio.sleep(1.5)  # longer than one search
    assert not finding.done()
    com = await EchoProtocol.server(f'{broker.uri}/{subject()}', 'camera', announce={'group': group})
    lab.opened.append(com)
    async with await finding as rigs:
        assert await rigs.ping(30.0)
        assert list(rigs) == ['camera']
    async with await Services.discover(None, group, 60.0, broker=broker.uri) as rigs:
        assert list(rigs) == ['camera']


@pytest.mark.parametrize('names', [['camera'], None])
async def test_rigs_that_are_not_announced_at_the_broker(broker, names):
    """The advice is about the broker, and not about the network."""
    with pytest.raises(ServicesError, match='nats') as caught:
        await Services.discover(names, f'g{subject()[-8:]}', 0.5, broker=broker.uri)
    assert 'announce=True' in str(caught.value)
    assert 'multicast' not in str(caught.value)


async def test_the_journal_has_all_messages(lab, broker, tmp_path):
    path = tmp_path / 'session.jsonl'
    server, client = await lab.over_nats(broker.uri, journal=path)
    await client.start(REF)
    for com in (client, server):
        com.close()
        await com.wait_closed()
    text = await asyncio.to_thread(path.read_text, 'utf-8')
    assert text.count(REF) >= 2  # received, and confirmed
    assert client_subject(server) in text


async def test_after_close(lab, broker):
    server, client = await lab.over_nats(broker.uri)
    await client.start(REF)
    client.close()
    with pytest.raises(ConnectionClosedError):
        await client.start(REF)
    await client.wait_closed()
    assert not client.is_connected


async def test_nothing_is_left_at_the_broker(broker):
    """Connections are shared by the communicators of a loop, and closed with the last one."""
    uri = f'{broker.uri}/{subject()}'
    before = len(asyncio.all_tasks())
    for _ in range(3):
        server = await EchoProtocol.server(uri, 'rig')
        clients = [await EchoProtocol.client(uri, f'main{i}') for i in range(5)]
        await asyncio.gather(*(client.start(REF) for client in clients))
        for com in (*clients, server):
            com.close()
        await asyncio.gather(*(com.wait_closed() for com in (*clients, server)))
        await eventually(lambda: len(asyncio.all_tasks()) <= before, 'all tasks have ended')
    foreign = await nats.connect(broker.uri)
    try:
        with pytest.raises(nats.errors.NoRespondersError):  # no subscription is left
            await foreign.request(uri.rpartition('/')[2], b'', timeout=10)
    finally:
        await foreign.close()


async def test_opening_that_is_cancelled_disturbs_no_other_communicator(broker, caplog):
    """They share a connection, whose reader goes on at whatever moment that is."""
    uri = f'{broker.uri}/{subject()}'
    async with await EchoProtocol.server(uri, 'rig'), await EchoProtocol.client(uri, 'main') as client:
        for turns in range(40):
            opening = asyncio.ensure_future(EchoProtocol.server(f'{broker.uri}/{subject()}', 'cancelled'))
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.wait({opening})
            if not opening.cancelled():
                opening.result().close()
                await opening.result().wait_closed()
            await client.ping(timeout=30)
    assert not [record.getMessage() for record in caplog.records if record.name.startswith('nats')]


async def test_an_announced_server_closes_at_any_moment(broker):
    """Also while its announcement is being made."""
    async with await EchoProtocol.server(f'{broker.uri}/{subject()}', 'other'):
        for turns in range(30):
            server = await EchoProtocol.server(f'{broker.uri}/{subject()}', 'rig', announce=True)
            for _ in range(turns):
                await asyncio.sleep(0)
            server.close()
            closing = asyncio.ensure_future(server.wait_closed())
            await asyncio.wait({closing}, timeout=30)
            assert closing.done(), f'wait_closed() waits without limit, after {turns} turns'
