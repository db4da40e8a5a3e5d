"""The methods that would wait, as methods that return futures."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from ..communicator.protocol import EchoProtocol as Asynchronous
from ..messages import ExpMessage
from ..services.services import Services as AsynchronousServices
from .background import Background
from .mirror import mirrors
from .reading import confirmed, limited, on_event, reads_events
from .ways import Calls

__all__ = ['SubmitEchoProtocol', 'SubmitServices']


@mirrors(Asynchronous)
class SubmitEchoProtocol:
    """The methods of a communicator that would wait, as ones that return a `concurrent.futures.Future`.

    Cancelling a future cancels the call.

    Parameters
    ----------
    communicator : echorig.EchoProtocol
        The communicator.
    owner : Background
        The thread that it was opened on.
    """

    def __init__(self, communicator: Asynchronous, owner: Background) -> None:
        self._com = communicator
        self._owner = owner

    def _calls(self, timeout: float | None = None) -> Calls:
        return confirmed(self._owner, self._com, timeout)

    def wait_closed(self) -> Future[None]:
        return self._owner.waits.submit(self._com.wait_closed)

    def on_event(self, event: str | int | ExpMessage, timeout: float | None = None) -> Future[tuple[Any, ...]]:
        return reads_events(self._owner, self._com, event, timeout).submit(on_event, self._com, event, timeout)

    def confirmed_send(self, data: Any, addr: Any = None, timeout: float | None = None) -> Future[None]:
        return self._calls(timeout).submit(self._com.confirmed_send, data, addr, timeout)

    def ping(self, addr: Any = None, timeout: float | None = None) -> Future[float]:
        return self._calls(timeout).submit(self._com.ping, addr, timeout)

    def init(self, data: Any = None, addr: Any = None) -> Future[None]:
        return self._calls().submit(self._com.init, data, addr)

    def start(self, exp_ref: Any, data: Any = None, addr: Any = None) -> Future[None]:
        return self._calls().submit(self._com.start, exp_ref, data, addr)

    def stop(self, data: Any = None, immediately: bool = False, addr: Any = None) -> Future[None]:
        return self._calls().submit(self._com.stop, data, immediately, addr)

    def status(self, status: Any, addr: Any = None) -> Future[None]:
        return self._calls().submit(self._com.status, status, addr)

    def info(self, status: Any, data: Any = None, addr: Any = None) -> Future[None]:
        return self._calls().submit(self._com.info, status, data, addr)

    def cleanup(self, data: Any = None, addr: Any = None) -> Future[None]:
        return self._calls().submit(self._com.cleanup, data, addr)

    def alyx(self, alyx: Any = None, addr: Any = None) -> Future[list[Any] | None]:
        return self._calls().submit(self._com.alyx, alyx, addr)


@mirrors(AsynchronousServices)
class SubmitServices:
    """The methods of a set of rigs that would wait, as ones that return a `concurrent.futures.Future`.

    Cancelling a future cancels the call.

    Parameters
    ----------
    rigs : echorig.Services
        The set.
    owner : Background
        The thread that its communicators were opened on.
    """

    def __init__(self, rigs: AsynchronousServices, owner: Background) -> None:
        self._rigs = rigs
        self._owner = owner

    @property
    def _calls(self) -> Calls:
        return limited(self._owner, self._rigs.timeout or None)

    def await_all(self, event: str | int | ExpMessage) -> Future[dict[str, Any]]:
        return self._calls.submit(self._rigs.await_all, event)

    def ping(self, timeout: float | None = None) -> Future[dict[str, Any]]:
        return limited(self._owner, 1.0 if timeout is None else timeout).submit(self._rigs.ping, timeout)

    def init(self, data: Any = None, concurrent: bool = True) -> Future[dict[str, Any]]:
        return self._calls.submit(self._rigs.init, data, concurrent)

    def start(self, exp_ref: Any, data: Any = None, concurrent: bool = True) -> Future[dict[str, Any]]:
        return self._calls.submit(self._rigs.start, exp_ref, data, concurrent)

    def stop(self, data: Any = None, immediately: bool = False, **kwargs: Any) -> Future[dict[str, Any]]:
        return self._calls.submit(self._rigs.stop, data, immediately, **kwargs)

    def status(self, status: Any, **kwargs: Any) -> Future[dict[str, Any]]:
        return self._calls.submit(self._rigs.status, status, **kwargs)

    def info(self, status: Any, data: Any = None, **kwargs: Any) -> Future[dict[str, Any]]:
        return self._calls.submit(self._rigs.info, status, data, **kwargs)

    def cleanup(self, data: Any = None, concurrent: bool = True) -> Future[dict[str, Any]]:
        return self._calls.submit(self._rigs.cleanup, data, concurrent)

    def alyx(self, alyx: Any) -> Future[None]:
        return self._owner.calls.submit(self._rigs.alyx, alyx)
