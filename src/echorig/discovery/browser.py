"""`Browser`: keeps up which rigs announce themselves.

Two queries are open at the same time. The answers to the one come by multicast, which firewalls often let pass. The
answers to the other come to a port of its own: this works where another program of this computer has the port of
multicast DNS, and several programs may look at the same time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from ..security.safe_log import SafeLog
from ..threads import in_thread
from .found_rig import TYPES, FoundRig, read_rig
from .interfaces import Network, local_networks, preferred, search_interfaces
from .package import check_installed, import_zeroconf

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

__all__ = ['Browser', 'Kind']

Kind = Literal['found', 'changed', 'removed']
_FOREVER = 2**31 - 1  # seconds
_REQUEST = 3000  # milliseconds to wait for records that did not come with an answer
_LOG = SafeLog(logging.getLogger(__name__))


class Browser:
    """An asynchronous context manager; `rigs` are those that announce themselves now."""

    def __init__(
        self, interfaces: Sequence[str] | None, on_change: Callable[[Kind, FoundRig], object] = lambda kind, rig: None
    ) -> None:
        self._chosen, self._on_change = interfaces, on_change
        self._adapters: list[list[Network]] = []
        self._by_instance: dict[str, FoundRig] = {}
        self._opened: list[AsyncZeroconf] = []
        self._browsers: list[AsyncServiceBrowser] = []
        self._requests: set[asyncio.Task[None]] = set()
        self._has_ignored = False

    @property
    def rigs(self) -> list[FoundRig]:
        """The rigs, sorted by name."""
        return sorted(self._by_instance.values(), key=lambda rig: (rig.name, rig.group or '', rig.uri))

    async def __aenter__(self) -> Browser:
        check_installed()
        await import_zeroconf()
        self._adapters = await in_thread(local_networks)
        interfaces = search_interfaces(self._chosen, self._adapters)
        here = {str(own.ip) for adapter in self._adapters for own in adapter}
        if missing := [one for one in interfaces if one not in here]:
            raise OSError(f'No interface of this computer has the address {", ".join(missing)}')
        if not interfaces:
            raise OSError('No network interface of this computer is up: nothing can be discovered')
        try:
            self._open(interfaces)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._close()

    def _open(self, interfaces: list[str]) -> None:
        from zeroconf import DNSQuestionType
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

        failure = None
        for is_unicast in (True, False):
            try:
                opened = AsyncZeroconf(interfaces=interfaces, unicast=is_unicast)
            except OSError as ex:  # such as: another program has the port of multicast DNS for itself
                failure = ex
                continue
            self._opened.append(opened)
            question = None if is_unicast else DNSQuestionType.QM
            self._browsers.append(
                AsyncServiceBrowser(opened.zeroconf, [*TYPES], handlers=[self._changed], question_type=question)
            )
        if not self._opened and failure is not None:
            raise failure

    async def _close(self) -> None:
        for task in self._requests:
            task.cancel()
        if self._requests:
            await asyncio.wait(self._requests)
        for browser in self._browsers:
            await browser.async_cancel()
        for opened in self._opened:
            await opened.async_close()

    def _changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:  # called by the browsers, with these names
        from zeroconf import ServiceStateChange
        from zeroconf.asyncio import AsyncServiceInfo

        if state_change is ServiceStateChange.Removed:
            if (rig := self._by_instance.pop(name, None)) is not None:
                self._on_change('removed', rig)
            return
        info = AsyncServiceInfo(service_type, name)
        self._expect_goodbye(zeroconf, info)
        if info.load_from_cache(zeroconf):
            self._found(info)
            return
        task = asyncio.get_running_loop().create_task(self._request(zeroconf, info))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    def _expect_goodbye(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        """Let the query by multicast see the goodbye of a rig that only the other one has found yet.

        The entry has no end: whether the rig still answers is noticed by the query that has found it.
        """
        pointer = info.dns_pointer(override_ttl=_FOREVER)
        for opened in self._opened:
            cache = opened.zeroconf.cache
            if zeroconf.unicast and not opened.zeroconf.unicast and cache.async_get_unique(pointer) is None:
                cache.async_add_records([pointer])

    async def _request(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        """Ask for the records of a rig that did not come with the answer."""
        if await info.async_request(zeroconf, _REQUEST):
            self._found(info)

    def _found(self, info: AsyncServiceInfo) -> None:
        hosts = preferred(info.parsed_addresses(), self._adapters)
        try:
            rig = read_rig(info.type, info.port, info.properties, hosts)
        except ValueError as ex:  # also text that is no UTF-8
            if not self._has_ignored:
                self._has_ignored = True
                _LOG.warning('Ignoring what %s announces, since it is no rig: %s', ascii(info.name), ex)
            return
        before = self._by_instance.get(info.name)
        if rig == before:
            return
        self._by_instance[info.name] = rig
        if before is not None and (before.name, before.group) != (rig.name, rig.group):
            self._on_change('removed', before)
            before = None
        self._on_change('found' if before is None else 'changed', rig)
