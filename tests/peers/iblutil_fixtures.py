"""iblutil in its own process, and a wire between it and echorig in each role and transport.

The fixtures are for the modules that name them (``wire = iblutil_fixtures.wire``). This is no ``conftest.py``, since
there can be only one module of that name to import from.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from iblutil_peer import PATIENCE, IblutilProcess

from echorig import EchoProtocol
from lab import Lab
from secrets_watch import token

WIRES = [f'{role}-{scheme}' for role in ('server', 'client') for scheme in ('udp', 'ws', 'tcp')]


@dataclass
class Wire:
    """Echorig at one end and iblutil at the other.

    Attributes
    ----------
    ours : EchoProtocol
        Our communicator.
    process : IblutilProcess
        The process with theirs, which is called ``'theirs'``.
    role, scheme : str
        The role of theirs, and the transport.
    our_addr, their_addr : tuple of (str, int)
        Where the other end sees each of them.
    """

    ours: EchoProtocol
    process: IblutilProcess
    role: str
    scheme: str
    our_addr: tuple[str, int]
    their_addr: tuple[str, int]

    @property
    def is_udp(self) -> bool:
        return self.scheme == 'udp'

    async def say(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of our communicator; a server passes the address of the client."""
        if self.ours.role == 'server':
            kwargs['addr'] = self.their_addr
        return await getattr(self.ours, method)(*args, **kwargs)

    async def begin(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Start a call of a method of iblutil's communicator; return a future for the result."""
        if self.role == 'server' and method != 'on_event':
            kwargs['addr'] = self.our_addr
        return await self.process.begin('call', com='theirs', method=method, args=args, **kwargs)

    async def they_say(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of iblutil's communicator."""
        return await (await self.begin(method, *args, **kwargs))

    async def they_listen(self, how: str = 'report', **what: Any) -> None:
        await self.process.do('listen', com='theirs', how=how, **what)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set long time-outs, since no test here is about durations."""
    monkeypatch.setattr(EchoProtocol, 'default_echo_timeout', PATIENCE)
    monkeypatch.setattr(EchoProtocol, 'response_timeout', PATIENCE)


@contextlib.contextmanager
def recorded() -> Iterator[list[logging.LogRecord]]:
    """Collect the log records of all levels in a list."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    try:
        yield records
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@pytest_asyncio.fixture
async def iblutil() -> AsyncIterator[IblutilProcess]:
    async with IblutilProcess() as process:
        yield process


@pytest_asyncio.fixture(params=WIRES)
async def wire(request: pytest.FixtureRequest, iblutil: IblutilProcess, lab: Lab) -> Wire:
    role, scheme = request.param.split('-')
    if role == 'server':
        uri, their_addr = await iblutil.do('open', com='theirs', role=role, uri=f'{scheme}://127.0.0.1')
        ours = await lab.client(uri, 'ours')
        our_addr = ours._transport.get_extra_info('sockname')
        await ours.status('CONNECTED')  # over TCP the server learns of its client a little later
    else:
        ours = await lab.server(scheme, 'ours')
        uri, their_addr = await iblutil.do('open', com='theirs', role=role, uri=ours.server_uri)
        our_addr = (ours.hostname, ours.port)
        await iblutil.call('theirs', 'status', 0)
    return Wire(ours, iblutil, role, scheme, tuple(our_addr), tuple(their_addr))


@pytest.fixture
def alyx_like() -> SimpleNamespace:
    """The attributes of a logged-in Alyx client that communicators use."""
    return SimpleNamespace(
        base_url='https://alyx.example.org', user='olivia', _token={'token': token()}, is_logged_in=True
    )
