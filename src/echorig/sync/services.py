"""`Services` and `Presence` for programs without an event loop: a set of rigs that are told together."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from os import PathLike
from types import MappingProxyType
from typing import Any, TypeVar

from ..checks import flag
from ..communicator.service import Service
from ..messages import ExpMessage
from ..services.fan_out import each_rig
from ..services.presence import Presence as AsynchronousPresence
from ..services.presence import RigPresence
from ..services.services import Services as Asynchronous
from .blocking import CallbackGuard, Context, Entered, Mirrored, Stream, Twin, blocking, made, submitted, threadsafe
from .portal import Portal, current_portal
from .protocol import EchoProtocol

__all__ = ['Presence', 'Services', 'SubmitServices']

_Self = TypeVar('_Self', bound='Services')
_ECHO = 1.0  # seconds; as long as each rig is waited for, unless its own timeout is another


class _Rigs(Asynchronous):
    """The asynchronous set, which sends messages of any kind."""

    __slots__ = ()

    async def signal(self, /, event: str | int | ExpMessage, method: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return await self._signal(event, method, *args, **kwargs)


class SubmitServices(Twin):
    """The methods of a set of rigs that would wait, as ones that return a future; cancelling it cancels the call."""

    await_all = submitted(Asynchronous.await_all, 'timeout')
    ping = submitted(Asynchronous.ping, _ECHO)
    init = submitted(Asynchronous.init, 'timeout')
    start = submitted(Asynchronous.start, 'timeout')
    stop = submitted(Asynchronous.stop, 'timeout')
    status = submitted(Asynchronous.status, 'timeout')
    info = submitted(Asynchronous.info, 'timeout')
    cleanup = submitted(Asynchronous.cleanup, 'timeout')
    alyx = submitted(Asynchronous.alyx, _ECHO)


class Presence(Entered, UserDict[str, RigPresence]):
    """Which rigs of a set are there; made by :meth:`Services.watch`, and at work during ``with``.

    A mapping of the names of the rigs to what is known of them. Everything else is as with :class:`echorig.Presence`.
    """

    def __init__(self, asynchronous: AsynchronousPresence, portal: Portal) -> None:
        super().__init__(asynchronous, portal)
        self.data = asynchronous  # type: ignore[assignment]

    assign_callback = threadsafe(AsynchronousPresence.assign_callback)
    clear_callbacks = threadsafe(AsynchronousPresence.clear_callbacks)
    events = made(AsynchronousPresence.events, Stream)


class _Messages(Context):
    """The messages of an experiment; a type checker would give them the types of `Service` in a class of that kind."""

    init = blocking(Asynchronous.init, 'timeout')
    start = blocking(Asynchronous.start, 'timeout')
    stop = blocking(Asynchronous.stop, 'timeout')
    status = blocking(Asynchronous.status, 'timeout')
    info = blocking(Asynchronous.info, 'timeout')
    cleanup = blocking(Asynchronous.cleanup, 'timeout')
    alyx = blocking(Asynchronous.alyx, _ECHO)


class Services(_Messages, Service, UserDict[str, EchoProtocol]):
    """A set of rigs, by name, in the order given; it cannot be changed, and any thread may use it.

    Everything else is as with :class:`echorig.Services`.
    The rigs are communicators of `echorig.sync`, with distinct names.
    """

    asynchronous: Asynchronous

    def __init__(self, remote_rigs: Iterable[EchoProtocol], timeout: float | None = 10.0) -> None:
        rigs = list(each_rig(remote_rigs, EchoProtocol, 'an echorig.sync.EchoProtocol'))
        portal = rigs[0].portal if rigs else current_portal()
        super().__init__(_Rigs([rig.asynchronous for rig in rigs], timeout), portal)
        self.submit = SubmitServices(self.asynchronous, self.portal)
        self.data = MappingProxyType({rig.name: rig for rig in rigs})  # type: ignore[assignment]

    @classmethod
    def connect(
        cls: type[_Self], rigs: Mapping[str, Any] | str | PathLike[str], timeout: float | None = 10.0, **kwargs: Any
    ) -> _Self:
        """Open a client for each rig, all at once, and return the set, as :meth:`echorig.Services.connect`."""
        portal = current_portal()
        opened = portal.open('connect', partial(Asynchronous.connect, rigs, timeout, **kwargs))
        return cls([EchoProtocol(com, portal) for com in opened.values()], opened.timeout)

    #: How long to wait for the answers, in seconds; None or 0 waits without limit.
    timeout = Mirrored[float | None]()

    @property
    def is_connected(self) -> bool:
        """bool: Whether there are rigs and all of them are connected."""
        return len(self) > 0 and all(rig.is_connected for rig in self.values())

    watch = made(Asynchronous.watch, Presence)
    clear_callbacks = threadsafe(Asynchronous.clear_callbacks)
    await_all = blocking(Asynchronous.await_all, 'timeout')
    ping = blocking(Asynchronous.ping, _ECHO)

    def assign_callback(
        self, event: str | int | ExpMessage, callback: Callable[..., Any], return_service: bool = False
    ) -> None:
        """Register a function with every rig; see :meth:`EchoProtocol.assign_callback`.

        If `return_service` is true, the rig (an `echorig.sync.EchoProtocol`) is the last argument of each call.
        """
        flag(return_service, 'return_service')
        for rig in self.values():
            guard = CallbackGuard(callback, rig if return_service else None)
            self.portal.run(partial(rig.asynchronous.assign_callback, event, guard))

    _signal = blocking(_Rigs.signal, 'timeout')
