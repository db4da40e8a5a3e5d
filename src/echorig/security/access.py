"""Access control by source address and shared key.

Rejected traffic is counted, and logged once for each host and reason. Nothing is sent in reply.
"""

from __future__ import annotations

from collections.abc import Callable

from ..tuning import InternalTuning
from ..uri import Address
from . import _signing
from .allowlist import AllowList
from .rejections import NOT_ALLOWED, REPLAYED, UNSIGNED, Rejections
from .safe_log import SafeLog

__all__ = ['AccessPolicy', 'signer_for']

_MAX_HELD = 2**20  # bytes that wait for a handshake over UDP; over TCP the limit is `max_send_buffer`


def signer_for(key: bytes | str | None, has_datagrams: bool, tuning: InternalTuning) -> _signing.Signer | None:
    """Return the signer of a communicator, or None without a key; raises TypeError or ValueError if it is invalid."""
    if key is None:
        return None
    if not tuning.tags:
        raise ValueError('key= needs numbered messages: it cannot be used with Tuning(tags=False)')
    if isinstance(key, str):
        try:
            key.encode()
        except UnicodeEncodeError:  # whose text would show the key
            raise ValueError('key must be text that can be written as UTF-8, or bytes') from None
    return _signing.Signer(
        key,
        stream=not has_datagrams,
        max_peers=tuning.max_peers,
        retry=tuning.initial_rto,
        max_held=_MAX_HELD if has_datagrams else tuning.max_send_buffer,
        idle=tuning.memory_seconds,
    )


class AccessPolicy:
    """Rejects hosts that are not allowed and frames that are not signed; `name` is the label of the communicator."""

    def __init__(self, name: str, log: SafeLog) -> None:
        self._name = name
        self.rejections = Rejections(log)
        self.allowed: AllowList | None = None
        self.on_unsigned: Callable[[Address], None] = lambda addr: None

    def admits(self, host: str) -> bool:
        """Return whether a host may send to this communicator; count it if not."""
        if self.allowed is None or host in self.allowed:
            return True
        self.rejections.count(host, NOT_ALLOWED, 'Ignoring %s, which is not in allow= of %s', host, self._name)
        return False

    def count_unsigned(self, addr: Address, verdict: int) -> None:
        """Count a frame that `Signer.open` has refused with a verdict."""
        if verdict == _signing.REPLAYED:
            reason, why = REPLAYED, 'it was received before'
        else:
            reason, why = UNSIGNED, 'it is not signed with our key, or was signed for an earlier run of this program'
        self.rejections.count(addr[0], reason, 'Ignored a message from %s:%s: %s', *addr, why)
        self.on_unsigned(addr)
