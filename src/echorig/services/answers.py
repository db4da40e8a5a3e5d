"""`Answers`: which of the calls that wait for a rig a message of it is for.

1. A message that names the question it answers is for the call that asked it, and for no other.
2. One that does not say may be of a peer without tags, which confirms before it answers. It is for the call that was
   made first, of those whose message has been confirmed; in doubt, for the one that was made first.
3. If none is confirmed, and an earlier call has ended without its answer, then this is that answer, and for nobody.
4. This is kept for each rig: sets may share one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

from ..events._reply_context import Question, names
from ..messages import ExpMessage

__all__ = ['Answers', 'Asker']

_ANY = int(ExpMessage.any())
_INTERRUPT = int(ExpMessage.EXPINTERRUPT)


class Asker(Protocol):
    """A call that waits for the answer of one rig, of one event, to one message."""

    event: ExpMessage
    question: Question


class Answers:
    """The calls that wait for one rig, and how many have ended that it may still answer."""

    _of_rigs: ClassVar[WeakKeyDictionary[Any, Answers]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._waiting: list[Asker] = []
        self._owed: Counter[int] = Counter()
        self._last: tuple[object, Asker | None] = (None, None)

    @classmethod
    def of(cls, rig: Any) -> Answers:
        """Return those of a rig."""
        try:
            return cls._of_rigs.setdefault(rig, cls())
        except TypeError:  # a class of the user's own, nothing of which can be kept
            return cls()

    def wait(self, asker: Asker) -> None:
        """Take in that a call waits."""
        self._waiting.append(asker)

    def leave(self, asker: Asker) -> None:
        """Take in that a call waits no more."""
        if asker in self._waiting:
            self._waiting.remove(asker)
        if not self._waiting:
            self._last = (None, None)

    def owe(self, event: ExpMessage) -> None:
        """Take in that a call has ended without its answer, which may still come."""
        self._owed[int(event)] += 1

    def settle(self, event: ExpMessage) -> None:
        """Take in that a call was answered, and so were those before it, as far as they ever will be."""
        self._owed.pop(int(event), None)

    def forget(self) -> None:
        """Take in that the program is gone that might have answered."""
        self._owed.clear()

    def whose(self, rig: Any, message: object, code: int, about: int | None = None) -> Asker | None:
        """Return for which call the message is that the rig has just sent.

        Parameters
        ----------
        rig : Service
            The rig.
        message : object
            What stands for the message: each that listens is given the same, and the answer is the same for all.
        code : int
            Its event code.
        about : int, optional
            The event that a notice is about, if it says so.

        Returns
        -------
        Asker or None
            The call; None if it is for none of them.
        """
        if self._last[0] is not message:
            self._last = (message, self._find(rig, code, about))
        return self._last[1]

    def _find(self, rig: Any, code: int, about: int | None) -> Asker | None:
        says_something = False
        for asker in self._waiting:
            named = names(rig, asker.question)
            if named == 1:
                return asker
            says_something |= named == 0
        if says_something:
            return None
        events = _ANY if code == _INTERRUPT else code
        if code == 0:
            events = _ANY if about is None else about
        askers = [asker for asker in self._waiting if int(asker.event) & events]
        if code == _INTERRUPT:  # for who has interrupted; or else it is a failure
            askers = [asker for asker in askers if int(asker.event) == code] or askers
        for asker in askers:
            if asker.question.confirmed:
                return asker
        for event in self._owed:
            if event & events:
                self._owed[event] -= 1
                self._owed += Counter()  # without what is nothing
                return None
        return askers[0] if askers else None
