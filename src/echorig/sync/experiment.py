"""`Experiment` for programs without an event loop."""

from __future__ import annotations

import signal
import threading
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any

from ..progress import Progress
from ..services.experiment import Experiment as Asynchronous
from ..services.start_together import StartAnswers
from .blocking import blocking
from .portal import Portal
from .proxy import Attribute

__all__ = ['Experiment', 'ThreadedExperiment']


class ThreadedExperiment(Asynchronous):
    """The asynchronous experiment, entered and left by another thread, whose work nothing can cancel."""

    async def enter(self) -> None:
        """Init and start."""
        await self._enter(None)

    async def leave(self, error: BaseException | None) -> None:
        """Stop and clean up, or after an error interrupt and clean up."""
        await self._leave(error)

    async def wait_left(self) -> None:
        """Wait until an experiment whose start was interrupted is over."""
        await self._wait_left()


class Experiment:
    """An experiment of a set of rigs, during ``with``; made by :meth:`Services.experiment`.

    Everything else is as with :class:`echorig.Experiment`. A rig that was lost is reported by `check`, `sleep` and the
    end of ``with``.
    """

    answers = Attribute[StartAnswers]()  #: The answer of each rig to the start, by name.
    watch = Attribute[Any]()  #: The presence of the rigs, by name.
    progress = Attribute[MappingProxyType[str, Progress]]()  #: The last progress of each rig, by name.

    def __init__(self, asynchronous: Any, portal: Portal) -> None:
        self.asynchronous: ThreadedExperiment = asynchronous
        self.portal = portal
        self._replaced: Any = None

    def __repr__(self) -> str:
        return repr(self.asynchronous)

    def check(self) -> None:
        """Raise `RigLostError` if a rig was lost and `on_rig_lost` is ``'raise'``."""
        self.asynchronous.check()

    sleep = blocking(Asynchronous.sleep, None)

    def __enter__(self) -> Experiment:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._replaced = signal.signal(signal.SIGTERM, _exit)
        try:
            self.portal.call('__enter__', self.asynchronous.enter)
        except BaseException:  # also Ctrl-C: the rigs are interrupted before it goes on
            self._end(self.asynchronous.wait_left)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(partial(self.asynchronous.leave, error))

    def _end(self, work: Any) -> None:
        try:
            self.portal.call('__exit__', work, shield=True)
        finally:
            if self._replaced is not None:
                signal.signal(signal.SIGTERM, self._replaced)
                self._replaced = None


def _exit(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)
