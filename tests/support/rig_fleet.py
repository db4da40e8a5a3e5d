"""A hundred rigs, a quarter of which misbehave in five ways; for tests and for the soak run."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from echorig import (
    ConnectionClosedError,
    EchoProtocol,
    EchoTimeoutError,
    PeerUnreachableError,
    RemoteCallbackError,
    Services,
    ServicesTimeoutError,
)
from echorig.tuning import InternalTuning
from eventually import eventually

KINDS = ('silent', 'refusing', 'raising', 'late', 'restarting')
_QUICK = InternalTuning(first_reconnect_delay=0.005, max_reconnect_delay=0.05)

# The error of each kind and a part of its text; None if the rig answers.
ENDS: dict[str, dict[str, tuple[type[Exception], str] | None]] = {
    'udp': {
        'good': None,
        'silent': (EchoTimeoutError, 'did not echo EXPSTART'),
        'refusing': (PeerUnreachableError, 'Nobody listens at'),
        'raising': (RemoteCallbackError, 'ValueError: no disk left'),
        'late': (EchoTimeoutError, 'confirmed, but did not answer EXPSTART'),
        'restarting': None,  # the message is repeated until the new program receives it
    },
    'tcp': {
        'good': None,
        'silent': (EchoTimeoutError, 'did not echo EXPSTART'),
        'refusing': (ConnectionClosedError, 'has lost its connection'),
        'raising': (RemoteCallbackError, 'ValueError: no disk left'),
        'late': (EchoTimeoutError, 'confirmed, but did not answer EXPSTART'),
        'restarting': (ConnectionClosedError, ''),  # the new program has not received the message
    },
}


class Fleet:
    """The rigs and the set of their clients."""

    def __init__(self, transport: str, n: int, each: int) -> None:
        self.transport = transport
        kinds = [kind for kind in KINDS for _ in range(each)]
        kinds = ['good'] * (n - len(kinds)) + kinds
        # Misbehaving rigs are spread among the others.
        order = sorted(range(n), key=lambda i: (i * 61) % n)
        self.kinds = {f'rig{i}': kinds[order[i]] for i in range(n)}
        self.servers: dict[str, EchoProtocol] = {}
        self.late: dict[str, tuple[str, int]] = {}
        self.closing: list[Any] = []
        self.rigs: Services
        self.slowest = 0.0  # longest excess of a call over its time-out, in seconds

    @classmethod
    async def open(cls, transport: str, timeout: float, n: int = 100, each: int = 5) -> Fleet:
        fleet = cls(transport, n, each)
        uris = {name: await fleet.open_rig(name, kind) for name, kind in fleet.kinds.items()}
        fleet.rigs = await Services.connect(uris, timeout=30.0, tuning=_QUICK)
        fleet.rigs.timeout = timeout
        for name, kind in fleet.kinds.items():
            if kind == 'restarting':
                await fleet.rigs[name].init()  # a known peer may be restarting
            if kind == 'refusing' and transport == 'tcp':
                fleet.closing.append(_refusing(await fleet.close_rig(name)))
                await fleet.rigs[name].on_connection_lost
        return fleet

    async def open_rig(self, name: str, kind: str) -> str:
        if kind == 'silent':
            if self.transport == 'udp':
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.bind(('127.0.0.1', 0))
                self.closing.append(sock)
                return f'udp://127.0.0.1:{sock.getsockname()[1]}'
            server = await asyncio.start_server(_swallow, '127.0.0.1', 0)
            self.closing.append(server)
            return f'tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}'
        if kind == 'refusing' and self.transport == 'udp':
            sock = _refusing('udp://127.0.0.1:0')
            self.closing.append(sock)
            return f'udp://127.0.0.1:{sock.getsockname()[1]}'
        return await self._serve(name, kind, f'{self.transport}://127.0.0.1:0')

    async def _serve(self, name: str, kind: str, uri: str) -> str:
        server = await EchoProtocol.server(uri, name)
        self.servers[name] = server

        def on_start(data: list[Any], addr: tuple[str, int]) -> None:
            if kind == 'raising':
                raise ValueError('no disk left')
            if kind == 'late':
                self.late[name] = addr
            elif kind == 'restarting' and self.transport == 'tcp':
                server.close()
            else:
                server.send([2, *data], addr)

        server.assign_callback('EXPSTART', on_start)
        return server.server_uri

    async def close_rig(self, name: str) -> str:
        server = self.servers.pop(name)
        server.close()
        await server.wait_closed()
        return server.server_uri

    def named(self, kind: str) -> list[str]:
        return [name for name, own in self.kinds.items() if own == kind]

    async def start(self, ref: str) -> ServicesTimeoutError:
        """Start all rigs while some restart; return the error. The late ones answer afterwards."""
        loop = asyncio.get_running_loop()
        again = self.named('restarting')
        uris = {name: await self.close_rig(name) for name in again} if self.transport == 'udp' else {}
        begun = loop.time()
        call = asyncio.ensure_future(self.rigs.start(ref))
        if self.transport == 'udp':
            await eventually(
                lambda: all(self.rigs[name].awaiting_response() for name in again),
                'all have been sent the message',
            )
            for name in again:
                await self._serve(name, 'restarting', uris[name])
        try:
            await call
        except ServicesTimeoutError as ex:
            error = ex
        else:
            raise AssertionError('no rig failed')
        self.slowest = max(self.slowest, loop.time() - begun - (self.rigs.timeout or 0.0))
        for name in self.named('late'):
            await self.servers[name].start(ref, addr=self.late[name])
        if self.transport == 'tcp':
            for name in again:
                await self._serve(name, 'restarting', await self.close_rig(name))
            await eventually(
                lambda: all(self.rigs[name].is_connected for name in again),
                'all are connected again',
            )
        return error

    def check(self, error: ServicesTimeoutError, ref: str) -> None:
        """Check that each rig has the expected outcome, and that the error names it."""
        assert sorted([*error.responses, *error.failures]) == sorted(self.kinds)
        for name, kind in self.kinds.items():
            end = ENDS[self.transport][kind]
            if end is None:
                assert name in error.responses, (name, kind, error.failures[name])
                assert error.responses[name] == [ref, None], (name, kind)
            else:
                assert name in error.failures, (name, kind, error.responses[name])
                failure = error.failures[name]
                assert type(failure) is end[0], (name, kind, failure)
                assert end[1] in str(failure), (name, kind, failure)
                assert name in str(failure), (name, kind, failure)
                assert f'{name}: {type(failure).__name__}' in str(error)

    async def close(self) -> None:
        self.rigs.close()
        coms = [*self.rigs.values(), *self.servers.values()]
        for com in coms:
            com.close()
        for thing in self.closing:
            thing.close()
        await asyncio.gather(*(com.wait_closed() for com in coms))


def _refusing(uri: str) -> socket.socket:
    """Hold a port so that no other program can take it, and refuse all traffic to it."""
    scheme, _, port = uri.partition('://127.0.0.1:')
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if scheme == 'udp' else socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(('127.0.0.1', int(port)))
    if scheme == 'udp':
        sock.connect(('127.0.0.1', 9))  # the kernel rejects datagrams of other sources; TCP rejects without `listen`
    return sock


async def _swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.read(65536):
            pass
    except OSError:
        pass
    finally:
        writer.close()
