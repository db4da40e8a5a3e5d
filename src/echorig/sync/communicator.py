"""`EchoProtocol` for programs without an event loop: the same names, each call waits for its end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..communicator.protocol import EchoProtocol as Asynchronous
from ..messages import ExpMessage
from ..uri import Address
from .background import Background
from .guarded import Guarded
from .mirror import mirrors
from .process import background
from .reading import confirmed, on_event, reads_events
from .state import Handle
from .stream import Stream
from .submit import SubmitEchoProtocol
from .ways import Calls

__all__ = ['EchoProtocol']


@mirrors(Asynchronous)
class EchoProtocol(Handle):
    """A communicator whose methods wait; made by :meth:`client` and :meth:`server`, usable from any thread.

    Everything else is as with :class:`echorig.EchoProtocol`. Callbacks run on the background thread.

    Parameters
    ----------
    communicator : echorig.EchoProtocol
        An asynchronous communicator that was opened on the background thread.
    owner : Background
        That thread.

    Attributes
    ----------
    name : str
        The label.
    server_uri : str
        The complete URI.
    logger : logging.Logger
        Where it logs.
    tuning : Tuning
        Limits and timings.
    asynchronous : echorig.EchoProtocol
        The communicator itself, for callbacks that are coroutine functions; no other thread may use it.
    submit : SubmitEchoProtocol
        The same methods for those who do not want to wait: each returns a `concurrent.futures.Future`.
    """

    encode = staticmethod(Asynchronous.encode)
    decode = staticmethod(Asynchronous.decode)

    def __init__(self, communicator: Asynchronous, owner: Background) -> None:
        super().__init__(communicator, owner)
        self.submit = SubmitEchoProtocol(communicator, owner)

    # --- opening ---

    @staticmethod
    def server(
        server_uri: Any, name: str | None = None, log: logging.Logger | None = None, **kwargs: Any
    ) -> EchoProtocol:
        owner = background()
        return EchoProtocol(owner.open(Asynchronous.server, server_uri, name, log, **kwargs), owner)

    @staticmethod
    def client(
        server_uri: Any, name: str | None = None, log: logging.Logger | None = None, **kwargs: Any
    ) -> EchoProtocol:
        owner = background()
        return EchoProtocol(owner.open(Asynchronous.client, server_uri, name, log, **kwargs), owner)

    # --- listening ---

    def assign_callback(self, event: str | int | ExpMessage, callback: Callable[..., Any]) -> None:
        """Register a function to be told, on the background thread, when an event comes.

        It is called as ``callback(data, addr)``, or as ``callback(data, addr, event)`` if it was registered for a
        combination of events. A coroutine function runs as a task. If a callback raises, the sender is sent a notice.
        While a function runs, nothing else is received or confirmed in the whole program, so it must be quick; methods
        that wait raise `RuntimeError` in it. A future for one event is ``submit.on_event(event)``.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events; 0 for the notices of remote failures.
        callback : callable
            What to call.

        Raises
        ------
        TypeError
            `callback` is not callable, or `event` no event.
        ValueError
            There is no such event.
        ConnectionClosedError
            The communicator is closed.
        """
        self._owner.run(self.asynchronous.assign_callback, event, Guarded(callback))

    def clear_callbacks(
        self, event: str | int | ExpMessage, callback: Callable[..., Any] | None = None, cancel_futures: bool = True
    ) -> int:
        return self._owner.run(self.asynchronous.clear_callbacks, event, callback, cancel_futures)

    def on_event(self, event: str | int | ExpMessage, timeout: float | None = None) -> tuple[Any, ...]:
        """Wait for an event.

        In the server role nothing is missed by a loop around this: once an event has been waited for, its
        messages are kept while nobody waits (at most 1,024, for at most 10 seconds) and returned in order.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.
        timeout : float, optional
            How long to wait, in seconds, 0 for what has been kept; by default without limit.

        Returns
        -------
        tuple
            ``(data, addr)``, or ``(data, addr, event)`` for a combination: what came with the event (a
            list), the (host, port) that it came from, and which event it was.

        Raises
        ------
        EchoTimeoutError
            It did not come in time (a `TimeoutError`).
        TypeError, ValueError
            There is no such event, or the time-out is no number, or negative.
        ConnectionClosedError
            The communicator is closed, or is closed meanwhile, or the connection is lost.

        Examples
        --------
        >>> data, addr = com.on_event('EXPSTART', timeout=60)  # doctest: +SKIP
        >>> data, addr, event = com.on_event(ExpMessage.EXPEND | ExpMessage.EXPINTERRUPT)  # doctest: +SKIP
        """
        com = self.asynchronous
        return reads_events(self._owner, com, event, timeout).call(on_event, com, event, timeout)

    def events(
        self, event: str | int | ExpMessage = 255, limit: int | None = None
    ) -> Stream[tuple[list[Any], Address, ExpMessage]]:
        """Read messages with ``for``: all that come while a ``with`` block lasts, in both roles.

        Any number of streams may be open; each gets every message, and so does everybody else who listens.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events, by default any; 0 for the notices of remote failures.
        limit : int, optional
            How many messages may wait to be read, by default `Tuning.max_backlog`. Of more the oldest is
            dropped, which is logged, and counted in ``stream.dropped``.

        Returns
        -------
        Stream
            A context manager and iterator of ``(data, addr, event)``. When the communicator is closed, the
            iteration raises `ConnectionClosedError` after what has come until then.

        Raises
        ------
        TypeError, ValueError
            There is no such event, or the limit is no positive number.

        Examples
        --------
        >>> with com.events() as stream:  # doctest: +SKIP
        ...     for data, addr, event in stream:
        ...         print(event.name, data)
        """
        return Stream(lambda: self.asynchronous.events(event, limit), self._owner)

    # --- sending ---

    def _calls(self, timeout: float | None = None) -> Calls:
        return confirmed(self._owner, self.asynchronous, timeout)

    def awaiting_response(self, addr: Any = None) -> bool:
        return self._owner.run(self.asynchronous.awaiting_response, addr)

    def send(self, data: Any, addr: Any = None) -> None:
        self._owner.run(self.asynchronous.send, data, addr)

    def confirmed_send(self, data: Any, addr: Any = None, timeout: float | None = None) -> None:
        self._calls(timeout).call(self.asynchronous.confirmed_send, data, addr, timeout)

    def ping(self, addr: Any = None, timeout: float | None = None) -> float:
        return self._calls(timeout).call(self.asynchronous.ping, addr, timeout)

    def init(self, data: Any = None, addr: Any = None) -> None:
        self._calls().call(self.asynchronous.init, data, addr)

    def start(self, exp_ref: Any, data: Any = None, addr: Any = None) -> None:
        self._calls().call(self.asynchronous.start, exp_ref, data, addr)

    def stop(self, data: Any = None, immediately: bool = False, addr: Any = None) -> None:
        self._calls().call(self.asynchronous.stop, data, immediately, addr)

    def status(self, status: Any, addr: Any = None) -> None:
        self._calls().call(self.asynchronous.status, status, addr)

    def info(self, status: Any, data: Any = None, addr: Any = None) -> None:
        self._calls().call(self.asynchronous.info, status, data, addr)

    def cleanup(self, data: Any = None, addr: Any = None) -> None:
        self._calls().call(self.asynchronous.cleanup, data, addr)

    def alyx(self, alyx: Any = None, addr: Any = None) -> list[Any] | None:
        return self._calls().call(self.asynchronous.alyx, alyx, addr)
