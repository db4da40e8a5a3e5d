"""`Services` and `Presence` for programs without an event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from ..aliases import (
    AnyCallback,
    AnyEvent,
    AnyRigCallback,
    Callback,
    Data,
    FixedDict,
    RigCallback,
    RigOptions,
    SingleEvent,
    Unpack,
    UriLike,
)
from ..checks import flag
from ..messages import ExpMessage
from ..services.fan_out import checked_rigs, described_rigs
from ..services.presence import Presence as AsynchronousPresence
from ..services.presence import RigPresence
from ..services.services import Services as Asynchronous
from .blocking import CallbackGuard, Stream, blocking, proxied, submitted, threadsafe
from .experiment import Experiment, ThreadedExperiment
from .portal import Portal, current_portal
from .protocol import EchoProtocol
from .proxy import Attribute, ClosableProxy, ContextProxy, Proxy, ServiceBase

if TYPE_CHECKING:
    from ..journal.writer import Journal

__all__ = ['Presence', 'Services', 'SubmitServices']

_Self = TypeVar('_Self', bound='Services')
_ECHO = 1.0  # seconds; the default time-out of each rig


class _Rigs(Asynchronous):
    """The asynchronous set, with `_signal` under a name that other classes may use."""

    __slots__ = ()
    _experiment = ThreadedExperiment

    async def signal(self, /, event: AnyEvent, method: str, *args: Any, **kwargs: Any) -> dict[str, Data]:
        return await self._signal(event, method, *args, **kwargs)


class SubmitServices(Proxy):
    """The methods of a set of rigs that wait, here returning a future; cancelling the future cancels the call."""

    await_all = submitted(Asynchronous.await_all, 'timeout')
    ping = submitted(Asynchronous.ping, _ECHO)
    wait_online = submitted(Asynchronous.wait_online, None)
    init = submitted(Asynchronous.init, 'timeout')
    start = submitted(Asynchronous.start, 'timeout')
    stop = submitted(Asynchronous.stop, 'timeout')
    status = submitted(Asynchronous.status, 'timeout')
    info = submitted(Asynchronous.info, 'timeout')
    cleanup = submitted(Asynchronous.cleanup, 'timeout')
    alyx = submitted(Asynchronous.alyx, _ECHO)


class Presence(ContextProxy, FixedDict[RigPresence]):
    """The presence of the rigs of a set, by name; made by :meth:`Services.watch`, and updated during ``with``.

    Everything else is as with :class:`echorig.Presence`.
    """

    def __init__(self, asynchronous: AsynchronousPresence, portal: Portal) -> None:
        super().__init__(asynchronous, portal)
        self.data = asynchronous

    assign_callback = threadsafe(AsynchronousPresence.assign_callback)
    clear_callbacks = threadsafe(AsynchronousPresence.clear_callbacks)
    events = proxied(AsynchronousPresence.events, Stream)


class _Messages(ClosableProxy):
    """The messages of an experiment."""

    init = blocking(Asynchronous.init, 'timeout')
    start = blocking(Asynchronous.start, 'timeout')
    stop = blocking(Asynchronous.stop, 'timeout')
    status = blocking(Asynchronous.status, 'timeout')
    info = blocking(Asynchronous.info, 'timeout')
    cleanup = blocking(Asynchronous.cleanup, 'timeout')
    alyx = blocking(Asynchronous.alyx, _ECHO)


class Services(_Messages, ServiceBase, FixedDict[EchoProtocol]):
    """A set of rigs, by name, in the order given; it cannot be changed, and any thread may use it.

    Everything else is as with :class:`echorig.Services`.
    The rigs are communicators of `echorig.sync`, with distinct names.
    """

    asynchronous: Asynchronous

    def __init__(
        self,
        remote_rigs: Iterable[EchoProtocol],
        timeout: float | None = 10.0,
        journal: Journal | str | PathLike[str] | None = None,
    ) -> None:
        rigs = list(checked_rigs(remote_rigs, EchoProtocol, 'an echorig.sync.EchoProtocol'))
        portal = rigs[0].portal if rigs else current_portal()
        super().__init__(_Rigs([rig.asynchronous for rig in rigs], timeout, journal), portal)
        self.submit = SubmitServices(self.asynchronous, self.portal)
        self.data = MappingProxyType({rig.name: rig for rig in rigs})

    def __repr__(self) -> str:
        return f'<echorig.sync.{type(self).__name__} of {described_rigs(self)}>'

    @classmethod
    def connect(
        cls: type[_Self],
        rigs: Mapping[str, UriLike] | str | PathLike[str],
        timeout: float | None = 10.0,
        *,
        wait: bool = False,
        **kwargs: Unpack[RigOptions],
    ) -> _Self:
        """Open a client for each rig, all at once, and return the set, as :meth:`echorig.Services.connect`."""
        return cls._opened('connect', partial(Asynchronous.connect, rigs, timeout, wait=wait, **kwargs))

    @classmethod
    def discover(
        cls: type[_Self],
        names: Iterable[str] | None,
        group: str | None = None,
        timeout: float | None = 10.0,
        *,
        interfaces: Iterable[str] | None = None,
        broker: str | None = None,
        wait: bool = False,
        **kwargs: Unpack[RigOptions],
    ) -> _Self:
        """Find rigs, open a client for each, and return the set, as :meth:`echorig.Services.discover`."""
        where: dict[str, Any] = {'interfaces': interfaces, 'broker': broker}
        find = partial(Asynchronous.discover, names, group, timeout, **where, wait=wait, **kwargs)
        return cls._opened('discover', find)

    @classmethod
    def _opened(cls: type[_Self], name: str, work: Callable[[], Coroutine[Any, Any, Asynchronous]]) -> _Self:
        portal = current_portal()
        opened = portal.open(name, work)
        return cls([EchoProtocol(com, portal) for com in opened.values()], opened.timeout)

    #: How long to wait for the answers, in seconds; None or 0 waits without limit.
    timeout = Attribute[float | None]()

    @property
    def is_connected(self) -> bool:
        """bool: Whether there are rigs and all of them are connected."""
        return len(self) > 0 and all(rig.is_connected for rig in self.values())

    watch = proxied(Asynchronous.watch, Presence)
    experiment = proxied(Asynchronous.experiment, Experiment)
    wait_online = blocking(Asynchronous.wait_online, None)
    clear_callbacks = threadsafe(Asynchronous.clear_callbacks)
    clock = threadsafe(Asynchronous.clock)
    await_all = blocking(Asynchronous.await_all, 'timeout')
    ping = blocking(Asynchronous.ping, _ECHO)

    @overload
    def assign_callback(
        self, event: SingleEvent, callback: Callback, return_service: Literal[False] = False
    ) -> None: ...
    @overload
    def assign_callback(
        self, event: int | ExpMessage, callback: AnyCallback, return_service: Literal[False] = False
    ) -> None: ...
    @overload
    def assign_callback(
        self, event: SingleEvent, callback: RigCallback[EchoProtocol], return_service: Literal[True]
    ) -> None: ...
    @overload
    def assign_callback(
        self, event: int | ExpMessage, callback: AnyRigCallback[EchoProtocol], return_service: Literal[True]
    ) -> None: ...
    def assign_callback(self, event: AnyEvent, callback: Callable[..., object], return_service: bool = False) -> None:
        """Register a function with every rig; see :meth:`EchoProtocol.assign_callback`.

        If `return_service` is true, the rig (an `echorig.sync.EchoProtocol`) is the last argument of each call.
        """
        event = ExpMessage.validate(event)
        flag(return_service, 'return_service')
        for rig in self.values():
            guard = CallbackGuard(callback, rig if return_service else None)
            self.portal.run(partial(rig.asynchronous.assign_callback, event, guard))

    _signal = blocking(_Rigs.signal, 'timeout')
