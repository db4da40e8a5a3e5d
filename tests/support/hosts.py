"""Several addresses of this computer; `BAD` stands for another host."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

GOOD, BAD = '127.0.0.1', '127.0.0.2'


def ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(('::1', 0))
    except OSError:
        return False
    return True


def other_addresses() -> bool:
    """Return whether addresses besides 127.0.0.1 exist, as on Linux and Windows."""
    try:
        with socket.socket() as sock:
            sock.bind((BAD, 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not ipv6(), reason='no IPv6 here')
needs_others = pytest.mark.skipif(not other_addresses(), reason=f'no {BAD} here')


@contextlib.asynccontextmanager
async def stranger(server, host):
    """Open a raw connection from a host; yield its reader and writer."""
    reader, writer = await asyncio.open_connection(server.hostname, server.port, local_addr=(host, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
