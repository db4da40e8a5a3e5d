"""`Rig`: a rig program in a few lines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from ..aliases import Announce, ServerOptions, SingleEvent, Unpack, UriLike
from ..checks import text as checked_text
from ..communicator import EchoProtocol
from ..errors import ConnectionClosedError
from ..loop import run
from ..messages import ExpMessage, ExpStatus
from ..progress import written_progress
from ..security.safe_log import SafeLog
from ..signals import Interrupted, interruptible
from .handlers import Handler, HandlerTable
from .job import current_job
from .lifecycle import Lifecycle
from .service import RigService

__all__ = ['Rig']

_Function = TypeVar('_Function', bound=Callable[..., Any])


class Rig:
    """A rig: registers functions for the events of an experiment, and answers the main PC.

    A plain function runs in a thread (all of them in the same one), a coroutine function on the event loop. Its return
    value is the answer. If it raises, the main PC gets the error at once, and it is logged here. Messages are worked on
    one after another; EXPINTERRUPT and EXPEND cancel the work of EXPINIT and EXPSTART. The status is kept, and answered
    to EXPSTATUS and EXPINFO at any time.

    Parameters
    ----------
    name : str
        The name of the rig.
    log : logging.Logger, optional
        Where to log, by default the logger called `name`.
    announce : bool or dict
        Whether to announce the rig on the network, as for :meth:`EchoProtocol.server`.

    Examples
    --------
    >>> rig = Rig('camera')
    >>> @rig.on('EXPSTART')
    ... def start(exp_ref, data):
    ...     print('recording', exp_ref)
    >>> @rig.on('EXPEND')
    ... def stop():
    ...     print('stopped')
    >>> rig.run('udp://0.0.0.0:11001')  # doctest: +SKIP
    """

    def __init__(self, name: str, *, log: logging.Logger | None = None, announce: Announce = False) -> None:
        self.name = checked_text(name, 'name')
        self._announce = announce
        self._logger = log or logging.getLogger(name)
        self._log = SafeLog(self._logger)
        self._handlers = HandlerTable()
        self._lifecycle = Lifecycle(name)
        self._lost_handler: Handler | None = None
        self._service: RigService | None = None
        self._closing: asyncio.Future[None] | None = None
        self._is_opening = False

    def __repr__(self) -> str:
        return f'<Rig {self.name} {self.server_uri or "not open"} {self.status.name}>'

    # --- handlers ---

    def on(self, *events: SingleEvent) -> Callable[[_Function], _Function]:
        """Register the decorated function as the handler of one or several events.

        It takes the arguments of the message, or fewer: ``(exp_ref, data)`` for EXPSTART, ``(status)`` for EXPSTATUS,
        ``(status, data)`` for EXPINFO, ``(base_url, tokens)`` for ALYX, and ``(data)`` for the others. The handler of
        EXPEND also serves EXPINTERRUPT, unless that has its own. Without a handler EXPINIT and EXPCLEANUP only change
        the status, and EXPSTART and EXPEND are answered by a failure.

        Parameters
        ----------
        events : str, int or ExpMessage
            The events.

        Returns
        -------
        callable
            The decorator, which returns the function as it is.

        Raises
        ------
        TypeError, ValueError
            There is no such event, it has a handler already, or the function needs other arguments.
        """
        if not events or callable(events[0]):
            raise TypeError("rig.on needs an event: write @rig.on('EXPSTART')")
        singles = [ExpMessage.validate(event, allow_bitwise=False) for event in events]

        def register(function: _Function) -> _Function:
            for event in singles:
                self._handlers.register(event, function)
            return function

        return register

    def on_lost(self, function: _Function) -> _Function:
        """Register the decorated function, which is called without arguments if the main PC goes away in a session.

        Without one, a warning is logged and the rig goes on.

        Parameters
        ----------
        function : callable
            The function.

        Returns
        -------
        callable
            The function as it is.
        """
        if self._lost_handler is not None:
            raise ValueError(f'on_lost has a handler already: {self._lost_handler.name}')
        handler = Handler(ExpMessage.EXPEND, function)
        if handler.arguments([]):
            raise TypeError(f'The on_lost handler takes no arguments, and {handler.name} does')
        self._lost_handler = handler
        return function

    # --- state ---

    @property
    def status(self) -> ExpStatus:
        """ExpStatus: The status of the rig."""
        return self._lifecycle.status

    @property
    def exp_ref(self) -> str | None:
        """:obj:`str` or None: The reference of the experiment that runs, or was the last one to run."""
        return self._lifecycle.exp_ref

    @property
    def server_uri(self) -> str | None:
        """:obj:`str` or None: The URI on which the rig listens, while it is open."""
        return None if self._service is None else self._service.com.server_uri

    @property
    def is_cancelled(self) -> bool:
        """bool: In a handler, whether EXPINTERRUPT or EXPEND has cancelled its work."""
        job = current_job.get()
        return job is not None and job.is_cancelled

    def progress(self, fraction: float, text: str = '') -> None:
        """Report how far the work of the present handler is; from any handler, in its thread or on the loop.

        Parameters
        ----------
        fraction : float
            The part that is done, from 0 to 1.
        text : str
            What the rig does.

        Raises
        ------
        asyncio.CancelledError
            The work was cancelled; let the error pass, so that the handler ends.
        RuntimeError
            This is not called in a handler.
        """
        job, service = current_job.get(), self._service
        if job is None or service is None:
            raise RuntimeError('progress() reports the work of a handler: call it in one')
        if job.is_cancelled:
            raise asyncio.CancelledError
        details = written_progress(str(job.event.name), float(fraction), checked_text(text, 'text') if text else '')
        service.loop.call_soon_threadsafe(service.report_progress, job, details)

    # --- opening and closing ---

    async def open(self, server_uri: UriLike, **kwargs: Unpack[ServerOptions]) -> Rig:
        """Listen, and serve one session after another in the background until `close`.

        Parameters
        ----------
        server_uri : str
            The address to listen on, as for :meth:`EchoProtocol.server`.
        kwargs
            As for :meth:`EchoProtocol.server`, such as ``allow`` and ``key``.

        Returns
        -------
        Rig
            This rig, an asynchronous context manager that closes it.

        Raises
        ------
        RuntimeError
            It is open.
        TypeError, ValueError, OSError, ImportError
            As for :meth:`EchoProtocol.server`.
        """
        if self._service is not None or self._is_opening:
            raise RuntimeError(f'{self.name} is open already')
        if ExpMessage.EXPSTART in self._handlers and ExpMessage.EXPEND not in self._handlers:
            self._log.warning(
                "%s has a handler of EXPSTART and none of EXPEND: register one with @rig.on('EXPEND')", self.name
            )
        self._is_opening = True
        try:
            kwargs = {'announce': self._announce, **kwargs}
            com = await EchoProtocol.server(server_uri, self.name, self._logger, **kwargs)
        finally:
            self._is_opening = False
        self._service = RigService(com, self._handlers, self._lifecycle, self._lost_handler, self._log)
        return self

    async def serve(self, server_uri: UriLike, **kwargs: Unpack[ServerOptions]) -> None:
        """Listen, and serve one session after another until this is cancelled or the rig is closed.

        Parameters
        ----------
        server_uri, kwargs : optional
            As for `open`.

        Raises
        ------
        RuntimeError, TypeError, ValueError, OSError
            As for `open`.
        """
        await self.open(server_uri, **kwargs)
        self._log.info('%s listens on %s', self.name, self.server_uri)
        try:
            await self.wait_closed()
        finally:
            await self._closed()

    def run(self, server_uri: UriLike, **kwargs: Unpack[ServerOptions]) -> None:
        """Serve one session after another until Ctrl-C or SIGTERM; in a program without an event loop.

        If an experiment runs then, the handler of EXPINTERRUPT or EXPEND is called, and the main PC is informed. A
        second Ctrl-C ends the program at once. If the program has not set up logging, messages of level INFO go to
        stderr.

        Parameters
        ----------
        server_uri, kwargs : optional
            As for `open`.

        Raises
        ------
        RuntimeError, TypeError, ValueError, OSError
            As for `open`.
        """
        if not logging.getLogger().handlers and not self._logger.handlers:
            logging.basicConfig(level=logging.INFO, format='%(asctime)s %(name)s: %(message)s')
        try:
            run(interruptible(self.serve(server_uri, **kwargs)))
        except Interrupted:
            self._log.info('%s has ended', self.name)

    def close(self) -> None:
        """Stop the work of a running session, and close; see `wait_closed`."""
        if self._service is not None and self._closing is None:
            self._closing = asyncio.ensure_future(self._close(self._service))

    async def wait_closed(self) -> None:
        """Wait until the rig is closed."""
        if self._service is not None:
            await asyncio.shield(self._service.closed)

    async def _close(self, service: RigService) -> None:
        try:
            await service.close()
        finally:
            self._service = self._closing = None

    async def _closed(self) -> None:
        """Close and wait, also if this is cancelled meanwhile: otherwise the work would go on."""
        self.close()
        closing = self._closing
        if closing is not None:
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                await asyncio.wait({closing})
                raise

    async def __aenter__(self) -> Rig:
        if self._service is None:
            raise ConnectionClosedError(f'{self.name} is not open: write async with await rig.open(...)')
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closed()
