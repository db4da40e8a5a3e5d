"""Connections that misbehave, opened by a process of their own.

``python attack_modes.py MODE FROM HOST PORT N`` opens N connections from one address. It prints ``ready`` after the
last attempt to connect, and ends when its standard input is closed. The modes:

- ``silent``: send nothing;
- ``drip``: send the beginning of a message, one byte at a time;
- ``deaf``: send messages and never read;
- ``unfinished``: send an endless message as fast as the server reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

MESSAGE = b'[64, 20, "' + b'x' * 60_000 + b'"]'


@contextlib.asynccontextmanager
async def attackers(mode: str, server: Any, n: int, source: str = '127.0.0.66') -> AsyncIterator[Any]:
    """Run n misbehaving connections in another process."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, mode, source, server.hostname, str(server.port), str(n)), stdin=pipe, stdout=pipe
    )
    try:
        assert await process.stdout.readline() == b'ready\n'
        yield process
    finally:
        process.stdin.close()
        await process.wait()


def connect(source: str, host: str, port: int, n: int) -> list[socket.socket]:
    """Open connections; skip those that the server refuses."""
    socks = []
    for _ in range(n):
        sock = socket.socket()
        sock.bind((source, 0))
        try:
            sock.connect((host, port))
        except OSError:
            sock.close()
        else:
            sock.setblocking(False)
            socks.append(sock)
    return socks


def push(sock: socket.socket, data: bytes) -> bool:
    """Send until the socket is full, or one byte; return whether the connection is still open."""
    try:
        while sock.send(data) == len(data) > 1:
            pass
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True


def main(mode: str, source: str, host: str, port: str, n: str) -> None:
    try:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ImportError, ValueError):
        pass
    socks = connect(source, host, int(port), int(n))
    data = {'silent': b'', 'drip': b'[', 'deaf': MESSAGE, 'unfinished': b'["' + b'x' * 60_000}[mode]
    print('ready', flush=True)
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        if data:
            socks = [sock for sock in socks if push(sock, data)]
        if mode == 'unfinished':
            data = b'x' * 60_000
    for sock in socks:
        sock.close()


if __name__ == '__main__':
    main(*sys.argv[1:])
