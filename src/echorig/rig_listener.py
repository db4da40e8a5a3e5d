"""Waiting for the answer of one rig, and for everything that means that there will be none."""

from __future__ import annotations

import asyncio
from typing import Any

from .callbacks import each
from .communicator import event_of_notice
from .errors import ConnectionClosedError, EchoTimeoutError, RemoteCallbackError
from .messages import ExpMessage
from .uri import Address

__all__ = ['RigListener']

NOTICE = ExpMessage(0)


class RigListener:
    """Waits for one rig's answer, and for whatever means that there will be none.

    Parameters
    ----------
    rig : Service
        The rig.
    event : ExpMessage
        The event of the answer.
    """

    def __init__(self, rig: Any, event: ExpMessage) -> None:
        self.rig = rig
        self.event = event
        self._out_of_time = False
        self._begun = asyncio.get_running_loop().time()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answer = asyncio.ensure_future(rig.on_event(event))
        try:
            rig.assign_callback(NOTICE, self._on_notice)
            if not event & ExpMessage.EXPINTERRUPT:
                rig.assign_callback(ExpMessage.EXPINTERRUPT, self._on_interrupt)
        except ConnectionClosedError as ex:  # this rig fails; the others are told all the same
            self._fail(ex)
        self._lost = getattr(rig, 'on_connection_lost', None)
        if asyncio.isfuture(self._lost):
            self._lost.add_done_callback(self._on_lost)
        else:
            self._lost = None

    async def ask(
        self,
        method: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        deadline: float | None,
        timeout: float | None = None,
    ) -> Any:
        """Send the message and return the data of the answer."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        timer = None if deadline is None or task is None else loop.call_at(deadline, self._stop_sending, task)
        try:
            await method(*args, **kwargs)
        except asyncio.CancelledError:
            if not self._out_of_time:
                raise
            raise EchoTimeoutError(
                f'{self.rig.name} did not echo {_names(self.event)} within {loop.time() - self._begun:.3f} s'
            ) from None
        finally:
            if timer is not None:
                timer.cancel()
        if timeout:
            deadline = loop.time() + timeout
        return await self.answer(deadline, 'confirmed, but ')

    def _stop_sending(self, task: asyncio.Task[Any]) -> None:
        self._out_of_time = True  # the answers are due before the echo is
        task.cancel()

    async def answer(self, deadline: float | None, so_far: str = '') -> Any:
        """Return the data of the answer, or raise what means that there will be none."""
        loop = asyncio.get_running_loop()
        timeout = None if deadline is None else max(0.0, deadline - loop.time())
        await asyncio.wait({self._answer, self._failure}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._answer.done():
            return self._answer.result()[0]
        if self._failure.done():
            self._failure.result()
        raise EchoTimeoutError(
            f'{self.rig.name} {so_far}did not answer {_names(self.event)} within {loop.time() - self._begun:.3f} s'
        )

    def leave(self) -> None:
        """Leave nothing behind: no callback, no task, no exception that nobody has seen."""
        self.rig.clear_callbacks(NOTICE, self._on_notice)
        if not self.event & ExpMessage.EXPINTERRUPT:
            self.rig.clear_callbacks(ExpMessage.EXPINTERRUPT, self._on_interrupt)
        if self._lost is not None:
            self._lost.remove_done_callback(self._on_lost)
        for future in (self._answer, self._failure):
            future.cancel()
            future.add_done_callback(_see)

    def _fail(self, error: Exception) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)

    def _on_notice(self, data: list[Any], addr: Address) -> None:
        event = event_of_notice(data)
        if event is None or event & self.event:
            text = str(data[0]) if data else 'no details'
            self._fail(
                RemoteCallbackError(f'{self.rig.name} failed on {self.event.name}: {text}', self.event, text, addr)
            )

    def _on_interrupt(self, data: list[Any], addr: Address) -> None:
        text = '' if not data or data[0] is None else str(data[0])
        self._fail(
            RemoteCallbackError(
                f'{self.rig.name} answered {self.event.name} with EXPINTERRUPT' + (f': {text}' if text else ''),
                self.event,
                text,
                addr,
            )
        )

    def _on_lost(self, future: asyncio.Future[Any]) -> None:
        reason = '' if future.cancelled() or future.result() is None else f': {future.result()}'
        self._fail(ConnectionClosedError(f'{self.rig.name} is closed or lost{reason}'))


def _names(event: ExpMessage) -> str:
    return ' or '.join(str(single.name) for single in each(event))


def _see(future: asyncio.Future[Any]) -> None:
    """Retrieve an exception that nobody waits for any more."""
    if not future.cancelled():
        future.exception()
