"""What the parts of a communicator know of it and of each other."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from ..delivery._peer import Send
from ..uri import Address

__all__ = ['Answering', 'FrameReceiver', 'SendObserver']


class Answering(Protocol):
    """A rig that is sent a message and answers it; mocks of a rig have these methods too."""

    name: str

    @property
    def protocol(self) -> str: ...
    def assign_callback(self, event: Any, callback: Any) -> None: ...
    def clear_callbacks(self, event: Any, callback: Any = None) -> int: ...
    def on_event(self, event: Any) -> Awaitable[Any]: ...


class FrameReceiver(Protocol):
    """A communicator, whose hook `_receive` programs may replace."""

    def _receive(self, data: bytes, addr: Address) -> None: ...


class SendObserver(Protocol):
    """Handles the rare cases of sends for the pipeline."""

    def complete(self, send: Send) -> None:
        """Wake the coroutine that waits for a send that did not end in the ordinary way."""

    def not_sent(self, addr: Address, error: Exception) -> None:
        """Note that a frame could not be given to the transport."""

    def not_connected(self, addr: Address) -> Exception:
        """Return the error for a message to a peer that is not connected."""

    def match_legacy_echo(self, frame: bytes, addr: Address) -> bool:
        """Return whether a frame was the echo of a pair that a program has put into `_last_sent`."""
