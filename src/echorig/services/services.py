"""`Services`: a set of rigs that are told together; the messages of an experiment, and opening the set."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import UserDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, TypeVar

from ..checks import described, flag, limit, seconds, set_checked, short, text
from ..communicator.documented import documented_like
from ..communicator.service import Service
from ..events.callbacks import Listener, WithService, checked_listener
from ..messages import ExpMessage
from ..security.safe_log import SafeLog
from ..tuning import DEFAULT_TUNING
from .connect import opened
from .fan_out import each_rig, outcome, outcomes, result
from .presence import Presence
from .rigs_file import read_rigs

__all__ = ['Services']

_Self = TypeVar('_Self', bound='Services')
_Method = TypeVar('_Method', bound=Callable[..., Any])


def _telling_all(message: str, order: str = '') -> Callable[[_Method], _Method]:
    """Document a method that sends a message of `Service` to all rigs."""
    return documented_like(
        getattr(Service, message),
        'Send all rigs',
        f'{order}, and wait for their answers.',
        """
        concurrent : bool
            If false, each rig is sent to when the one before has answered.
        """,
        """
        Returns
        -------
        dict of str to list
            What each rig answered, by name.

        Raises
        ------
        ServicesTimeoutError
            At least one rig did not echo or answer in time (a `TimeoutError`).
        ServicesError
            At least one rig failed in another way.
        """,
    )


class Services(Service, UserDict[str, Any]):
    """A set of rigs, by name, in the order given; it cannot be changed.

    Parameters
    ----------
    remote_rigs : iterable of Service
        The communicators, with distinct names.
    timeout : float or None
        How long to wait for the answers, in seconds; None or 0 waits without limit.

    Raises
    ------
    TypeError
        One of them is no `Service`, or the time-out no number.
    ValueError
        Two have the same name, or the time-out is negative.
    """

    # `server` is a documented name that nothing sets.
    __slots__ = ('server',)

    __setattr__ = set_checked(timeout=limit)
    timeout: float | None = 10.0
    """:obj:`float` or None: How long to wait for the answers, in seconds; None or 0 waits without limit."""

    def __init__(self, remote_rigs: Iterable[Any], timeout: float | None = 10.0) -> None:
        super().__init__()
        rigs: dict[str, Any] = {}
        for rig in each_rig(remote_rigs, Service, 'a Service, such as an EchoProtocol'):  # type: ignore[type-abstract]
            if rig.name in rigs:
                raise ValueError(f'Two rigs are called {short(rig.name)}: give each its own name')
            rigs[rig.name] = rig
        self.data = MappingProxyType(rigs)  # type: ignore[assignment]
        self.timeout = timeout
        self.logger = logging.getLogger(__name__)
        self._watches: list[Presence] = []

    @classmethod
    async def connect(
        cls: type[_Self],
        rigs: Mapping[str, Any] | str | os.PathLike[str],
        timeout: float | None = 10.0,
        **kwargs: Any,
    ) -> _Self:
        """Open a client for each rig, all at once, and return the set of them.

        Over UDP nothing is sent, so that a rig that is switched off is not noticed before it is told something;
        `ping` tells which are there.

        Parameters
        ----------
        rigs : mapping of str to str, str or path
            The URI of each rig, by name, or the path of a YAML file of such lines, which is what iblrig calls
            ``remote_devices.yaml``. That needs PyYAML: ``pip install 'echorig[yaml]'``.
        timeout : float or None
            How long to wait for the connections, and later for the answers, in seconds; None or 0 waits
            without limit.
        kwargs
            For :meth:`EchoProtocol.client`, the same for each rig, such as ``tuning`` or ``reconnect``.

        Returns
        -------
        Services
            The set, in the order given.

        Raises
        ------
        ServicesTimeoutError
            At least one rig did not accept the connection in time (a `TimeoutError`). Those that did are
            closed again, and named in ``responses``.
        ServicesError
            At least one connection failed in another way: ``failures`` says which, and why.
        TypeError, ValueError
            The file, or what was given instead, does not name rigs and their URIs.
        OSError
            The file cannot be read.
        ImportError
            There is a file to be read, and no PyYAML.

        Examples
        --------
        >>> rigs = await Services.connect({'camera': 'udp://192.168.0.12'})  # doctest: +SKIP
        >>> async with await Services.connect('remote_devices.yaml') as rigs:  # doctest: +SKIP
        ...     await rigs.init()
        """
        limit(timeout, 'timeout')
        if isinstance(rigs, Mapping):
            uris = dict(rigs)
        elif isinstance(rigs, (str, os.PathLike)):
            uris = await asyncio.to_thread(read_rigs, rigs)
        else:  # before anything is opened: a number would be taken for an open file
            raise TypeError(f'rigs must be a mapping of names to URIs, or the path of a file, not {described(rigs)}')
        return cls(await opened(uris, timeout, kwargs), timeout)

    async def ping(self, timeout: float | None = None) -> dict[str, Any]:
        """Measure the round-trip time to each rig; no callback runs there.

        Parameters
        ----------
        timeout : float, optional
            How long to wait, in seconds; by default `EchoProtocol.default_echo_timeout` of each rig.

        Returns
        -------
        dict of str to float or Exception
            By name of the rig the round-trip time in seconds, or what went wrong. Nothing is raised for it.

        Raises
        ------
        TypeError, ValueError
            The timeout is not a positive number.
        """
        if timeout is not None:
            timeout = seconds(timeout, 'timeout')
        work = [partial(rig.ping, timeout=timeout) for rig in self.values()]
        return dict(zip(self, await asyncio.gather(*map(outcome, work)), strict=True))

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
            It is at work during ``async with``, or until the set is closed.

        Raises
        ------
        TypeError, ValueError
            A time is not a positive number.

        Examples
        --------
        >>> async with rigs.watch() as presence:  # doctest: +SKIP
        ...     presence.assign_callback(lambda change: print(change.name, change.state))
        ...     await rigs.start('2026-01-31_1_mouse7')
        ...     print(presence['camera'].round_trip)
        """
        presence = Presence(self, interval, timeout, DEFAULT_TUNING.max_backlog, SafeLog(self.logger))
        self._watches = [watch for watch in self._watches if not watch.is_closed]
        self._watches.append(presence)
        return presence

    @property
    def is_connected(self) -> bool:
        """bool: Whether there are rigs and all of them are connected."""
        return len(self) > 0 and all(rig.is_connected for rig in self.values())

    # --- listening ---

    def assign_callback(self, event: str | int | ExpMessage, callback: Listener, return_service: bool = False) -> None:
        """Register a callback with every rig.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.
        callback : callable or asyncio.Future
            What to tell. It is called as ``callback(data, addr)``, with the event as a further argument if
            it was registered for a combination, and with the rig as the last if `return_service` is true.
        return_service : bool
            Whether to pass the rig that the message came from.

        Raises
        ------
        TypeError, ValueError
            `callback` is neither callable nor a future, or there is no such event.
        """
        ExpMessage.validate(event)
        checked_listener(callback, futures=not flag(return_service, 'return_service'))
        for rig in self.values():
            rig.assign_callback(event, WithService(callback, rig) if return_service else callback)  # type: ignore[arg-type]

    def clear_callbacks(self, event: str | int | ExpMessage, callback: Listener | None = None) -> dict[str, int]:
        """Remove a callback, or all of them, from every rig.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.
        callback : callable or asyncio.Future, optional
            What to remove, as it was given to `assign_callback`; by default everything.

        Returns
        -------
        dict of str to int
            How many were removed, by name of the rig.

        Raises
        ------
        TypeError, ValueError
            `callback` is neither callable nor a future, or there is no such event.
        """
        ExpMessage.validate(event)
        if callback is not None:
            checked_listener(callback)
        return {name: rig.clear_callbacks(event, callback=callback) for name, rig in self.items()}

    async def await_all(self, event: str | int | ExpMessage) -> dict[str, Any]:
        """Wait until every rig has reported an event.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.

        Returns
        -------
        dict of str to list
            What each rig sent with it, by name.

        Raises
        ------
        ServicesTimeoutError
            At least one did not within `timeout` seconds (a `TimeoutError`).
        ServicesError
            At least one failed in another way.
        """
        event = ExpMessage.validate(event)
        return self._result(await outcomes(list(self.values()), event, None, self.timeout))

    # --- closing ---

    def close(self) -> None:
        """Close every communicator, and end every watch."""
        for watch in self._watches:
            watch.close()
        for rig in self.values():
            rig.close()

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        await asyncio.gather(*(rig.wait_closed() for rig in self.values() if hasattr(rig, 'wait_closed')))

    # --- the messages of an experiment ---

    @_telling_all('init')
    async def init(self, data: Any = None, concurrent: bool = True) -> dict[str, Any]:
        return await self._signal(ExpMessage.EXPINIT, 'init', data=data, concurrent=concurrent)

    @_telling_all('start')
    async def start(self, exp_ref: Any, data: Any = None, concurrent: bool = True) -> dict[str, Any]:
        Service.start(self, exp_ref)  # which no rig could be told
        return await self._signal(ExpMessage.EXPSTART, 'start', exp_ref, data=data, concurrent=concurrent)

    @_telling_all('stop', ', the last rig first')
    async def stop(self, /, data: Any = None, immediately: bool = False, **kwargs: Any) -> dict[str, Any]:
        event = ExpMessage.EXPINTERRUPT if flag(immediately, 'immediately') else ExpMessage.EXPEND
        return await self._signal(event, 'stop', data=data, immediately=immediately, **{'reverse': True, **kwargs})

    @_telling_all('status')
    async def status(self, /, status: Any, **kwargs: Any) -> dict[str, Any]:
        Service.status(self, status)
        return await self._signal(ExpMessage.EXPSTATUS, 'status', status, **kwargs)

    @_telling_all('info')
    async def info(self, /, status: Any, data: Any = None, **kwargs: Any) -> dict[str, Any]:
        Service.status(self, status)
        return await self._signal(ExpMessage.EXPINFO, 'info', status, data=data, **kwargs)

    @_telling_all('cleanup', ', the last rig first')
    async def cleanup(self, data: Any = None, concurrent: bool = True) -> dict[str, Any]:
        return await self._signal(ExpMessage.EXPCLEANUP, 'cleanup', data=data, reverse=True, concurrent=concurrent)

    async def alyx(self, alyx: Any) -> None:
        """Hand an Alyx token to all rigs; their confirmations are awaited, but no answers.

        Parameters
        ----------
        alyx : one.webclient.AlyxClient
            The client whose token to send.

        Raises
        ------
        ServicesTimeoutError
            At least one rig did not echo it in time (a `TimeoutError`).
        ServicesError
            At least one rig failed in another way.
        """
        Service.alyx(self, alyx)
        # Tasks take their first step, which sends the message, in the order of their making.
        found = await asyncio.gather(*(outcome(partial(rig.alyx, alyx)) for rig in self.values()))
        self._result(dict(zip(self, found, strict=True)))

    async def _signal(
        self,
        event: str | int | ExpMessage,
        method: str,
        *args: Any,
        concurrent: bool = True,
        reverse: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Tell all rigs something, and wait for each to answer with the same event.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event of the answers.
        method : str
            The method of each rig to call, by default that named like the event.
        args, kwargs
            What to call it with.
        concurrent : bool
            If false, each rig is told when the one before has answered.
        reverse : bool
            Whether the last rig is told first.

        Returns
        -------
        dict of str to list
            What each rig answered, by name.

        Raises
        ------
        ServicesTimeoutError, ServicesError
            At least one rig failed.
        TypeError, ValueError
            There is no such event, or an argument is of a wrong type.
        """
        event = ExpMessage.validate(event, allow_bitwise=False)
        flag(concurrent, 'concurrent')
        flag(reverse, 'reverse')
        method = text(method, 'method') or str(event.name).removeprefix('EXP').lower()
        rigs = list(self.values())
        if reverse:
            rigs.reverse()
        if concurrent:
            return self._result(await outcomes(rigs, event, (method, args, kwargs), self.timeout))
        found: dict[str, Any] = {}
        for rig in rigs:
            found |= await outcomes([rig], event, (method, args, kwargs), self.timeout, from_echo=True)
        return self._result(found)

    def _result(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return the answers in the order of the rigs, or raise what went wrong."""
        return result({name: found[name] for name in self})
