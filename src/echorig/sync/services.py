"""`Services` for programs without an event loop: a set of rigs that are told together, each call waits for its end."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from types import MappingProxyType, TracebackType
from typing import Any, TypeVar

from ..checks import flag
from ..communicator.service import Service
from ..events.callbacks import checked_listener
from ..messages import ExpMessage
from ..services.fan_out import each_rig
from ..services.services import Services as Asynchronous
from .communicator import EchoProtocol
from .guarded import Guarded
from .mirror import mirrors
from .presence import Presence
from .process import background
from .reading import limited
from .submit import SubmitServices
from .ways import Calls

__all__ = ['Services']

_Self = TypeVar('_Self', bound='Services')


@mirrors(Asynchronous)
class Services(Service, UserDict[str, EchoProtocol]):
    """A set of rigs, by name, in the order given; it cannot be changed, and any thread may use it.

    Everything else is as with :class:`echorig.Services`.

    Parameters
    ----------
    remote_rigs : iterable of EchoProtocol
        The communicators, those of `echorig.sync`, with distinct names.
    timeout : float or None
        How long to wait for the answers, in seconds; None or 0 waits without limit.

    Attributes
    ----------
    submit : SubmitServices
        The same methods for those who do not want to wait: each returns a `concurrent.futures.Future`.

    Raises
    ------
    TypeError
        One of them is no `echorig.sync.EchoProtocol`.
    ValueError
        Two have the same name.
    """

    def __init__(self, remote_rigs: Iterable[EchoProtocol], timeout: float | None = 10.0) -> None:
        super().__init__()
        rigs = list(each_rig(remote_rigs, EchoProtocol, 'an echorig.sync.EchoProtocol'))
        self._rigs = Asynchronous([rig.asynchronous for rig in rigs], timeout)
        self._owner = rigs[0]._owner if rigs else background()
        self.submit = SubmitServices(self._rigs, self._owner)
        self.data = MappingProxyType({rig.name: rig for rig in rigs})  # type: ignore[assignment]

    @classmethod
    def connect(
        cls: type[_Self],
        rigs: Mapping[str, Any] | str | PathLike[str],
        timeout: float | None = 10.0,
        **kwargs: Any,
    ) -> _Self:
        owner = background()
        opened = owner.open(Asynchronous.connect, rigs, timeout, **kwargs)
        return cls([EchoProtocol(com, owner) for com in opened.values()], opened.timeout)

    @property
    def timeout(self) -> float | None:
        """:obj:`float` or None: How long to wait for the answers, in seconds; None or 0 waits without limit."""
        return self._rigs.timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._rigs.timeout = seconds

    @property
    def is_connected(self) -> bool:
        """bool: Whether there are rigs and all of them are connected."""
        return len(self) > 0 and all(rig.is_connected for rig in self.values())

    @property
    def _calls(self) -> Calls:
        return limited(self._owner, self._rigs.timeout or None)

    # --- listening ---

    def assign_callback(
        self, event: str | int | ExpMessage, callback: Callable[..., Any], return_service: bool = False
    ) -> None:
        """Register a function with every rig; see :meth:`EchoProtocol.assign_callback`.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.
        callback : callable
            What to call: as ``callback(data, addr)``, with the event as a further argument if it was registered for a
            combination, and with the rig (an `echorig.sync.EchoProtocol`) as the last if `return_service` is true.
        return_service : bool
            Whether to pass the rig that the message came from.

        Raises
        ------
        TypeError, ValueError
            `callback` is not callable, or there is no such event.
        """
        ExpMessage.validate(event)
        checked_listener(callback, futures=False)
        flag(return_service, 'return_service')
        for rig in self.values():
            guarded = Guarded(callback, rig) if return_service else Guarded(callback)
            self._owner.run(rig.asynchronous.assign_callback, event, guarded)

    def clear_callbacks(
        self, event: str | int | ExpMessage, callback: Callable[..., Any] | None = None
    ) -> dict[str, int]:
        return self._owner.run(self._rigs.clear_callbacks, event, callback)

    def await_all(self, event: str | int | ExpMessage) -> dict[str, Any]:
        return self._calls.call(self._rigs.await_all, event)

    def ping(self, timeout: float | None = None) -> dict[str, Any]:
        return limited(self._owner, 1.0 if timeout is None else timeout).call(self._rigs.ping, timeout)

    def watch(self, interval: float = 1.0, timeout: float = 1.0) -> Presence:
        """Find out in the background which rigs are there, and be told when one comes, goes or begins anew.

        Parameters
        ----------
        interval : float
            How long after each ping of a rig the next follows, in seconds, give or take a tenth.
        timeout : float
            How long a rig has for its echo, in seconds.

        Returns
        -------
        Presence
            It is at work during ``with``, or until the set is closed.

        Raises
        ------
        TypeError, ValueError
            A time is not a positive number.

        Examples
        --------
        >>> with rigs.watch() as presence:  # doctest: +SKIP
        ...     rigs.start('2026-01-31_1_mouse7')
        ...     print(presence['camera'].round_trip)
        >>> presence = rigs.watch()  # doctest: +SKIP
        >>> with presence.events() as stream, presence:  # in this order, to miss nothing  # doctest: +SKIP
        ...     for change in stream:
        ...         print(change.name, change.state)
        """
        return Presence(lambda: self._rigs.watch(interval, timeout), self._owner)

    # --- the messages of an experiment ---

    def init(self, data: Any = None, concurrent: bool = True) -> dict[str, Any]:
        return self._calls.call(self._rigs.init, data, concurrent)

    def start(self, exp_ref: Any, data: Any = None, concurrent: bool = True) -> dict[str, Any]:
        return self._calls.call(self._rigs.start, exp_ref, data, concurrent)

    def stop(self, data: Any = None, immediately: bool = False, **kwargs: Any) -> dict[str, Any]:
        return self._calls.call(self._rigs.stop, data, immediately, **kwargs)

    def status(self, status: Any, **kwargs: Any) -> dict[str, Any]:
        return self._calls.call(self._rigs.status, status, **kwargs)

    def info(self, status: Any, data: Any = None, **kwargs: Any) -> dict[str, Any]:
        return self._calls.call(self._rigs.info, status, data, **kwargs)

    def cleanup(self, data: Any = None, concurrent: bool = True) -> dict[str, Any]:
        return self._calls.call(self._rigs.cleanup, data, concurrent)

    def alyx(self, alyx: Any) -> None:
        self._owner.calls.call(self._rigs.alyx, alyx)

    def _signal(self, event: str | int | ExpMessage, method: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self._calls.call(self._rigs._signal, event, method, *args, **kwargs)

    # --- closing ---

    def close(self) -> None:
        """Close every communicator; see :meth:`EchoProtocol.close`."""
        self._owner.close([rig.asynchronous for rig in self.values()], self._rigs.close)  # with what watches them

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
