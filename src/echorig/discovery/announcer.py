"""`Announcer`: announces one server in the background until it is closed.

1. A registration takes seconds, since multicast DNS asks first whether the name is in use. Nobody waits for it.
2. The addresses of the computer may come later than the program, and change. They are looked at every ten seconds.
3. What fails is logged once and tried again. It never disturbs the server.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ..security.safe_log import SafeLog
from ..threads import in_thread
from ..uri import Uri
from .found_rig import service_type, txt_records
from .interfaces import Place, local_networks, place_of
from .options import Announcement, announcement
from .package import check_installed, import_zeroconf

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

__all__ = ['INTERVAL', 'Announcer', 'announcer_for']

INTERVAL = 10.0  # seconds between two looks at the addresses of this computer


def announcer_for(option: Any, name: str | None, has_key: bool) -> Callable[[Uri, SafeLog], Announcer]:
    """Return what announces a server with that option `announce` once it is open."""
    checked = announcement(option, name, has_key)
    check_installed()
    return partial(Announcer, checked)


class Announcer:
    """Announces one server; `uri` has its address with a numeric host and the port."""

    def __init__(self, announcement: Announcement, uri: Uri, log: SafeLog) -> None:
        self._announcement, self._uri, self._log = announcement, uri, log
        self._zeroconf: AsyncZeroconf | None = None
        self._has_failed = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Withdraw the announcement; see `wait_closed`."""
        self._task.cancel()

    async def wait_closed(self) -> None:
        """Wait until the announcement is withdrawn, which takes a quarter second."""
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        present: Place | None = None
        try:
            while True:
                try:
                    present = await self._update(present)
                except Exception as ex:  # of the network, or of the package
                    present = None
                    self._log_failure(f'{type(ex).__name__}: {ex}')
                await asyncio.sleep(INTERVAL)
        finally:
            await self._withdraw()

    async def _update(self, present: Place | None) -> Place:
        """Announce the server where it is now; `present` is where it is announced."""
        place = place_of(self._uri.host, self._announcement.interfaces, await in_thread(local_networks))
        if place == present:
            return present
        await self._withdraw()
        if not place.interfaces or not place.addresses:
            self._log_failure(f'none of the network interfaces for it is up ({self._uri})')
            return place
        await import_zeroconf()
        from zeroconf.asyncio import AsyncZeroconf

        self._zeroconf = AsyncZeroconf(interfaces=list(place.interfaces))
        await (await self._zeroconf.async_register_service(self._info(place), allow_name_change=True))
        self._has_failed = False
        self._log.info('Announced as %s on %s', self._announcement.name, ', '.join(place.interfaces))
        return place

    def _info(self, place: Place) -> AsyncServiceInfo:
        """Return the records; their names are of this server alone, and the same after a restart of the program."""
        from zeroconf.asyncio import AsyncServiceInfo

        name, kind = self._announcement.name, service_type(self._uri)
        what = f'{socket.gethostname()} {place.addresses} {self._uri}'
        label = re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')[:40] or 'rig'
        instance = f'{label}-{crc32(what.encode()):08x}'
        return AsyncServiceInfo(
            kind,
            f'{instance}.{kind}',
            port=self._uri.port,
            properties=txt_records(self._announcement, self._uri),
            server=f'{instance}.local.',
            parsed_addresses=list(place.addresses),
        )

    async def _withdraw(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is None:
            return
        try:
            await zeroconf.async_close()
        except asyncio.CancelledError:  # the program ends: the sockets must still be closed
            await zeroconf.async_close()
            raise
        except Exception as ex:
            self._log_failure(f'{type(ex).__name__}: {ex}')

    def _log_failure(self, reason: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._log.warning('%s cannot be announced on the network: %s', self._announcement.name, reason)
