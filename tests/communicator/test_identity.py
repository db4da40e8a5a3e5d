"""Messages are identified by run and number, not by table, age or address; with real sockets and a relay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from echorig import EchoProtocol, ExpMessage, Services
from eventually import eventually
from lab import REF, RawUdp
from tagging import read_tag, strip_tag

PATIENCE = 30.0

Hook = Callable[[bool, bytes], Iterable[tuple[float, bytes]]]


class Relay(asyncio.DatagramProtocol):
    """Stands between one client and a server: a hook says which copies go on, and when.

    `rebind` gives the client another port, as a router does that has forgotten it.
    """

    def __init__(self, server: EchoProtocol, hook: Hook) -> None:
        self._server = server.hostname, server.port
        self.hook = hook
        self._client: Any = None
        self._back: list[asyncio.DatagramTransport] = []

    @classmethod
    async def between(cls, server: EchoProtocol, hook: Hook = lambda to_server, data: [(0.0, data)]) -> Relay:
        loop = asyncio.get_running_loop()
        _, relay = await loop.create_datagram_endpoint(lambda: cls(server, hook), local_addr=('127.0.0.1', 0))
        await relay.rebind()
        return relay

    async def rebind(self) -> None:
        relay = self

        class Back(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                relay.carry(False, data)

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Back, remote_addr=self._server)
        self._back.append(transport)

    @property
    def port(self) -> int:
        """The port under which the server sees the client."""
        return self._back[-1].get_extra_info('sockname')[1]

    @property
    def uri(self) -> str:
        return f'udp://127.0.0.1:{self._front.get_extra_info("sockname")[1]}'

    def connection_made(self, transport: Any) -> None:
        self._front = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._client = addr
        self.carry(True, data)

    def carry(self, to_server: bool, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        for delay, copy in self.hook(to_server, data):
            if delay:
                loop.call_later(delay, self._send, to_server, copy)
            else:
                self._send(to_server, copy)

    def _send(self, to_server: bool, data: bytes) -> None:
        if to_server:
            self._back[-1].sendto(data)
        else:
            self._front.sendto(data, self._client)

    def close(self) -> None:
        for transport in (self._front, *self._back):
            transport.close()


async def test_copies_behind_thousands_of_messages(lab):
    """Each datagram is doubled, and its copy is late by hundreds of messages."""
    server = await lab.server()
    received: list[int] = []
    server.assign_callback('EXPINFO', lambda data, addr: received.append(data[1]))
    copies = []
    relay = await Relay.between(server, lambda to_server, data: copies.append(1) or [(0.0, data), (0.06, data)])
    client = await lab.client(relay.uri)
    client.default_echo_timeout = PATIENCE
    for i in range(2000):
        await client.info(20, i)
    await asyncio.sleep(0.2)
    assert received == list(range(2000))
    relay.close()


async def test_an_echo_that_is_lost_behind_many_messages(lab):
    server = await lab.server()
    received, numbers = [], []
    server.assign_callback('EXPSTART', lambda data, addr: received.append(data[0]))
    server.assign_callback('EXPINFO', lambda data, addr: numbers.append(data[1]))
    lost: list[bytes] = []

    def hook(to_server: bool, data: bytes) -> list[tuple[float, bytes]]:
        if not to_server and REF.encode() in data and len(lost) < 3:
            lost.append(data)
            return []
        return [(0.0, data)]

    relay = await Relay.between(server, hook)
    client = await lab.client(relay.uri)
    client.default_echo_timeout = PATIENCE
    await client.init()
    starting = asyncio.ensure_future(client.start(REF))
    await eventually(lambda: lost, 'the first echo is lost')
    for i in range(300):
        client.send([64, 20, i])
        if i % 50 == 49:  # as many as a socket takes
            await eventually(lambda i=i: len(numbers) > i, 'they arrive')
    await asyncio.wait_for(starting, PATIENCE)
    assert (received, numbers) == ([REF], list(range(300)))
    relay.close()


@pytest.mark.parametrize('number', [200, 3000])
async def test_our_own_messages_come_back(lab, number):
    """What a plain peer sends back is ours, however many others came in between."""
    peer = await RawUdp.open()
    client = await lab.client(peer.uri)
    received = []
    client.assign_callback(ExpMessage.any(), lambda *args: received.append(args))
    for i in range(number):
        client.send([64, 20, i])
        if i % 50 == 49:  # as many as its socket takes
            await eventually(lambda i=i: peer.heard.qsize() > i, 'the peer gets them')
    echoes = [peer.heard.get_nowait() for _ in range(number)]
    for data, addr in echoes[::-1]:
        peer.say(data, addr)
        await asyncio.sleep(0)
    await eventually(lambda: client.peers[peer.addr].strays >= number * 0.9, 'the echoes come')  # a socket may be full
    assert received == []
    assert client.peers[peer.addr].kind == 'legacy'


async def test_another_address_in_a_session(lab):
    """The router gives the main PC another port: duplicates stay so, answers find it, and it is one peer."""
    server = await lab.server(name='rig')
    received = []
    gate = asyncio.Event()

    async def answer(data: list[Any], addr: Any) -> None:
        received.append(data[0])
        await gate.wait()
        await server.confirmed_send([2, *data], addr, timeout=PATIENCE)

    server.assign_callback('EXPSTART', answer)
    said: list[bytes] = []
    relay = await Relay.between(server, lambda to_server, data: said.append(data) or [(0.0, data)])
    client = await lab.client(relay.uri, 'rig')
    rigs = Services([client], timeout=PATIENCE)
    starting = asyncio.ensure_future(rigs.start(REF))
    await eventually(lambda: received, 'the rig receives it')
    before = relay.port
    await relay.rebind()
    await client.status(20)  # by this the rig learns of it
    assert [addr[1] for addr in server.peers] == [relay.port]
    assert relay.port != before
    for data in list(said):  # all that was said before comes again, from the new address
        if read_tag(data) >= 0 and strip_tag(data).startswith(b'[2'):
            relay.carry(True, data)
    gate.set()  # the answer is sent to the address from which the question came
    assert await asyncio.wait_for(starting, PATIENCE) == {'rig': [REF, None]}
    assert received == [REF]
    assert next(iter(server.peers.values())).restarts == 0
    relay.close()


async def test_a_restart_is_known_exactly(lab):
    """Another program at the same address is one restart, whatever its numbers."""
    server = await lab.server(name='main')
    received = []
    server.assign_callback('EXPSTATUS', lambda data, addr: received.append(data))
    addr = None
    for restarts in range(3):
        client = await lab.client(server)
        if addr is not None:
            client.close()
            await client.wait_closed()
            client = await EchoProtocol.client(server.server_uri, local_addr=addr)
            lab.opened.append(client)
        for _ in range(3):
            await client.status(20)
        addr = client._transport.get_extra_info('sockname')
        assert server.peers[addr].restarts == restarts
        client.close()
        await client.wait_closed()
    assert len(received) == 9


async def test_a_damaged_message_is_a_lost_one(lab):
    """Whichever byte is changed: it is neither delivered nor confirmed, and comes again."""
    server = await lab.server()
    received = []
    server.assign_callback('EXPSTART', lambda data, addr: received.append(data))
    damaged: list[bytes] = []

    def hook(to_server: bool, data: bytes) -> list[tuple[float, bytes]]:
        place = len(damaged) * 7
        if to_server and place < len(data):
            changed = data[:place] + bytes([data[place] ^ 0x29]) + data[place + 1 :]  # of a space it makes a tab
            damaged.append(changed)
            return [(0.0, changed)]
        return [(0.0, data)]

    relay = await Relay.between(server)
    client = await lab.client(relay.uri)
    await client.init()
    relay.hook = hook
    await client.confirmed_send([2, REF, None], timeout=PATIENCE)
    assert received == [[REF, None]]
    assert len(damaged) > 20
    assert server.peers.damaged >= len(damaged) - 2  # what seems to have the flag is only ignored
    relay.close()
