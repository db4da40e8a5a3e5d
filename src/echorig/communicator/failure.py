"""`Failure`: a message that was not confirmed."""

from __future__ import annotations

from time import monotonic
from typing import NamedTuple

from ..errors import EchoError

__all__ = ['Failure', 'failure_of']


class Failure(NamedTuple):
    """A confirmed send that has failed."""

    began: float
    """float: When it began, on the clock of `time.monotonic`, in seconds."""
    waited: float
    """float: How long its echo was waited for, in seconds."""
    error: EchoError | None
    """EchoError or None: Why it has failed; None if the wait was cancelled."""


def failure_of(began: float, error: BaseException) -> Failure:
    """Return what has become of a send that began at a time and ends now with an error.

    The error is copied: the frames that its traceback holds are nobody's any more.
    """
    return Failure(began, monotonic() - began, type(error)(str(error)) if isinstance(error, EchoError) else None)
