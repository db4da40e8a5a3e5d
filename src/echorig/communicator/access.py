"""`AccessControl`: who is heard: the hosts that may talk to a communicator, and those who have its key.

1. What is refused is counted, and logged once for each host and reason.
2. Nothing is sent back to whoever is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..security._signing import REPLAYED as SENT_BEFORE
from ..security._signing import Signer
from ..security.allowlist import Allowed
from ..security.rejections import NOT_ALLOWED, REPLAYED, UNSIGNED, Rejected, Rejections
from ..tuning import InternalTuning
from ..uri import Address
from .sender import Delivery

__all__ = ['AccessControl', 'signer_for']

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


class AccessControl:
    """The part of a communicator that refuses."""

    __slots__ = ()
    name: str
    _allowed: Allowed | None
    _rejections: Rejections
    _delivery: Delivery

    @property
    def rejected(self) -> Mapping[str, Rejected]:
        """mapping: What was refused, by host: ``communicator.rejected['10.0.0.66']`` is a `Rejected`.

        It is made when it is asked for. Hosts beyond the first 256 are counted together, as ``'*'``.
        """
        return self._rejections.snapshot()

    def _admits(self, host: str) -> bool:
        """Tell whether a host may talk to this communicator; one that may not is counted."""
        if self._allowed is None or host in self._allowed:
            return True
        self._rejections.note(host, NOT_ALLOWED, 'Ignoring %s, which is not in allow= of %s', host, self.name)
        return False

    def _not_signed(self, addr: Address, verdict: int) -> None:
        """Take in that a frame was not for us, because of its signature."""
        if verdict == SENT_BEFORE:
            reason, why = REPLAYED, 'it was sent before'
        else:
            reason, why = UNSIGNED, 'it is not signed with our key, or was for a program that ran here before'
        self._rejections.note(addr[0], reason, 'Ignored a message from %s:%s: %s', *addr, why)
        self._delivery.not_signed(addr)
