"""`discover` for programs without an event loop."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from .portal import current_portal

if TYPE_CHECKING:
    from ..discovery import FoundRig

__all__ = ['discover']


def discover(
    group: str | None = None,
    timeout: float = 2.0,
    interfaces: Iterable[str] | None = None,
    *,
    broker: str | None = None,
    **kwargs: Any,
) -> list[FoundRig]:
    """Find the rigs that announce themselves, as :func:`echorig.discover`."""
    from ..discovery import discover as asynchronous  # most programs discover nothing

    return current_portal().call('discover', partial(asynchronous, group, timeout, interfaces, broker=broker, **kwargs))
