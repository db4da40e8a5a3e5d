"""A TCP connection whose peer is not there any more is lost soon; one whose peer is only busy is not."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from echorig import ConnectionClosedError, EchoProtocol, EchoTimeoutError, Services
from echorig.transports import local_address, path
from echorig.tuning import InternalTuning
from eventually import eventually
from lab import free_port
from tagging import is_ping, read_tag, set_ack

SHORT = 0.1  # seconds


class Peer:
    """A rig that echoes what it receives, as an echorig or a legacy rig, while it may."""

    def __init__(self, kind: str) -> None:
        self.kind, self.alive = kind, True
        self.frames: list[bytes] = []
        self.uri = ''
        self.transport: Any = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.transport = writer.transport
        try:
            while True:
                frame = await reader.readuntil(b']')  # and what follows, of tags with spaces
                self.frames.append(frame)
                if self.alive:
                    writer.write(set_ack(frame) if self.kind == 'echorig' else frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def n_pings(self) -> int:
        return sum(read_tag(frame) >= 0 and is_ping(frame) for frame in self.frames)


@asynccontextmanager
async def peer(kind: str) -> AsyncIterator[Peer]:
    rig = Peer(kind)
    server = await asyncio.start_server(rig.serve, '127.0.0.1', 0, limit=2**26)
    rig.uri = f'tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}'
    try:
        yield rig
    finally:
        server.close()


def tuning(**kwargs: Any) -> InternalTuning:
    return InternalTuning(first_reconnect_delay=0.01, max_reconnect_delay=0.05, **kwargs)


@pytest.mark.parametrize('kind', ['echorig', 'legacy'])
async def test_a_rig_that_is_busy_keeps_its_connection(lab, kind):
    """Its system confirms what is sent, and it answers later. A legacy rig is not pinged."""
    async with peer(kind) as rig:
        client = await lab.client(rig.uri, tuning=tuning())
        changes = []
        client.assign_connection_callback(changes.append)
        await client.init()
        rig.transport.pause_reading()
        patient = asyncio.ensure_future(client.confirmed_send([64, 20, 'patient'], timeout=60.0))
        with pytest.raises(EchoTimeoutError):
            await client.confirmed_send([64, 20], timeout=SHORT)
        await asyncio.sleep(2.5)  # several checks
        assert client.is_connected
        rig.transport.resume_reading()
        await patient
        await client.init()
        assert changes == []
        assert (rig.n_pings > 0) == (kind == 'echorig')


async def test_a_rig_that_leaves_pings_unanswered_for_long_is_lost(lab, caplog):
    """As behind a proxy, whose system confirms everything."""
    async with peer('echorig') as rig:
        client = await lab.client(rig.uri, 'camera', tuning=tuning(silence_timeout=1.0))
        async with client.connection_events() as changes:
            await client.init()
            rig.alive, lost = False, client.on_connection_lost
            with pytest.raises(EchoTimeoutError):
                await client.confirmed_send([64, 20], timeout=SHORT)
            change = await asyncio.wait_for(changes.__anext__(), 20)
            assert change.state == 'lost'
            assert 'answered no ping' in str(change.error)
            assert await lost is change.error
            rig.alive = True
            assert (await asyncio.wait_for(changes.__anext__(), 20)).state == 'connected'
            await client.init()
        assert 'is lost: its program has answered no ping' in caplog.text


@pytest.mark.parametrize('role', ['client', 'server'])
@pytest.mark.parametrize('scheme', ['tcp', 'wss'])
@pytest.mark.blocks  # contexts are loaded from files
async def test_a_connection_whose_data_are_not_confirmed_is_lost(lab, monkeypatch, certificate, role, scheme):
    ours, theirs = {}, {}
    if scheme == 'wss':
        cert, key = certificate
        ours = {'ssl': ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)}
        theirs = {'ssl': ssl.create_default_context(cafile=str(cert))}
        ours['ssl'].load_cert_chain(cert, key)
    server = await lab.server(scheme, **ours)
    client = await lab.client(server, tuning=tuning(), **theirs)
    addr = asyncio.get_running_loop().create_future()
    server.assign_callback('EXPINIT', lambda data, sender: addr.done() or addr.set_result(sender))
    await client.init()
    sender, target, other = (client, None, server) if role == 'client' else (server, await addr, client)
    other._transport.pause_reading()  # it stands still
    lost = client.on_connection_lost
    async with sender.connection_events() as changes:
        waiting = asyncio.ensure_future(sender.confirmed_send([64, 20, 'waiting'], target, timeout=60.0))
        monkeypatch.setattr(path, 'path_state', lambda sock: path.PathState(1.7, True, True))
        with pytest.raises(EchoTimeoutError):
            await sender.confirmed_send([64, 20], target, timeout=SHORT)
        change = await asyncio.wait_for(changes.__anext__(), 20)
        monkeypatch.undo()
        assert change.state == 'lost'
        assert 'its computer has confirmed nothing for 1.7 s' in str(change.error)
        with pytest.raises(ConnectionClosedError, match='confirmed nothing'):
            await waiting
    if role == 'server':
        client._transport.resume_reading()
        await asyncio.wait([lost], timeout=20)
    await eventually(lambda: client.is_connected, 'it has reconnected')
    await client.init()


async def test_the_system_reports_no_silence_of_a_peer_that_is_there(lab):
    server, client = await lab.pair('tcp')
    for _ in range(10):
        await client.init()
        sock = client._transport.get_extra_info('socket')
        state = path.path_state(sock)
        assert state is None or not state.is_lost
    client.close()
    await client.wait_closed()
    assert path.path_state(sock) is None


async def test_a_peer_that_does_not_read_for_long_is_not_lost(lab):
    """Its system confirms the probes of its closed window."""
    async with peer('legacy') as rig:
        client = await lab.client(rig.uri, tuning=tuning(path_timeout=1.0))
        await client.init()
        rig.transport.pause_reading()
        changes = []
        client.assign_connection_callback(changes.append)
        long = asyncio.ensure_future(client.confirmed_send([64, 20, 'x' * 30_000_000], timeout=60.0))
        with pytest.raises(EchoTimeoutError):
            await client.confirmed_send([64, 20], timeout=SHORT)
        await asyncio.sleep(4.0)
        assert changes == []
        rig.transport.resume_reading()
        await long


async def test_a_server_whose_address_is_gone_says_so_and_listens_again(lab, monkeypatch, caplog):
    """Its connections stay as they are."""
    caplog.set_level(logging.INFO)
    present = True
    monkeypatch.setattr(local_address, '_INTERVAL', 0.01)
    monkeypatch.setattr(local_address, '_FIXED', ())  # a server on 127.0.0.1 is watched too
    monkeypatch.setattr(local_address, 'is_present', lambda host: present)
    server = await EchoProtocol.server(f'tcp://127.0.0.1:{free_port()}', 'rig')
    lab.opened.append(server)
    client = await lab.client(server)
    await client.init()
    before, present = server.Server, False
    await eventually(lambda: 'has lost the address 127.0.0.1' in caplog.text, 'it says so')
    present = True
    await eventually(lambda: 'rig receives again' in caplog.text, 'it listens again')
    assert server.Server is not before
    assert server.is_connected
    await client.init()
    await (await lab.client(server)).init()
    assert caplog.text.count('has lost the address') == caplog.text.count('receives again') == 1


async def test_a_watch_reports_a_lost_way_and_nothing_else(lab, monkeypatch):
    """A legacy rig over TCP is offline after a message that it did not confirm, and not online again by itself."""
    async with peer('legacy') as rig:
        client = await lab.client(rig.uri, 'daq', tuning=tuning())
        await client.init()
        async with Services([client]).watch(0.01) as presence, presence.events() as changes:
            assert (await asyncio.wait_for(changes.__anext__(), 10)).state == 'online'
            rig.alive = False
            with pytest.raises(EchoTimeoutError):
                await client.confirmed_send([64, 20], timeout=SHORT)
            assert (await asyncio.wait_for(changes.__anext__(), 10)).state == 'offline'
            await asyncio.sleep(0.5)
            assert client.is_connected
            assert presence['daq'].state == 'offline'
            rig.alive = True
            await client.init()
            assert (await asyncio.wait_for(changes.__anext__(), 10)).state == 'online'
