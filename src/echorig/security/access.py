"""`AccessPolicy`: which hosts may talk to a communicator, and who has its key.

1. What is refused is counted, and logged once for each host and reason.
2. Nothing is sent back to whom is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..tuning import InternalTuning
from ..uri import Address
from ._signing import REPLAYED as SENT_BEFORE
from ._signing import Signer
from .allowlist import Allowed
from .rejections import NOT_ALLOWED, REPLAYED, UNSIGNED, Rejected, Rejections
from .safe_log import SafeLog

__all__ = ['AccessPolicy', 'signer_for']

_HELD = 2**20  # bytes that may wait for a handshake over UDP; on a stream as much as may be unsent


def signer_for(key: bytes | str | None, is_udp: bool, tuning: InternalTuning) -> Signer | None:
    """Return the signatures of a communicator, if it has a key.

    Parameters
    ----------
    key : bytes, str or None
        The key.
    is_udp : bool
        Whether its messages may be lost or overtaken.
    tuning : InternalTuning
        Its limits.

    Raises
    ------
    TypeError, ValueError
        The key is no key, or messages have no numbers to sign.
    """
    if key is None:
        return None
    if not tuning.tags:
        raise ValueError('With key=, messages have numbers: Tuning(tags=False) is not possible')
    return Signer(
        _as_bytes(key),
        stream=not is_udp,
        max_peers=tuning.max_peers,
        retry=tuning.initial_rto,
        max_held=_HELD if is_udp else tuning.max_send_buffer,
        idle=tuning.due_age,
    )


def _as_bytes(key: bytes | str) -> bytes | str:
    """Refuse text that has no bytes; the error that says so by itself would carry the key."""
    if isinstance(key, str):
        try:
            key.encode()
        except UnicodeEncodeError:
            raise ValueError('key must be text that can be written as UTF-8, or bytes') from None
    return key


class AccessPolicy:
    """Refuses hosts that are not allowed and frames that are not signed, and counts them.

    Parameters
    ----------
    name : str
        The label of the communicator.
    log : SafeLog
        Where refusals are logged.
    """

    def __init__(self, name: str, log: SafeLog) -> None:
        self._name = name
        self.rejections = Rejections(log)
        self.allowed: Allowed | None = None
        self.on_unsigned: Callable[[Address], None] = lambda addr: None

    def rejected(self) -> Mapping[str, Rejected]:
        """Return what was refused, by host."""
        return self.rejections.snapshot()

    def admits(self, host: str) -> bool:
        """Return whether a host may talk to this communicator; one that may not is counted."""
        if self.allowed is None or host in self.allowed:
            return True
        self.rejections.note(host, NOT_ALLOWED, 'Ignoring %s, which is not in allow= of %s', host, self._name)
        return False

    def refuse_unsigned(self, addr: Address, verdict: int) -> None:
        """Count a frame that is not for us, because of its signature."""
        if verdict == SENT_BEFORE:
            reason, why = REPLAYED, 'it was sent before'
        else:
            reason, why = UNSIGNED, 'it is not signed with our key, or was for a program that ran here before'
        self.rejections.note(addr[0], reason, 'Ignored a message from %s:%s: %s', *addr, why)
        self.on_unsigned(addr)
