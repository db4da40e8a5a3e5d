"""What the parts of a communicator know of it and of each other."""

from __future__ import annotations

from typing import Protocol

from ..delivery._send import Send
from ..uri import Address

__all__ = ['FrameReceiver', 'SendObserver']


class FrameReceiver(Protocol):
    """A communicator: the settings that programs change, and the hook that they replace."""

    default_echo_timeout: float
    max_message_size: int

    def _receive(self, data: bytes, addr: Address) -> None: ...


class SendObserver(Protocol):
    """Takes what the pipeline does not do for every message."""

    def complete(self, send: Send) -> None:
        """Wake the coroutine that waits for a send that did not end in the ordinary way."""

    def not_sent(self, addr: Address, error: Exception) -> None:
        """Note that a frame could not be given to the transport."""

    def not_connected(self, addr: Address) -> Exception:
        """Return the error for a message to a peer that is not connected."""

    def match_legacy_echo(self, frame: bytes, addr: Address) -> bool:
        """Return whether a frame was the echo of a message that a program has noted by itself."""
