"""`Prober`: pings on one channel. A ping is an array of blanks, which every rig echoes and no callback receives."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from time import monotonic

from ..security._signing import HANDSHAKE, Signer
from ..uri import Address
from ..wire._tags import add_tag, make_ping
from .channels import Arrival, Channel
from .replies import Kind, classify

__all__ = ['Prober', 'Reply']

_TAG = 130  # bytes of an array with only a tag
_SIGNATURE = 192  # bytes
_HELLO = 450  # bytes; a signed ping of this size would be taken for the first message of a handshake
_REMEMBERED = 64  # pings whose late echoes are recognized


@dataclass(frozen=True)
class Reply:
    """What came back for a ping."""

    kind: Kind | None = None  # None: nothing in time
    round_trip: float | None = None  # seconds, of an echo
    frame: bytes = b''
    sender: Address | None = None
    error: OSError | None = None
    is_unsigned: bool = False  # an echo without the signature that was asked for

    @property
    def is_echo(self) -> bool:
        """bool: Whether the ping came back whole."""
        return self.kind in (Kind.ACKNOWLEDGED, Kind.VERBATIM)


class Prober:
    """Pings one address.

    With a key it signs the pings, and replies count if they are signed, too. `notices` counts the error messages of
    the rig, and `n_late` the echoes that came after their time.
    """

    def __init__(self, channel: Channel, key: bytes | str | None = None) -> None:
        self.channel = channel
        self.notices = self.n_late = 0
        self._signer = Signer(key, channel.is_stream) if key is not None else None
        self._run, self._number = secrets.randbits(31), 0
        # (frame, number, time) of the pings as they are without a signature, and of what was sent with one.
        self._pings: deque[tuple[bytes, int, float]] = deque(maxlen=_REMEMBERED)
        self._signed: deque[tuple[bytes, int, float]] = deque(maxlen=_REMEMBERED)

    @property
    def overhead(self) -> int:
        """int: The bytes of the shortest ping."""
        return _TAG + (_SIGNATURE if self._signer is not None else 0)

    async def ping(self, wait: float, size: int | None = None, tries: int = 1) -> Reply:
        """Send a ping and wait for what comes back.

        Parameters
        ----------
        wait : float
            How long to wait for each try, in seconds.
        size : int, optional
            The size of the ping in bytes; by default that of echorig's own.
        tries : int
            How often it is sent, each time with another number; an echo of each of them counts.

        Returns
        -------
        Reply
            The echo; if there is none, an error of the system, a frame that is no echo, or nothing.
        """
        best, first = Reply(), self._number + 1
        for _ in range(tries):
            self._send(size)
            deadline = monotonic() + wait
            while (left := deadline - monotonic()) > 0:
                arrival = await self.channel.receive(left)
                if arrival is None:
                    break
                reply = self._read(arrival, first)
                if reply is None:
                    continue
                if reply.kind not in (Kind.FOREIGN, Kind.NOTICE):
                    return reply
                best = reply
        return best

    def _send(self, size: int | None) -> None:
        self._number += 1
        if size is None:
            frame = make_ping(self._run, self._number)
        else:
            if self._signer is not None and size == _HELLO:
                size += 1
            frame = add_tag(b'[' + b' ' * max(size - self.overhead, 0) + b']', self._run, self._number)
        self._pings.append((frame, self._number, monotonic()))
        if self._signer is None:
            self.channel.send(frame)
            return
        sealed = self._signer.seal(frame, self.channel.addr, monotonic())
        self._flush()
        if sealed is not None:
            self._transmit(sealed)

    def _flush(self) -> None:
        """Send the handshake, and what waited for it."""
        assert self._signer is not None
        frames = [frame for frame, _ in self._signer.outbox]
        self._signer.outbox.clear()
        for frame in frames:
            self._transmit(frame)

    def _transmit(self, signed: bytes) -> None:
        self._signed.append((signed, self._number, monotonic()))
        self.channel.send(signed)

    def _read(self, arrival: Arrival, first: int) -> Reply | None:
        """Return what an arrival says about the pings from number `first` on; None if it says nothing."""
        frame, sender = arrival.frame, arrival.sender
        if arrival.error is not None:
            return Reply(None, error=arrival.error, sender=sender)
        if self._signer is not None:
            opened = self._signer.open(frame, sender, arrival.at)
            verdict = self._signer.verdict
            self._flush()
            if opened is not None:
                frame = opened
            elif verdict == HANDSHAKE:
                return None
            else:  # of a rig without a key
                reply = self._match(arrival, frame, self._signed, 0)
                return replace(reply, is_unsigned=True) if reply is not None else None
        return self._match(arrival, frame, self._pings, first)

    def _match(
        self, arrival: Arrival, frame: bytes, sent: Iterable[tuple[bytes, int, float]], first: int
    ) -> Reply | None:
        """Compare a frame with the pings that were sent; those before number `first` are late."""
        found = Kind.FOREIGN
        for ping, number, at in reversed([*sent]):
            kind = classify(ping, frame)
            if kind in (Kind.ACKNOWLEDGED, Kind.VERBATIM, Kind.CUT) or (
                kind is Kind.CHANGED and number == self._number
            ):
                if number < first:
                    self.n_late += 1
                    return None
                return Reply(kind, arrival.at - at, frame, arrival.sender)
            found = kind if kind in (Kind.NOTICE, Kind.OTHER_PING) else found
        if found is Kind.NOTICE:
            self.notices += 1
        return None if found is Kind.OTHER_PING else Reply(found, None, frame, arrival.sender)
