"""Servers and clients of iblutil 1.20, if it is installed."""

from __future__ import annotations

import logging
import socket
from typing import Any

LOG = logging.getLogger('iblutil.benchmark')
LOG.setLevel(logging.WARNING)  # without this logger it writes each message to stdout


def protocol() -> Any:
    """Return its EchoProtocol."""
    from iblutil.io.net.app import EchoProtocol

    return EchoProtocol


async def listen(transport: str, name: str = 'server') -> tuple[Any, str]:
    """Open a server; return it and its URI. iblutil rejects port 0, so a free port is chosen first."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if transport == 'udp' else socket.SOCK_STREAM) as sock:
        sock.bind(('127.0.0.1', 0))
        port = sock.getsockname()[1]
    uri = f'{"udp" if transport == "udp" else "ws"}://127.0.0.1:{port}'
    return await protocol().server(uri, name, log=LOG), uri


async def connect(uri: str, name: str = 'client') -> Any:
    """Open a client of a server."""
    return await protocol().client(uri, name, log=LOG)


def close(server: Any, clients: list[Any]) -> None:
    """Close all of them."""
    for client in clients:
        client.close()
    server.close()
    if server.Server is not None:
        server.Server.close()
