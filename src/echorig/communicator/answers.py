"""`AnswerMatcher`: decides which of the calls that wait for a rig a message of the rig answers.

1. A message that names the request it answers belongs to the call that sent the request, and to no other.
2. A message that names none may be of a legacy rig, which confirms before it answers. It belongs to the earliest call
   whose request is confirmed or, if there is none, to the earliest call.
3. If no request is confirmed, and an earlier call ended without its answer, the message is that late answer and belongs
   to no call.
4. There is one matcher for each rig, since several sets of rigs may share one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

from ..events._reply_context import OutgoingRequest, is_reply_to
from ..messages import ExpMessage
from .interfaces import Answering

__all__ = ['AnswerMatcher', 'PendingCall']

_ANY = int(ExpMessage.any())
_INTERRUPT = int(ExpMessage.EXPINTERRUPT)


class PendingCall(Protocol):
    """A call that waits for one rig to answer one request with one event."""

    event: ExpMessage
    request: OutgoingRequest


class AnswerMatcher:
    """The calls that wait for one rig, and how many ended whose answers may still arrive."""

    _of_rigs: ClassVar[WeakKeyDictionary[Any, AnswerMatcher]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._pending_calls: list[PendingCall] = []
        self._unanswered: Counter[int] = Counter()
        self._last_match: tuple[object, PendingCall | None] = (None, None)

    @classmethod
    def of(cls, rig: Answering) -> AnswerMatcher:
        """Return the matcher of a rig."""
        try:
            return cls._of_rigs.setdefault(rig, cls())
        except TypeError:  # a class of the user that has no weak references or no hash
            return cls()

    def add(self, call: PendingCall) -> None:
        """Add a call, which waits from now on."""
        self._pending_calls.append(call)

    def remove(self, call: PendingCall) -> None:
        """Remove a call, which does not wait any more."""
        if call in self._pending_calls:
            self._pending_calls.remove(call)
        if not self._pending_calls:
            self._last_match = (None, None)

    def note_unanswered(self, event: ExpMessage) -> None:
        """Note that a call ended without its answer, which may still arrive."""
        self._unanswered[int(event)] += 1

    def clear_unanswered(self, event: ExpMessage | None = None) -> None:
        """Note that no late answer will arrive: for an event after a newer answer, for any event if the rig is lost."""
        if event is None:
            self._unanswered.clear()
        else:
            self._unanswered.pop(int(event), None)

    def match(self, rig: Answering, message: object, code: int, about: int | None = None) -> PendingCall | None:
        """Return the call that a message, just received, belongs to, or None.

        The result is the same for every listener that gets the same `message` object. `code` is the event code of the
        message, `about` the event that a notice names.
        """
        if self._last_match[0] is not message:
            self._last_match = (message, self._find(rig, code, about))
        return self._last_match[1]

    def _find(self, rig: Answering, code: int, about: int | None) -> PendingCall | None:
        replies = [is_reply_to(rig, call.request) for call in self._pending_calls]
        if True in replies:
            return self._pending_calls[replies.index(True)]
        if False in replies:
            return None
        mask = _ANY if code == _INTERRUPT else code
        if code == 0:
            mask = _ANY if about is None else about
        calls = [call for call in self._pending_calls if int(call.event) & mask]
        if code == _INTERRUPT:  # the answer to a call that interrupts, otherwise the failure of another call
            calls = [call for call in calls if int(call.event) == code] or calls
        for call in calls:
            if call.request.is_confirmed:
                return call
        for event in self._unanswered:
            if event & mask:
                self._unanswered[event] -= 1
                self._unanswered += Counter()  # drops counts of 0
                return None
        return calls[0] if calls else None
