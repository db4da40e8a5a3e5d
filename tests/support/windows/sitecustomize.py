"""What Windows lacks is missing, in each Python process that has this folder in PYTHONPATH.

1. No uvloop, no compiled transports, no fcntl; no SO_REUSEPORT, no AF_UNIX, no fork.
2. The loops of asyncio have no readers, writers and handlers of signals, like those of Windows.
3. UDP reports no refusals: the loops of Windows ignore them.
4. A UDP socket that was passed to the loop needs the address with each datagram, as on the proactor.

The names of the system (``sys.platform``, ``os.name``) stay, since the standard library chooses its modules by them.
"""

import asyncio
import os
import socket
import subprocess  # noqa: F401  # it imports fcntl, where there is one
import sys
from functools import partial

_MODULES = ('uvloop', 'fcntl', *(f'echorig.transports.{name}' for name in ('_datagram', '_stream')))
_OF_LOOPS = ('add_reader', 'add_writer', 'add_signal_handler', 'create_unix_connection', 'create_unix_server')
_NAMES = {socket: ('SO_REUSEPORT', 'AF_UNIX'), os: ('fork', 'forkpty', 'register_at_fork')}


def _missing(*args: object, **kwargs: object) -> None:
    raise NotImplementedError


class _Socket(socket.socket):
    """A socket that is told of no refusal."""

    __slots__ = ()

    def recvfrom(self, *args):
        try:
            return super().recvfrom(*args)
        except ConnectionRefusedError:
            raise BlockingIOError from None

    def send(self, *args):
        try:
            return super().send(*args)
        except ConnectionRefusedError:
            if self.type != socket.SOCK_DGRAM:
                raise
            return super().send(*args)


_socketpair, _family = socket.socketpair, socket.AF_UNIX


def _pair(family=_family, type=socket.SOCK_STREAM, proto=0):  # the loops of asyncio need one
    return _socketpair(family, type, proto)


_create_datagram_endpoint = asyncio.SelectorEventLoop.create_datagram_endpoint


async def _create(self, *args, sock=None, **kwargs):
    transport, protocol = await _create_datagram_endpoint(self, *args, sock=sock, **kwargs)
    if sock is not None:
        transport.sendto = partial(_sendto, transport.sendto)
    return transport, protocol


def _sendto(sendto, data, addr=None):
    if addr is None:
        raise TypeError('WSASendTo() argument 4 must be tuple, not None')
    sendto(data, addr)


for _name in _MODULES:
    sys.modules[_name] = None  # the import fails
for _name in _OF_LOOPS:
    setattr(asyncio.SelectorEventLoop, _name, _missing)
for _module, _gone in _NAMES.items():
    for _name in _gone:
        if hasattr(_module, _name):
            delattr(_module, _name)
asyncio.ProactorEventLoop = asyncio.SelectorEventLoop
asyncio.SelectorEventLoop.create_datagram_endpoint = _create
socket.socket, socket.socketpair = _Socket, _pair
