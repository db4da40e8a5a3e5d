"""`discover` and `browse`: the rigs that announce themselves on this network."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ..checks import seconds
from ..uri import parse_broker
from .browser import Browser, Kind
from .found_rig import FoundRig
from .options import checked_group, checked_interfaces

__all__ = ['Browsing', 'RigChange', 'browse', 'discover']


@dataclass(frozen=True)
class RigChange:
    """A change of what is announced."""

    kind: Kind
    """str: 'found', 'changed' (another address or flag) or 'removed'."""
    rig: FoundRig
    """FoundRig: The rig as it is announced now, or as it was."""


async def discover(
    group: str | None = None,
    timeout: float = 2.0,
    interfaces: Iterable[str] | None = None,
    *,
    broker: str | None = None,
    **kwargs: Any,
) -> list[FoundRig]:
    """Find the rigs that announce themselves; no callback is called there.

    Rigs on other subnets are not found, nor those that do not announce themselves; a NATS broker knows those of all
    its networks. A rig that is listed may be gone:
    whether it is there is known by :meth:`EchoProtocol.ping` and :meth:`Services.watch`.

    Parameters
    ----------
    group : str, optional
        Only the rigs of this group; by default all.
    timeout : float
        How long to listen, in seconds. It always listens for so long, since any rig may answer late.
    interfaces : iterable of str, optional
        The IPv4 addresses of the network interfaces to use. The default is what the environment variable
        ``ECHORIG_DISCOVERY_INTERFACES`` has (addresses separated by commas), or else all.
    broker : str, optional
        The URI of a NATS broker, such as ``nats://10.0.0.5:4222``, where to look instead of on the network.
    kwargs
        The login at the broker, as for :meth:`EchoProtocol.client`.

    Returns
    -------
    list of FoundRig
        The rigs, sorted by name.

    Raises
    ------
    ImportError
        python-zeroconf, or for a broker nats-py, is not installed.
    OSError
        No network interface is up, none has this address, or there is no connection with the broker.
    TypeError, ValueError
        An argument is not valid.

    Examples
    --------
    >>> for rig in await echorig.discover(group='room-2'):  # doctest: +SKIP
    ...     print(rig.name, rig.uri)
    """
    group = checked_group(group)
    limit = seconds(timeout, 'timeout', endless=False)
    if broker is not None:
        from .over_nats import rigs_at  # it needs another package

        found = await rigs_at(parse_broker(broker), kwargs, limit)
        return [rig for rig in found if group is None or rig.group == group]
    if kwargs:
        raise TypeError(f'discover() has the argument {next(iter(kwargs))} only for a broker=')
    async with Browser(checked_interfaces(interfaces)) as browser:
        await asyncio.sleep(limit)
        return [rig for rig in browser.rigs if group is None or rig.group == group]


def browse(group: str | None = None, interfaces: Iterable[str] | None = None) -> Browsing:
    """Follow which rigs announce themselves.

    Parameters
    ----------
    group : str, optional
        Only the rigs of this group; by default all.
    interfaces : iterable of str, optional
        As for :func:`echorig.discover`.

    Returns
    -------
    Browsing
        An asynchronous context manager and iterator of `RigChange`, without end.

    Raises
    ------
    TypeError, ValueError
        An argument is not valid.

    Examples
    --------
    >>> async with browse('room-2') as changes:  # doctest: +SKIP
    ...     async for change in changes:
    ...         print(change.kind, change.rig.name, change.rig.uri)
    """
    return Browsing(checked_group(group), checked_interfaces(interfaces))


class Browsing:
    """The changes of what is announced; made by `browse`."""

    def __init__(self, group: str | None, interfaces: tuple[str, ...] | None) -> None:
        self._group = group
        self._changes: asyncio.Queue[RigChange] = asyncio.Queue()
        self._browser = Browser(interfaces, self._changed)

    @property
    def rigs(self) -> list[FoundRig]:
        """:obj:`list` of FoundRig: The rigs that are announced now, sorted by name."""
        return [rig for rig in self._browser.rigs if self._group is None or rig.group == self._group]

    def _changed(self, kind: Kind, rig: FoundRig) -> None:
        if self._group is None or rig.group == self._group:
            self._changes.put_nowait(RigChange(kind, rig))

    async def __aenter__(self) -> Browsing:
        await self._browser.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._browser.__aexit__()

    def __aiter__(self) -> Browsing:
        return self

    async def __anext__(self) -> RigChange:
        return await self._changes.get()
