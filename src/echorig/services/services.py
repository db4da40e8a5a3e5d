"""`Services`: a set of rigs; sends the messages of an experiment to all of them, and collects their answers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, cast, overload

from ..aliases import (
    AlyxClient,
    AnyCallback,
    AnyEvent,
    AnyRigCallback,
    Callback,
    Data,
    ExpRef,
    FixedDict,
    Listener,
    MessageFuture,
    RigCallback,
    RigOptions,
    SendOrder,
    SingleEvent,
    Status,
    Unpack,
    UriLike,
)
from ..checks import described, flag, limit, seconds, set_checked, short, text
from ..communicator.documented import documented_like
from ..communicator.outcomes import outcomes
from ..communicator.peer_clocks import PeerClock
from ..communicator.protocol import EchoProtocol
from ..communicator.service import Service
from ..events.callbacks import WithService, checked_listener
from ..messages import ExpMessage
from ..progress import Progress
from ..security.safe_log import SafeLog
from ..threads import in_thread
from ..tuning import DEFAULT_TUNING
from ..uri import Address
from .connect import connect_all
from .experiment import Experiment
from .fan_out import checked_rigs, described_rigs, result_or_error, results
from .online import wait_until_online
from .presence import Presence, PresenceChange
from .rigs_file import read_rigs
from .start_together import StartAnswers, checked_at, start_together

if TYPE_CHECKING:
    from ..journal.writer import Journal

__all__ = ['Services']

_Self = TypeVar('_Self', bound='Services')
_Method = TypeVar('_Method', bound=Callable[..., Any])


_AT = """
        at : float, optional
            Run the callbacks of all rigs at one moment, so many seconds from now: at most 5. The attribute
            `times` of the result, a `StartAnswers`, has when the callbacks of each echorig rig ran. Other rigs are sent
            the message so that it arrives at that moment.
        """


def _sends_to_all(message: str, order: str = '', more: str = '') -> Callable[[_Method], _Method]:
    """Document a method that sends a message of `Service` to all rigs."""
    return documented_like(
        getattr(Service, message),
        'Send all rigs',
        f'{order}, and wait for their answers.',
        """
        concurrent : bool
            Whether to send to all rigs without waiting for the answer of one before the next.
        """
        + more,
        """
        Returns
        -------
        dict of str to list
            The answer of each rig, by name.

        Raises
        ------
        ServicesTimeoutError
            At least one rig did not echo or answer in time (a `TimeoutError`).
        ServicesError
            At least one rig failed in another way.
        """,
    )


class Services(Service, FixedDict[EchoProtocol]):
    """A set of rigs, by name, in the order given; it cannot be changed.

    Its methods raise `TypeError` or `ValueError` if an argument is not valid, before anything is sent.

    Parameters
    ----------
    remote_rigs : iterable of Service
        The communicators, with distinct names.
    timeout : float or None
        How long to wait for the answers, in seconds; None or 0 waits without limit.
    journal : echorig.journal.Journal, str or path, optional
        The file in which the messages of all of them are noted, see :attr:`EchoProtocol.journal`.

    Raises
    ------
    TypeError
        One of them is no `Service`, or the time-out no number.
    ValueError
        There are none, two have the same name, or the time-out is negative.
    """

    # `server` is a documented name that nothing sets.
    __slots__ = ('server',)

    __setattr__ = set_checked(timeout=limit)
    timeout: float | None = 10.0
    """:obj:`float` or None: How long to wait for the answers, in seconds; None or 0 waits without limit."""

    _experiment: ClassVar[type[Experiment]] = Experiment  # that of `echorig.sync` can be entered from another thread

    def __init__(
        self,
        remote_rigs: Iterable[Service],
        timeout: float | None = 10.0,
        journal: Journal | str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        rigs: dict[str, EchoProtocol] = {}
        for rig in checked_rigs(remote_rigs, Service, 'a Service, such as an EchoProtocol'):  # type: ignore[type-abstract]
            if rig.name in rigs:
                raise ValueError(f'Two rigs are called {short(rig.name)}: give each its own name')
            rigs[rig.name] = cast('EchoProtocol', rig)  # or another class with its methods
        if not rigs:
            raise ValueError('There are no rigs: give at least one, otherwise a session would succeed without any')
        self.data = MappingProxyType(rigs)
        self.timeout = timeout
        self.logger = logging.getLogger(__name__)
        self._watches: list[Presence] = []
        if journal is not None:
            for rig in rigs.values():
                if isinstance(rig, EchoProtocol):
                    rig.journal = journal

    def __repr__(self) -> str:
        return f'<echorig.{type(self).__name__} of {described_rigs(self)}>'

    @classmethod
    async def connect(
        cls: type[_Self],
        rigs: Mapping[str, UriLike] | str | os.PathLike[str],
        timeout: float | None = 10.0,
        *,
        wait: bool = False,
        **kwargs: Unpack[RigOptions],
    ) -> _Self:
        """Open a client for each rig, all at once, and return the set of them.

        Over UDP nothing is sent, so that a rig that is switched off is noticed with the first message or `ping`.

        Parameters
        ----------
        rigs : mapping of str to str, str or path
            The URI of each rig, by name, or the path of a YAML file of such lines, such as iblrig's
            ``remote_devices.yaml``. A file needs PyYAML: ``pip install 'echorig[yaml]'``. ``mdns:camera`` or
            ``mdns:camera?group=room-2`` stands for a rig that announces itself; see :meth:`discover`.
        timeout : float or None
            How long to wait for the connections, and later for the answers, in seconds; None or 0 waits
            without limit.
        wait : bool
            Whether to wait, for at most `timeout` seconds, until every rig is there: until it accepts a TCP connection
            and echoes a ping. Rigs may then be started later than this program.
        kwargs
            For :meth:`EchoProtocol.client`, the same for each rig, such as ``tuning`` or ``reconnect``. ``journal`` is
            one file for all of them.

        Returns
        -------
        Services
            The set, in the order given.

        Raises
        ------
        ServicesTimeoutError
            At least one rig did not accept the connection in time (a `TimeoutError`). The others are closed
            again, and named in ``responses``.
        ServicesError
            At least one connection failed in another way: ``failures`` has the error of each.
        TypeError, ValueError
            `rigs` or the file does not consist of names and URIs, has none, or has a name twice.
        OSError, ImportError
            The file cannot be read, or PyYAML is not installed.

        Examples
        --------
        >>> rigs = await Services.connect({'camera': 'udp://192.168.0.12'})  # doctest: +SKIP
        >>> async with await Services.connect('remote_devices.yaml') as rigs:  # doctest: +SKIP
        ...     await rigs.init()
        """
        limit(timeout, 'timeout')
        if isinstance(rigs, Mapping):
            uris: Mapping[str, UriLike] = dict(rigs)
        elif isinstance(rigs, (str, os.PathLike)):
            uris = await in_thread(read_rigs, rigs)
        else:  # a number would be taken for a file that is open
            raise TypeError(f'rigs must be a mapping of names to URIs, or the path of a file, not {described(rigs)}')
        if not uris:
            where = 'rigs' if isinstance(rigs, Mapping) else str(rigs)
            raise ValueError(f'{where} names no rigs: it must have at least one name with a URI')
        flag(wait, 'wait')
        if any(isinstance(uri, str) and uri.lower().startswith('mdns:') for uri in uris.values()):
            from .discover import resolve_mdns  # most programs discover nothing

            uris = await resolve_mdns(uris, timeout, kwargs)
        return cls(await connect_all(uris, timeout, {**kwargs}, wait), timeout)

    @classmethod
    async def discover(
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
        """Find rigs that announce themselves, open a client for each, and return the set of them.

        Nothing is sent to other rigs. Anybody on the network can announce a rig, so use ``key`` or TLS where that
        matters. It needs python-zeroconf: ``pip install 'echorig[discovery]'``.

        Parameters
        ----------
        names : iterable of str, or None
            The names of the rigs. It returns as soon as all are found, and no second one of the same name has answered
            0.3 s later. None stands for all rigs of the group that are found within 2 s.
        group : str, optional
            The group of rigs, such as a room; by default any. Required if there are no names.
        timeout : float or None
            How long to look for the rigs, then to wait for the connections, and later for the answers, in seconds;
            None or 0 waits without limit.
        interfaces : iterable of str, optional
            The network interfaces to use, as for :func:`echorig.discover`.
        broker : str, optional
            The URI of a NATS broker at which to look instead, as for :func:`echorig.discover`.
        wait : bool
            As for :meth:`connect`.
        kwargs
            As for :meth:`connect`.

        Returns
        -------
        Services
            The set, in the order of the names.

        Raises
        ------
        ServicesTimeoutError
            At least one rig was not found; the text lists those that were.
        ServicesError
            At least one name was found twice, with the addresses of both; or as for :meth:`connect`.
        TypeError, ValueError
            An argument is not valid, a rig needs a ``key`` that is not given, or has no TLS although ``ssl`` is given.
        OSError, ImportError
            No network interface is up, there is no connection with the broker, or the package that is needed is not
            installed.

        Examples
        --------
        >>> rigs = await Services.discover(['camera', 'ephys'], 'room-2')  # doctest: +SKIP
        """
        limit(timeout, 'timeout')
        flag(wait, 'wait')
        from .discover import find

        found = await find(names, group, timeout, interfaces, broker, kwargs)
        return cls(await connect_all(found, timeout, {**kwargs}, wait), timeout)

    async def ping(self, timeout: float | None = None) -> dict[str, float | Exception]:
        """Measure the round-trip time to each rig; no callback is called there.

        Parameters
        ----------
        timeout : float, optional
            How long to wait, in seconds; by default `EchoProtocol.default_echo_timeout` of each rig.

        Returns
        -------
        dict of str to float or Exception
            The round-trip time in seconds, or the error, of each rig, by name.

        Raises
        ------
        TypeError, ValueError
            The timeout is not valid.
        """
        if timeout is not None:
            timeout = seconds(timeout, 'timeout')
        work = [partial(rig.ping, timeout=timeout) for rig in self.values()]
        return dict(zip(self, await asyncio.gather(*map(result_or_error, work)), strict=True))

    def clock(self) -> dict[str, PeerClock | None]:
        """Compare the clock of each rig with the clock of this computer, by the last pings.

        A watch (`watch`, `experiment`) pings all the time; `EchoProtocol.measure_clock` pings one rig now.

        Returns
        -------
        dict of str to PeerClock or None
            The offset and its error of each rig, by name; None of rigs that do not tell the time.
        """
        return {name: rig.clock() if isinstance(rig, EchoProtocol) else None for name, rig in self.items()}

    async def wait_online(self, timeout: float | None = None) -> None:
        """Wait until every rig has echoed a ping.

        Parameters
        ----------
        timeout : float, optional
            How long to wait, in seconds; by default without limit.

        Raises
        ------
        ServicesTimeoutError
            At least one rig did not echo in time; ``failures`` has the last error of each.
        """
        limit(timeout, 'timeout')
        await wait_until_online(self, timeout)

    def experiment(
        self,
        exp_ref: ExpRef,
        data: object = None,
        *,
        on_rig_lost: Literal['raise', 'warn'] | Callable[[PresenceChange], Any] = 'raise',
        on_progress: Callable[[Progress], Any] | None = None,
        interrupt_timeout: float = 5.0,
        check_exp_ref: bool = True,
        at: float | None = None,
    ) -> Experiment:
        """Run an experiment during ``async with``: init and start, and at the end stop and cleanup.

        If the block raises, is cancelled, or the program is ended by Ctrl-C or SIGTERM, then every rig is sent
        EXPINTERRUPT and EXPCLEANUP, also the rigs that were lost. That takes at most `interrupt_timeout` seconds.

        Parameters
        ----------
        exp_ref : str or dict
            The experiment reference, ``yyyy-mm-dd_n_subject``, or a dict of ``date``, ``sequence`` and ``subject``.
        data : Any
            Details, sent with init and start.
        on_rig_lost : {'raise', 'warn'} or callable
            What to do if a rig goes offline, is restarted or ends its program during the experiment: end the block
            with a `RigLostError`, log a warning, or call a function with the :class:`PresenceChange`.
        on_progress : callable, optional
            Called with each :class:`Progress` that a rig reports.
        interrupt_timeout : float
            How long the end after a failure may take, in seconds.
        check_exp_ref : bool
            Whether the reference must be of the form above; False allows others.
        at : float, optional
            Run the callbacks of all rigs at one moment, so many seconds after their init, as in `start`.

        Returns
        -------
        Experiment
            An asynchronous context manager.

        Raises
        ------
        TypeError, ValueError
            An argument is not valid; nothing has been sent.

        Examples
        --------
        >>> async with rigs.experiment('2026-01-31_1_mouse7') as session:  # doctest: +SKIP
        ...     await session.sleep(3600)
        """
        return self._experiment(
            self,
            exp_ref,
            data,
            on_rig_lost=on_rig_lost,
            on_progress=on_progress,
            interrupt_timeout=interrupt_timeout,
            check_exp_ref=check_exp_ref,
            at=at,
        )

    def watch(self, interval: float = 1.0, timeout: float = 1.0) -> Presence:
        """Detect in the background which rigs are online, go offline or are restarted.

        Parameters
        ----------
        interval : float
            The time between two pings of a rig, in seconds, plus or minus a tenth.
        timeout : float
            How long to wait for the echo of a ping, in seconds.

        Returns
        -------
        Presence
            A mapping of the rigs' names, updated during ``async with`` until the set is closed.

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

    # --- events ---

    @overload
    def assign_callback(
        self,
        event: SingleEvent,
        callback: Callback | asyncio.Future[tuple[Data, Address]],
        return_service: Literal[False] = False,
    ) -> None: ...
    @overload
    def assign_callback(
        self, event: int | ExpMessage, callback: AnyCallback | MessageFuture, return_service: Literal[False] = False
    ) -> None: ...
    @overload
    def assign_callback(
        self, event: SingleEvent, callback: RigCallback[EchoProtocol], return_service: Literal[True]
    ) -> None: ...
    @overload
    def assign_callback(
        self, event: int | ExpMessage, callback: AnyRigCallback[EchoProtocol], return_service: Literal[True]
    ) -> None: ...
    def assign_callback(self, event: AnyEvent, callback: Listener, return_service: bool = False) -> None:
        """Register a callback with every rig.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.
        callback : callable or asyncio.Future
            Called as ``callback(data, addr)``, with the event as a further argument if it was registered
            for a combination, and with the rig as the last argument if `return_service` is true.
        return_service : bool
            Whether to pass the rig that sent the message.
        """
        ExpMessage.validate(event)
        checked_listener(callback, futures=not flag(return_service, 'return_service'))
        for rig in self.values():
            rig.assign_callback(event, WithService(callback, rig) if return_service else callback)  # type: ignore[arg-type]

    def clear_callbacks(self, event: AnyEvent, callback: Listener | None = None) -> dict[str, int]:
        """Remove a callback, or all of them, from every rig.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.
        callback : callable or asyncio.Future, optional
            The callback as it was given to `assign_callback`; by default all are removed.

        Returns
        -------
        dict of str to int
            How many were removed, by name of the rig.
        """
        ExpMessage.validate(event)
        if callback is not None:
            checked_listener(callback)
        return {name: rig.clear_callbacks(event, callback=callback) for name, rig in self.items()}

    async def await_all(self, event: AnyEvent) -> dict[str, Data]:
        """Wait until every rig has sent an event.

        Parameters
        ----------
        event : str, int or ExpMessage
            The event or combination of events.

        Returns
        -------
        dict of str to list
            The data that each rig sent with it, by name.

        Raises
        ------
        ServicesTimeoutError
            At least one rig did not within `timeout` seconds (a `TimeoutError`).
        ServicesError
            At least one rig failed in another way.
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

    @_sends_to_all('init')
    async def init(self, data: object = None, concurrent: bool = True) -> dict[str, Data]:
        return await self._signal(ExpMessage.EXPINIT, 'init', data=data, concurrent=concurrent)

    @_sends_to_all('start', more=_AT)
    async def start(
        self, exp_ref: ExpRef, data: object = None, concurrent: bool = True, *, at: float | None = None
    ) -> StartAnswers:
        Service.start(self, exp_ref)  # checks the reference before anything is sent
        if at is not None:
            found, times = await start_together(self, (exp_ref, data), checked_at(at), self.timeout)
            return StartAnswers(self._result(found), times)
        answers = await self._signal(ExpMessage.EXPSTART, 'start', exp_ref, data=data, concurrent=concurrent)
        return StartAnswers(answers, {})

    @_sends_to_all('stop', ', the last rig first')
    async def stop(
        self, /, data: object = None, immediately: bool = False, **kwargs: Unpack[SendOrder]
    ) -> dict[str, Data]:
        event = ExpMessage.EXPINTERRUPT if flag(immediately, 'immediately') else ExpMessage.EXPEND
        order: SendOrder = {'reverse': True, **kwargs}
        return await self._signal(event, 'stop', data=data, immediately=immediately, **order)

    @_sends_to_all('status')
    async def status(self, /, status: Status, **kwargs: Unpack[SendOrder]) -> dict[str, Data]:
        Service.status(self, status)
        return await self._signal(ExpMessage.EXPSTATUS, 'status', status, **kwargs)

    @_sends_to_all('info')
    async def info(self, /, status: Status, data: object = None, **kwargs: Unpack[SendOrder]) -> dict[str, Data]:
        Service.status(self, status)
        return await self._signal(ExpMessage.EXPINFO, 'info', status, data=data, **kwargs)

    @_sends_to_all('cleanup', ', the last rig first')
    async def cleanup(self, data: object = None, concurrent: bool = True) -> dict[str, Data]:
        return await self._signal(ExpMessage.EXPCLEANUP, 'cleanup', data=data, reverse=True, concurrent=concurrent)

    async def alyx(self, alyx: AlyxClient | None) -> None:
        """Send an Alyx token to all rigs, and wait for their confirmations.

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
        # Tasks take their first step, which sends the message, in the order of their creation.
        found = await asyncio.gather(*(result_or_error(partial(rig.alyx, alyx)) for rig in self.values()))
        self._result(dict(zip(self, found, strict=True)))

    async def _signal(
        self,
        event: AnyEvent,
        method: str,
        *args: Any,
        concurrent: bool = True,
        reverse: bool = False,
        **kwargs: Any,
    ) -> dict[str, Data]:
        """Call a method of every rig, such as `confirmed_send`, and return what each answers with an event.

        `method` is by default named like the event. `concurrent` and `reverse` are as in `stop`; the other arguments
        are those of the method.
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

    def _result(self, found: dict[str, Any]) -> dict[str, Data]:
        """Return the answers in the order of the rigs, or raise the error that names those that failed."""
        return results({name: found[name] for name in self})
