"""A server on all addresses of its computer (0.0.0.0 or ::), where the transport is that of the event loop.

The loops do not report the address that a datagram was sent to. So each address of this computer gets a socket of its
own beside the one for all addresses, and a peer is answered by the socket on which its last datagram was received.
Addresses that the computer gets later get their sockets within seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import sys
from pathlib import Path
from typing import Any

from ..uri import Address, as_address
from .delegating import DelegatingTransport, Receiver
from .sockets import set_datagram_options

__all__ = ['AllAddressesTransport', 'is_for_all', 'local_addresses']

_INTERVAL = 10.0  # seconds between two looks at the addresses of this computer
_MAX_PEERS = 4096
_IPV4_TABLE, _IPV6_TABLE = Path('/proc/net/fib_trie'), Path('/proc/net/if_inet6')
_LOCAL = re.compile(r'\|-- ([0-9.]+)\n\s+/32 host LOCAL')


def is_for_all(sock: socket.socket) -> bool:
    """Return whether a socket is bound to all addresses and not connected."""
    return sock.getsockname()[0] in ('0.0.0.0', '::')


def local_addresses(family: int) -> set[Any]:
    """Return the socket addresses of this computer, with port 0; for IPv6 the IPv4 ones too, in their mapped form."""
    hosts: set[Any] = {'127.0.0.1'}
    found: set[Any] = {('::1', 0, 0, 0)}
    if sys.platform == 'linux':  # a host name leads to 127.0.1.1 there
        with contextlib.suppress(OSError):
            hosts.update(_LOCAL.findall(_IPV4_TABLE.read_text()))
        with contextlib.suppress(OSError):
            for line in _IPV6_TABLE.read_text().splitlines():
                digits, index, _, scope, *_ = line.split()
                host = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
                found.add((host, 0, 0, int(index, 16) if scope == '20' else 0))  # 20: link-local
    else:
        with contextlib.suppress(OSError):
            for kind, _, _, _, address in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_DGRAM):
                if kind == socket.AF_INET:
                    hosts.add(address[0])
                elif kind == socket.AF_INET6:
                    found.add((address[0], 0, 0, address[-1]))
    if family == socket.AF_INET:
        return {(host, 0) for host in hosts}
    return found | {(f'::ffff:{host}', 0, 0, 0) for host in hosts}


class AllAddressesTransport(DelegatingTransport):
    """The transport of a server with a socket for each address."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.DatagramProtocol) -> None:
        super().__init__(loop, protocol)
        self._by_address: dict[Any, asyncio.DatagramTransport] = {}
        self._by_peer: dict[Address, asyncio.DatagramTransport] = {}
        self._updating: asyncio.Task[None] | None = None

    async def open(self, sock: socket.socket) -> None:
        """Open the sockets; the given one is bound to all addresses."""
        await self._open_main(sock)
        await self._update(sock)
        self._updating = self._loop.create_task(self._keep_updated(sock))
        self._protocol.connection_made(self)

    async def _keep_updated(self, sock: socket.socket) -> None:
        while not self.is_closing():
            await asyncio.sleep(_INTERVAL)
            await self._update(sock)

    async def _update(self, sock: socket.socket) -> None:
        """Open sockets for new addresses, and close those of removed ones."""
        addresses = await asyncio.to_thread(local_addresses, sock.family)
        for address in self._by_address.keys() - addresses:
            self._by_address.pop(address).close()
        new = addresses - self._by_address.keys()
        if not new or self.is_closing():
            return
        # Only now may others share the port, so that another program cannot have it.
        _share(sock, True)
        try:
            for address in new:
                with contextlib.suppress(OSError):  # of an address that may not be bound to
                    await self._open_one(sock, (address[0], sock.getsockname()[1], *address[2:]), address)
        finally:
            _share(sock, False)

    async def _open_one(self, sock: socket.socket, local: Any, key: Any) -> None:
        one = socket.socket(sock.family, socket.SOCK_DGRAM)
        try:
            one.setblocking(False)
            _share(one, True)
            one.bind(local)
            _share(one, False)
            set_datagram_options(one)
            self._by_address[key], _ = await self._loop.create_datagram_endpoint(
                lambda: Receiver(self, False), sock=one
            )
        except BaseException:
            one.close()
            raise

    # --- called by the receivers ---

    def on_datagram(self, transport: asyncio.DatagramTransport, data: bytes, addr: Any) -> None:
        """Pass on a datagram, and record on which socket it was received."""
        peer = as_address(addr)
        if self._by_peer.get(peer) is not transport:
            if len(self._by_peer) >= _MAX_PEERS:
                self._by_peer.clear()
            self._by_peer[peer] = transport
        super().on_datagram(transport, data, addr)

    # --- the contract of a transport ---

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send a datagram by the socket on which the peer's last one was received."""
        transport = self._by_peer.get(as_address(addr))
        if transport is None or transport.is_closing():
            transport = self._main
        if transport is not None:
            transport.sendto(data, addr)

    def close(self) -> None:
        """Close all sockets."""
        self._end()
        super().close()

    def abort(self) -> None:
        """Close all sockets at once."""
        self._end()
        super().abort()

    def _end(self) -> None:
        if self._updating is not None:
            self._updating.cancel()
        for transport in self._by_address.values():
            transport.close()
        self._by_address.clear()
        self._by_peer.clear()


def _share(sock: socket.socket, shared: bool) -> None:
    """Allow or forbid that sockets of this user share a port. Windows lets a process bind an address beside all."""
    if hasattr(socket, 'SO_REUSEPORT'):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
