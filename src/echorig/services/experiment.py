"""`Experiment`: init and start of a set of rigs, and at the end stop or interrupt, and cleanup.

1. Whatever ends the block, every rig is sent EXPEND (at an ordinary end) or EXPINTERRUPT, and then EXPCLEANUP.
2. The end after a failure is bounded in time (`interrupt.py`). A further cancellation does not stop it.
3. A rig is lost if it goes offline, is restarted, or sends EXPINTERRUPT.
4. A rig that refuses to begin because it runs an experiment is left alone: that may be one of another main PC.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Protocol

from ..checks import described, flag, seconds
from ..communicator.experiment_messages import composed
from ..communicator.peer_clocks import PeerClock
from ..errors import ConnectionClosedError, RemoteCallbackError, RigLostError, ServicesError
from ..events.callbacks import CallbackTasks
from ..messages import ExpMessage
from ..progress import Progress, is_progress, read_progress
from ..security.safe_log import SafeLog
from ..signals import CancelOnSignal
from ..stall import wait
from .fan_out import result_or_error, services_error
from .interrupt import interrupt_all
from .presence import Presence, PresenceChange
from .start_together import StartAnswers, checked_at

__all__ = ['Experiment']

_LARGEST_OFFSET = 0.1  # seconds
_WATCH_INTERVAL, _WATCH_TIMEOUT = 0.5, 1.0  # seconds; a rig that is gone is noticed within both


class _RigSet(Protocol):
    """What an experiment needs of a set of rigs."""

    logger: logging.Logger
    timeout: float | None

    def __iter__(self) -> Iterator[str]: ...
    def __getitem__(self, name: str, /) -> Any: ...
    def watch(self, interval: float, timeout: float) -> Presence: ...
    async def init(self, data: Any) -> dict[str, Any]: ...
    async def start(
        self, exp_ref: Any, data: Any, concurrent: bool = True, *, at: float | None = None
    ) -> StartAnswers: ...
    def clock(self) -> dict[str, PeerClock | None]: ...
    async def stop(self) -> dict[str, Any]: ...
    async def cleanup(self) -> dict[str, Any]: ...


class Experiment:
    """An experiment of a set of rigs; made by :meth:`Services.experiment`, and entered once.

    Parameters
    ----------
    rigs : Services
        The rigs.
    exp_ref, data, on_rig_lost, on_progress, interrupt_timeout, check_exp_ref, at
        As for :meth:`Services.experiment`.

    Attributes
    ----------
    answers : dict of str to list
        The answer of each rig to the start, by name.
    watch : Presence
        The presence of the rigs, by name.
    """

    def __init__(
        self,
        rigs: _RigSet,
        exp_ref: Any,
        data: Any,
        *,
        on_rig_lost: Literal['raise', 'warn'] | Callable[[PresenceChange], Any],
        on_progress: Callable[[Progress], Any] | None,
        interrupt_timeout: float,
        check_exp_ref: bool,
        at: float | None,
    ) -> None:
        if on_rig_lost not in ('raise', 'warn') and not callable(on_rig_lost):
            raise ValueError(f"on_rig_lost must be 'raise', 'warn' or a function, not {described(on_rig_lost)}")
        if on_progress is not None and not callable(on_progress):
            raise TypeError(f'on_progress must be a function, not {described(on_progress)}')
        composed(rigs, ExpMessage.EXPSTART, (exp_ref, data), flag(check_exp_ref, 'check_exp_ref'))
        self._interrupt_timeout = seconds(interrupt_timeout, 'interrupt_timeout', endless=False)
        self._rigs, self._exp_ref, self._data = rigs, exp_ref, data
        self._at = None if at is None else checked_at(at)
        self._on_rig_lost, self._on_progress = on_rig_lost, on_progress
        self._log = SafeLog(rigs.logger)
        self._progress: dict[str, Progress] = {}
        self._lost: dict[str, Exception] = {}
        self._early: list[tuple[PresenceChange, str]] = []
        self._is_leaving = False
        self._tasks = CallbackTasks()
        self._foreign: set[str] = set()  # rigs that run an experiment of another main PC
        self._callbacks: list[tuple[str, ExpMessage, Any]] = []
        self._task: asyncio.Task[Any] | None = None
        self._leaving: asyncio.Future[None] | None = None
        self._interrupting: asyncio.Future[None] | None = None
        self._signals: CancelOnSignal | None = None
        self._is_entered = self._runs = self._cancels = self._sleeps = False
        self.answers = StartAnswers({}, {})
        self.watch: Presence

    def __repr__(self) -> str:
        state = 'running' if self._runs else 'ended' if self._is_entered else 'not started'
        return f'<Experiment {self._exp_ref} {state}>'

    @property
    def progress(self) -> MappingProxyType[str, Progress]:
        """Mapping of str to Progress: The last progress that each rig has reported, by name."""
        return MappingProxyType(self._progress)

    # --- rigs that are lost ---

    def check(self) -> None:
        """Raise `RigLostError` if a rig was lost and `on_rig_lost` is ``'raise'``."""
        if self._lost:
            raise self._lost_error()

    async def sleep(self, delay: float) -> None:
        """Wait, and raise `RigLostError` as soon as a rig is lost and `on_rig_lost` is ``'raise'``.

        Parameters
        ----------
        delay : float
            How long to wait, in seconds; it may be infinite.

        Raises
        ------
        RigLostError
            A rig was lost.
        """
        seconds(delay, 'delay', zero=True)
        self._sleeps = self._task is not None and asyncio.current_task() is self._task
        try:
            await wait([self._rig_is_lost], delay)
        finally:
            self._sleeps = False
        self.check()

    def _lost_error(self) -> RigLostError:
        error = services_error({name: None for name in self._rigs if name not in self._lost}, self._lost)
        text = f'Rigs lost in {self._exp_ref}: ' + '; '.join(map(str, self._lost.values()))
        return RigLostError(text, error.responses, self._lost)

    def _on_change(self, change: PresenceChange) -> None:
        if not self._runs:  # a rig that was restarted before is noticed now
            return
        if change.state == 'offline':
            why = f': {change.presence.error}' if change.presence.error else ''
            self._lose(change, f'{change.name} went offline{why}')
        elif change.state == 'restarted':
            self._lose(change, f'{change.name} was restarted, and does not run this experiment any more')

    def _on_interrupt(self, name: str, data: list[Any], addr: Any) -> None:
        why = f': {data[0]}' if data and data[0] else ''
        change, text = PresenceChange(name, 'offline', self.watch[name]), f'{name} interrupted the experiment{why}'
        if self._runs:
            self._lose(change, text)
        elif not self._is_leaving:  # the other rigs are still starting
            self._early.append((change, text))

    def _lose(self, change: PresenceChange, text: str) -> None:
        if self._on_rig_lost == 'warn':
            self._log.warning('%s', text)
        elif callable(self._on_rig_lost):
            self._log.warning('%s', text)
            self._call(self._on_rig_lost, change)
        elif change.name not in self._lost:
            self._log.error('%s: %s ends', text, self._exp_ref)
            self._lost[change.name] = ConnectionClosedError(text)
            if not self._rig_is_lost.done():
                self._rig_is_lost.set_result(None)
            if self._task is None:  # of another thread, which cannot be cancelled: the rigs must not wait for it
                self._start_to_interrupt()
            elif not self._cancels and not self._sleeps:  # `sleep` raises the error itself
                self._cancels = self._task.cancel()

    def _on_info(self, name: str, data: list[Any], addr: Any) -> None:
        if is_progress(data):
            self._progress[name] = progress = read_progress(name, data)
            self._log.info('%s: %s %.0f %% %s', name, progress.event, 100 * progress.fraction, progress.text)
            if self._on_progress is not None:
                self._call(self._on_progress, progress)

    def _call(self, function: Callable[[Any], Any], argument: Any) -> None:
        try:
            result = function(argument)
        except Exception as ex:
            self._log_failed(function, ex)
        else:
            if isinstance(result, Awaitable):
                self._tasks.run(result, partial(self._log_failed, function))

    def _log_failed(self, function: Callable[[Any], Any], error: BaseException) -> None:
        text = f'{type(error).__name__}: {error}'
        self._log.error('Callback "%s" failed with error "%s"', function, text, error=error)

    # --- the time of the experiment ---

    async def __aenter__(self) -> Experiment:
        await self._enter(asyncio.current_task())
        return self

    async def _enter(self, task: asyncio.Task[Any] | None) -> None:
        """Init and start; `task` is cancelled by signals and when a rig is lost, unless it is None."""
        if self._is_entered:
            raise RuntimeError('An experiment can be entered once: make another one')
        self._is_entered = True
        self._rig_is_lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.watch = self._rigs.watch(_WATCH_INTERVAL, _WATCH_TIMEOUT)
        if task is not None:
            self._signals = CancelOnSignal(task)
            self._signals.start()
        self.watch.assign_callback(self._on_change)
        try:
            self._assign_callbacks()
            await self.watch.__aenter__()
            await self._rigs.init(self._data)
            self._compare_clocks()
            self.answers = await self._rigs.start(self._exp_ref, self._data, at=self._at)
            gone = await self._offline()
        except BaseException as ex:
            self._foreign = _running_another(ex)
            self._leaving = asyncio.ensure_future(self._leave(ex))
            await self._completed(self._wait_left())
            self._raise_signal(ex)
            raise
        self._task, self._runs = task, True
        for change, text in self._early:
            self._lose(change, text)
        for name in gone:
            self._on_change(PresenceChange(name, 'offline', self.watch[name]))

    def _compare_clocks(self) -> None:
        """Warn of clocks that differ from that of this computer: times in files would not fit together."""
        for name, clock in self._rigs.clock().items():
            if clock is not None and abs(clock.offset) - clock.error > _LARGEST_OFFSET:
                text = f'{abs(clock.offset):.1f} s {"ahead of" if clock.offset > 0 else "behind"} that of this computer'
                self._log.warning('The clock of %s is %s: synchronize both by NTP', name, text)

    async def _offline(self) -> list[str]:
        """Return the rigs that have gone since their answer; one that was only blocked meanwhile echoes again."""
        names = [name for name, presence in self.watch.items() if presence.state == 'offline']
        pings = [partial(self._rigs[name].ping, timeout=_WATCH_TIMEOUT) for name in names]
        ends = await asyncio.gather(*map(result_or_error, pings))
        return [name for name, end in zip(names, ends, strict=True) if isinstance(end, Exception)]

    def _assign_callbacks(self) -> None:
        for name in self._rigs:
            for event, callback in ((ExpMessage.EXPINTERRUPT, self._on_interrupt), (ExpMessage.EXPINFO, self._on_info)):
                own = partial(callback, name)
                self._rigs[name].assign_callback(event, own)
                self._callbacks.append((name, event, own))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._leave(error)
        except asyncio.CancelledError as ex:
            self._raise_signal(ex)
            raise
        self._raise_signal(error)

    async def _leave(self, error: BaseException | None) -> None:
        """Stop and clean up, or after an error interrupt and clean up; raise what the block did not raise."""
        self._runs, self._task, self._is_leaving = False, None, True
        if self._cancels and isinstance(error, asyncio.CancelledError):
            error = self._uncancelled(error)
        ends: list[BaseException | None] = []
        if error is None and not self._lost:
            ends.append(await self._completed(self._end(), may_cancel=True))
        if error is not None or any(ends) or self._lost:
            ends.append(await self._completed(self._interrupted()))
        ends.append(await self._completed(self._close()))
        if self._cancels:  # the block has swallowed the cancellation
            self._uncancelled(None)
        failures = [end for end in ends if end is not None]
        cancelled = [end for end in failures if isinstance(end, asyncio.CancelledError)]
        if cancelled and not isinstance(error, asyncio.CancelledError):
            raise cancelled[0]
        if error is None and self._lost:
            raise self._lost_error() from None
        if error is None and failures:
            raise failures[0]

    async def _wait_left(self) -> None:
        """Wait until an experiment whose start was interrupted is over, also if it had just started."""
        if self._leaving is None and self._runs:
            await self._leave(asyncio.CancelledError())
        elif self._leaving is not None:
            await asyncio.wait({self._leaving})

    def _uncancelled(self, error: BaseException | None) -> BaseException | None:
        """Return None if only this experiment has cancelled the task, else the error."""
        self._cancels = False
        uncancel = getattr(asyncio.current_task(), 'uncancel', None)  # from Python 3.11 on
        is_signal = self._signals is not None and self._signals.error is not None
        return error if is_signal or (uncancel is not None and uncancel() > 0) else None

    async def _completed(self, work: Coroutine[Any, Any, None], may_cancel: bool = False) -> BaseException | None:
        """Run a coroutine to its end, also if this task is cancelled meanwhile, unless it may be cancelled, too.

        Return its error, or the cancellation.
        """
        task = asyncio.ensure_future(work)
        cancelled: BaseException | None = None
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as ex:
                if self._cancels and self._uncancelled(ex) is None:  # by this experiment, and delivered only now
                    continue
                if may_cancel:
                    task.cancel()
                cancelled = ex
        return cancelled or (None if task.cancelled() else task.exception())

    def _raise_signal(self, error: BaseException | None) -> None:
        if (
            self._signals is not None
            and self._signals.error is not None
            and isinstance(error, asyncio.CancelledError | None)
        ):
            raise self._signals.error from None

    async def _end(self) -> None:
        await self._rigs.stop()
        await self._rigs.cleanup()

    def _start_to_interrupt(self) -> asyncio.Future[None]:
        if self._interrupting is None:
            self._interrupting = asyncio.ensure_future(self._interrupt())
        return self._interrupting

    async def _interrupted(self) -> None:
        await self._start_to_interrupt()

    async def _interrupt(self) -> None:
        """Interrupt and clean up every rig, the last one first, within `interrupt_timeout`."""
        self._log.warning('Experiment %s is interrupted on all rigs', self._exp_ref)
        for name in self._foreign:
            self._log.warning('%s runs another experiment, and is not interrupted', name)
        rigs = [self._rigs[name] for name in self._rigs if name not in self._foreign]
        for name, failure in (await interrupt_all(rigs[::-1], self._interrupt_timeout)).items():
            self._log.error('%s may still run: %s', name, failure)

    async def _close(self) -> None:
        if self._signals is not None:
            self._signals.stop()
        for name, event, callback in self._callbacks:
            self._rigs[name].clear_callbacks(event, callback)
        self._callbacks.clear()
        await self.watch.__aexit__(None, None, None)


def _running_another(error: BaseException) -> set[str]:
    """Return the rigs that refused to begin because they run an experiment."""
    failures = error.failures.items() if isinstance(error, ServicesError) else ()
    return {
        name
        for name, failure in failures
        if isinstance(failure, RemoteCallbackError) and failure.message.startswith('AlreadyRunning: ')
    }
