"""`LocalAddressWatch`: logs when the address of a server is removed from its computer, and when it is back.

The system keeps the socket of a UDP server. It receives again as soon as the address is back. A TCP server then listens
again, since its socket may be of no use any more.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable

from ..security.safe_log import SafeLog
from ..uri import Uri
from .sockets import bind_socket

__all__ = ['LocalAddressWatch']

_INTERVAL = 1.0  # seconds
_FIXED = ('127.', '::1', 'fe80:')  # addresses that are not removed, or need a scope
_ABSENT = {errno.EADDRNOTAVAIL, getattr(errno, 'WSAEADDRNOTAVAIL', errno.EADDRNOTAVAIL)}


def is_present(host: str) -> bool:
    """Return whether this computer has an IP address."""
    try:
        sock = bind_socket(Uri('udp', host, 0), {})
    except OSError as ex:
        return ex.errno not in _ABSENT
    if sock is not None:
        sock.close()
    return True


class LocalAddressWatch:
    """Checks one address every second until it is closed.

    `listen` is awaited when the address is back. While it raises OSError, it is tried again.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: str,
        name: str,
        log: SafeLog,
        listen: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._loop, self._host, self._name, self._log, self._listen = loop, host, name, log, listen
        self._was_present = True
        self._task: asyncio.Task[None] | None = None
        self._timer = loop.call_later(_INTERVAL, self._check)

    @classmethod
    def of(
        cls,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket | None,
        name: str,
        log: SafeLog,
        listen: Callable[[], Awaitable[None]] | None = None,
    ) -> LocalAddressWatch | None:
        """Return a watch of the address that a socket is bound to; None if that cannot be removed."""
        host = sock.getsockname()[0] if sock is not None else ''
        if host in ('', '0.0.0.0', '::') or host.startswith(_FIXED):
            return None
        return cls(loop, host, name, log, listen)

    def close(self) -> None:
        """Stop."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _check(self) -> None:
        present = is_present(self._host)
        if present and not self._was_present and self._listen is not None:
            self._task = self._loop.create_task(self._listen_again(self._listen))
            return
        if present != self._was_present:
            self._report(present)
        self._timer = self._loop.call_later(_INTERVAL, self._check)

    def _report(self, present: bool) -> None:
        self._was_present = present
        if present:
            self._log.warning('%s receives again: this computer has the address %s', self._name, self._host)
        else:
            self._log.error('%s receives nothing: this computer has lost the address %s', self._name, self._host)

    async def _listen_again(self, listen: Callable[[], Awaitable[None]]) -> None:
        try:
            await listen()
        except OSError as ex:  # the address is gone again, or another program has taken the port
            self._log.warning('%s cannot listen on %s yet: %s', self._name, self._host, ex)
        else:
            self._report(True)
        self._timer = self._loop.call_later(_INTERVAL, self._check)
