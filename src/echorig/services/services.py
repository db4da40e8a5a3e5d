"""`Services`: a set of rigs that are told together; the messages of an experiment, and opening the set."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from ..checks import described, flag, limit, seconds
from ..communicator.service import Service
from ..messages import ExpMessage
from ..tuning import DEFAULT_TUNING
from .connect import opened
from .fan_out import RigSet, outcome
from .presence import Presence
from .rigs_file import read_rigs

__all__ = ['Services']

_Self = TypeVar('_Self', bound='Services')


class Services(RigSet):
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
        One of them is no `Service`.
    ValueError
        Two have the same name.
    """

    __slots__ = ()

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
        return Presence(self, interval, timeout, DEFAULT_TUNING.max_backlog)

    # --- the messages of an experiment ---

    async def init(self, data: Any = None, concurrent: bool = True) -> dict[str, Any]:
        """Tell all rigs to get ready for an experiment, and wait for their answers.

        Parameters
        ----------
        data : Any
            Optional details.
        concurrent : bool
            If false, each rig is told when the one before has answered.

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
        """
        return await self._signal(ExpMessage.EXPINIT, 'init', data=data, concurrent=concurrent)

    async def start(self, exp_ref: Any, data: Any = None, concurrent: bool = True) -> dict[str, Any]:
        """Tell all rigs that the experiment starts, and wait for their answers.

        Parameters
        ----------
        exp_ref : str or dict
            The experiment reference, ``yyyy-mm-dd_n_subject``, or a dict of its parts.
        data : Any
            Optional details.
        concurrent : bool
            If false, each rig is told when the one before has answered.

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
        """
        Service.start(self, exp_ref)  # which no rig could be told
        return await self._signal(ExpMessage.EXPSTART, 'start', exp_ref, data=data, concurrent=concurrent)

    async def stop(self, /, data: Any = None, immediately: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Tell all rigs, the last first, that the experiment ends, and wait for their answers.

        Parameters
        ----------
        data : Any
            Optional details.
        immediately : bool
            Whether to interrupt the experiment (EXPINTERRUPT) instead of ending it (EXPEND).
        concurrent : bool
            If false, each rig is told when the one before has answered.

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
        """
        event = ExpMessage.EXPINTERRUPT if flag(immediately, 'immediately') else ExpMessage.EXPEND
        return await self._signal(event, 'stop', data=data, immediately=immediately, **{'reverse': True, **kwargs})

    async def status(self, /, status: Any, **kwargs: Any) -> dict[str, Any]:
        """Tell all rigs a status, and wait for their answers.

        Parameters
        ----------
        status : ExpStatus, int or str
            The status.
        concurrent : bool
            If false, each rig is told when the one before has answered.

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
        """
        Service.status(self, status)
        return await self._signal(ExpMessage.EXPSTATUS, 'status', status, **kwargs)

    async def info(self, /, status: Any, data: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Tell all rigs a status with details, and wait for their answers.

        Parameters
        ----------
        status : ExpStatus, int or str
            The status.
        data : Any
            Optional details.
        concurrent : bool
            If false, each rig is told when the one before has answered.

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
        """
        Service.status(self, status)
        return await self._signal(ExpMessage.EXPINFO, 'info', status, data=data, **kwargs)

    async def cleanup(self, data: Any = None, concurrent: bool = True) -> dict[str, Any]:
        """Tell all rigs, the last first, to tidy up after the experiment, and wait for their answers.

        Parameters
        ----------
        data : Any
            Optional details.
        concurrent : bool
            If false, each rig is told when the one before has answered.

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
        """
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
        await self._gather({name: partial(rig.alyx, alyx) for name, rig in self.items()})
