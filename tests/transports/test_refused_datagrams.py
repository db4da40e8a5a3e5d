"""A UDP socket goes on receiving after the system has reported that an earlier datagram was refused.

On Windows the next receive fails then; the transport of asyncio would not receive again before Python 3.13.
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from echorig import EchoProtocol, EchoTimeoutError
from echorig.wire._codec import encode
from lab import REF, free_port


def send_and_leave(port: int, frame: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(frame, ('127.0.0.1', port))


@pytest.mark.blocks
async def test_a_server_whose_echoes_are_refused(lab):
    server = await lab.server()
    received = []
    server.assign_callback('EXPINFO', lambda data, addr: received.append(data[0]))
    client = await lab.client(server)
    for n in range(20):
        send_and_leave(server.port, encode([64, n, None]))
        await client.confirmed_send([1, n], timeout=30)
    assert set(received) == {*range(20)}


async def test_a_client_whose_messages_are_refused(lab):
    client = await lab.client(f'udp://127.0.0.1:{free_port()}')
    for n in range(3):
        with pytest.raises(EchoTimeoutError):
            await client.confirmed_send([1, n], timeout=0.2)
    server = await EchoProtocol.server(client.server_uri, 'server')
    lab.opened.append(server)
    waiting = asyncio.ensure_future(server.on_event('EXPSTART'))
    await client.confirmed_send([2, REF], timeout=30)
    assert (await waiting)[0] == [REF]
