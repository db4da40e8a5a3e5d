"""`RigService`: one open rig: takes the messages, calls the handlers in order, and answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Any

from ..communicator import EchoProtocol
from ..errors import EchoError
from ..events._reply_context import current_request
from ..events.callbacks import CallbackTasks
from ..messages import ExpMessage, ExpStatus
from ..progress import is_progress
from ..security.redaction import redact_error
from ..security.safe_log import SafeLog
from ..uri import Address
from .handlers import ARGUMENTS, Handler, HandlerTable
from .job import CANCEL_TIME, Job, described_failure
from .lifecycle import Lifecycle, NotAccepted
from .main_watch import MainWatch
from .worker import Worker

__all__ = ['RigService']

_ANSWER_TIMEOUT = 5.0  # seconds for the confirmation of an answer
_LAST_TIME = 5.0  # seconds for the handler that stops the work when the program ends
_LAST_MESSAGE_TIMEOUT = 1.0  # seconds for the message to the main PC that the program ends
_AT_ONCE = (ExpMessage.EXPSTATUS, ExpMessage.EXPINFO)  # answered while a handler works
_BEGINNING = (ExpMessage.EXPINIT, ExpMessage.EXPSTART)
_CANCELLED = {ExpMessage.EXPEND: _BEGINNING, ExpMessage.EXPINTERRUPT: (*_BEGINNING, ExpMessage.EXPEND)}
_MAX_JOBS = 100  # messages that wait for the work of others
_OPTIONAL = (ExpMessage.EXPINIT, ExpMessage.EXPCLEANUP, ExpMessage.EXPINTERRUPT)  # only change the status without one


class RigService:
    """One open rig."""

    def __init__(
        self, com: EchoProtocol, handlers: HandlerTable, lifecycle: Lifecycle, on_lost: Handler | None, log: SafeLog
    ) -> None:
        self.com = com
        self._handlers, self._lifecycle, self._lost_handler, self._log = handlers, lifecycle, on_lost, log
        self.loop = asyncio.get_running_loop()
        self._jobs: deque[Job] = deque()
        self._current: Job | None = None
        self._wake = asyncio.Event()
        self._worker, self._side_worker = Worker(f'{com.name} handlers'), Worker(f'{com.name} states')
        self._tasks = CallbackTasks()
        self._main: Address | None = None
        self._progress: tuple[Job, dict[str, Any]] | None = None
        self._sends_progress = False
        self._cleaned_up: asyncio.Future[None] | None = None
        self._is_ending = False
        self._abandoned: list[Job] = []  # their functions still run
        for event in ARGUMENTS:
            com.assign_callback(event, partial(self._on_message, event))
        self._working = asyncio.ensure_future(self._work())
        self._watch = MainWatch(com, self._watched, self._on_main_lost)

        self.closed: asyncio.Future[None] = self.loop.create_future()

    # --- messages ---

    def _on_message(self, event: ExpMessage, data: list[Any], addr: Address) -> None:
        if event == ExpMessage.EXPINFO and is_progress(data):
            return
        job = Job(event, data, addr)
        if event in _AT_ONCE:
            self._start(self._answer_state(job))
            return
        for other in filter(None, (self._current, *self._jobs)):
            if other.event in _CANCELLED.get(event, ()):
                other.cancel(str(event.name))
        if len(self._jobs) < _MAX_JOBS:
            self._jobs.append(job)
            self._wake.set()
        else:
            job.done.set_exception(NotAccepted(f'{self.com.name} is busy, and {_MAX_JOBS} messages wait already'))
        self._start(self._answer(job))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as a task, in the context of the message, so that what it sends is the answer."""
        self._tasks.run(work, lambda ex: self._log.error('%s: %s', type(ex).__name__, ex))

    async def _work(self) -> None:
        """Do the work of one message after another."""
        while True:
            while not self._jobs:
                self._wake.clear()
                await self._wake.wait()
            self._current = job = self._jobs.popleft()
            try:
                result = await self._perform(job)
            except Exception as ex:
                job.done.set_exception(ex)
            else:
                job.done.set_result(result)
            finally:
                if not job.done.done():
                    job.done.cancel()
                self._current = None

    async def _perform(self, job: Job) -> Any:
        """Call the handler of a message, and keep the status."""
        event, lifecycle = job.event, self._lifecycle
        if self._is_ending and event in _BEGINNING:
            raise NotAccepted(f'{self.com.name} ends its program')
        lifecycle.check(event)
        if event in _BEGINNING:
            if self._abandoned:
                raise NotAccepted(self._still_running())
            self._main = job.addr
            job.on_abandoned = partial(self._abandoned.append, job)
            job.on_late_end = partial(self._on_late_end, job)
        if event == ExpMessage.EXPCLEANUP and lifecycle.status == ExpStatus.RUNNING:
            self._log.warning('EXPCLEANUP while RUNNING: the work is stopped first')
            await self._perform(Job(ExpMessage.EXPEND, [None], job.addr))
        handler = self._handlers.of(event)
        if handler is None and event not in _OPTIONAL:
            if event == ExpMessage.ALYX and job.data and job.data[0] is not None:
                self._log.info('No handler takes the Alyx token')
                return None
            missing = f"{self.com.name} has no handler of {event.name}: register one with @rig.on('{event.name}')"
            raise NotAccepted(missing)
        job.check_cancelled()
        is_stop = event == ExpMessage.EXPINTERRUPT and handler is self._handlers.get(ExpMessage.EXPEND)
        lifecycle.begin(event)
        result = None
        try:
            if handler is not None and (lifecycle.has_started or not is_stop):
                result = await job.run(handler, self._worker)
        except Exception:
            if event == ExpMessage.EXPINTERRUPT:  # nothing more can be done
                lifecycle.succeed(event, job.data)
            raise
        job.check_cancelled()
        lifecycle.succeed(event, job.data)
        if self._abandoned:
            raise NotAccepted(self._still_running())
        if event == ExpMessage.EXPCLEANUP and self._cleaned_up is not None and not self._cleaned_up.done():
            self._cleaned_up.set_result(None)
        return result

    def _still_running(self) -> str:
        work = ' and '.join(str(job.event.name) for job in self._abandoned)
        return f'the cancelled work of {work} has not ended on {self.com.name}, and will be stopped when it does'

    def _on_late_end(self, job: Job) -> None:
        """Stop the work again: the function may have switched something on after the stop."""
        if job not in self._abandoned:  # the rig has been closed meanwhile
            return
        self._abandoned.remove(job)
        self._log.warning('The cancelled work of %s has ended, and is stopped', job.event.name)
        self._lifecycle.begin(ExpMessage.EXPSTART)
        stop = Job(ExpMessage.EXPINTERRUPT, [None], job.addr)
        self._jobs.appendleft(stop)
        self._wake.set()
        self._start(self._report(stop))

    async def _report(self, stop: Job) -> None:
        try:
            await stop.done
        except Exception as ex:
            self._log.error('The work could not be stopped: %s', described_failure(ex))

    # --- answers ---

    async def _answer(self, job: Job) -> None:
        try:
            result = await job.done
        except Exception as ex:
            await self._answer_failure(job, ex)
            return
        if job.event == ExpMessage.ALYX:
            if job.data and job.data[0] is not None:  # a token, which needs no answer
                return
            answer = list(result) if isinstance(result, list | tuple) else [result]
        elif job.event == ExpMessage.EXPSTART:
            answer = [job.data[0] if job.data else None, result]
        else:
            answer = [result]
        await self._send([job.event, *answer], job)

    async def _answer_state(self, job: Job) -> None:
        """Answer EXPSTATUS and EXPINFO, also while a handler works."""
        handler = self._handlers.get(job.event)
        try:
            result = None if handler is None else await job.run(handler, self._side_worker)
        except Exception as ex:
            await self._answer_failure(job, ex)
            return
        status = self._lifecycle.status
        if job.event == ExpMessage.EXPSTATUS:
            await self._send([job.event, status], job)
            return
        if handler is None:
            result = {'name': self.com.name, 'exp_ref': self._lifecycle.exp_ref}
        await self._send([job.event, status, result], job)

    async def _answer_failure(self, job: Job, error: Exception) -> None:
        if job.event == ExpMessage.ALYX:  # a text or traceback may have the token
            text = type(error).__name__
        elif isinstance(error, NotAccepted):
            text = f'{type(error).__name__}: {error}'
        else:
            text = redact_error(described_failure(error), job.event)
        self._log.error('%s failed: %s', job.event.name, text)
        if current_request.get() is not None:
            await self._send([0, text, job.event], job)
        else:  # the main PC does not run echorig, and confirms no notices
            self.com.send([0, text, job.event], job.addr)

    async def _send(self, message: list[Any], job: Job) -> None:
        try:
            await self.com.confirmed_send(message, job.addr, _ANSWER_TIMEOUT)
        except EchoError as ex:
            self._log.warning('The answer to %s was not confirmed: %s', job.event.name, ex)
        except (TypeError, ValueError) as ex:  # JSON cannot hold the return value
            text = redact_error(f'{type(ex).__name__}: the answer cannot be sent: {ex}', job.event)
            self._log.error('%s failed: %s', job.event.name, text)
            await self._send([0, text, job.event], job)

    def report_progress(self, job: Job, details: dict[str, Any]) -> None:
        """Send the progress of a job, on the loop; while one report is being confirmed, only the newest waits."""
        self._progress = job, details
        if not self._sends_progress:
            self._sends_progress = True
            self._start(self._send_progress())

    async def _send_progress(self) -> None:
        try:
            while self._progress is not None:
                (job, details), self._progress = self._progress, None
                try:
                    await self.com.confirmed_send([ExpMessage.EXPINFO, self._lifecycle.status, details], job.addr)
                except EchoError as ex:
                    self._log.debug('Progress was not confirmed: %s', ex)
        finally:
            self._sends_progress = False

    # --- the main PC ---

    def _watched(self) -> Address | None:
        return self._main if self._lifecycle.is_in_session else None

    def _on_main_lost(self, error: Exception) -> None:
        self._log.warning('The main PC is gone while the rig is %s: %s', self._lifecycle.status.name, error)
        if self._lost_handler is not None:
            self._start(self._run_lost_handler())

    async def _run_lost_handler(self) -> None:
        handler = self._lost_handler
        assert handler is not None
        try:
            await (handler.function() if handler.is_async else self._side_worker.run(handler.function))
        except Exception:
            self._log.exception('The on_lost handler failed')

    # --- the end ---

    async def close(self) -> None:
        """Stop the work of a running session, report that to the main PC, and close."""
        try:
            await self._close()
        finally:
            self.closed.set_result(None)

    async def _close(self) -> None:
        self._is_ending = True
        if self._current is not None:
            self._current.cancel('the end of the program')
        if self._lifecycle.has_started or self._lifecycle.status == ExpStatus.RUNNING:
            await self._stop_work()
        elif self._current is not None:
            await asyncio.wait({self._current.done}, timeout=2 * CANCEL_TIME)
        self._working.cancel()
        await asyncio.wait({self._working})
        await self._watch.close()
        for job in self._jobs:
            job.done.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_MESSAGE_TIMEOUT)
        for task in list(self._tasks):
            task.cancel()
        self._worker.abandon()
        self._side_worker.abandon()
        self.com.close()
        await self.com.wait_closed()

    async def _stop_work(self) -> None:
        """Stop the work as EXPINTERRUPT does, inform the main PC, and give it time to interrupt and clean up."""
        self._log.warning('The program ends while %s runs: the work is stopped', self._lifecycle.exp_ref)
        job = Job(ExpMessage.EXPINTERRUPT, [None], self._main or ('', 0))
        self._jobs.appendleft(job)
        self._wake.set()
        await asyncio.wait({job.done}, timeout=_LAST_TIME)
        if not job.done.done():
            self._log.error('The work did not stop within %s s', _LAST_TIME)
        elif not job.done.cancelled() and (error := job.done.exception()) is not None:
            self._log.error('The work could not be stopped: %s', described_failure(error))
        if self._main is None:
            return
        self._cleaned_up = self.loop.create_future()
        try:
            text = f'{self.com.name} has ended its program'
            await self.com.confirmed_send([ExpMessage.EXPINTERRUPT, text], self._main, _LAST_MESSAGE_TIMEOUT)
        except EchoError as ex:
            self._log.debug('The main PC did not confirm: %s', ex)
        else:
            await asyncio.wait({self._cleaned_up}, timeout=_LAST_MESSAGE_TIMEOUT)
