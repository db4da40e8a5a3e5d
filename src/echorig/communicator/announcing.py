"""`announcer_for`: what announces a server on the network, or at its NATS broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..aliases import UriLike
from ..security.safe_log import SafeLog
from ..uri import Uri, parse

__all__ = ['Announcing', 'announcer_for']


class Announcing(Protocol):
    """An announcement, from the time on at which it is made."""

    def close(self) -> None:
        """Withdraw the announcement."""

    async def wait_closed(self) -> None:
        """Wait until it is withdrawn."""


def announcer_for(
    announce: Any, server_uri: UriLike, name: str | None, options: dict[str, Any]
) -> Callable[[Uri, SafeLog], Announcing]:
    """Return what announces a server, with the options `announce` and others, once it is open."""
    if parse(server_uri).scheme == 'nats':  # each import is for servers that are announced
        from ..discovery import over_nats

        return over_nats.announcer_for(announce, name, options)
    from ..discovery import announcer

    return announcer.announcer_for(announce, name, 'key' in options)
