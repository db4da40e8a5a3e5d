"""Discovery over a NATS broker: each server that announces itself answers at one subject."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from ..messages import PROTOCOL_VERSION
from ..security.safe_log import SafeLog
from ..transports.nats.broker import Broker
from ..transports.nats.options import BrokerOptions
from ..transports.nats.package import check_installed
from ..uri import Uri, checked_subject
from .found_rig import FoundRig
from .options import Announcement, announcement

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ['NatsAnnouncer', 'announcer_for', 'login_in', 'read_answer', 'rigs_at']

_SUBJECT = 'echorig.discover'
_RETRY = 5.0  # seconds
_MAX_RIGS = 10_000
_LONGEST = 2000  # bytes of an answer


def announcer_for(option: Any, name: str | None, options: Mapping[str, Any]) -> Callable[[Uri, SafeLog], NatsAnnouncer]:
    """Return what announces a server with that option `announce`, and with other `options`."""
    return partial(NatsAnnouncer, announcement(option, name, 'key' in options), login_in(options))


def login_in(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options of a communicator that are for its connection with a broker."""
    return {name: value for name, value in options.items() if name in BrokerOptions.names()}


class NatsAnnouncer:
    """Announces one server."""

    def __init__(self, announced: Announcement, options: dict[str, Any], uri: Uri, log: SafeLog) -> None:
        self._options, self._uri, self._log = options, uri, log
        entry = {'name': announced.name, 'subject': uri.subject, 'version': PROTOCOL_VERSION, 'key': announced.has_key}
        self._answer = orjson.dumps({**entry, 'group': announced.group} if announced.group else entry)
        self._closed = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Withdraw the announcement; see `wait_closed`."""
        self._closed.set()  # asyncio before Python 3.12 may lose the cancellation
        self._task.cancel()

    async def wait_closed(self) -> None:
        """Wait until the announcement is withdrawn."""
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        reported = ''
        while not self._closed.is_set():
            try:
                broker = await Broker.open(BrokerOptions.of(self._uri, self._options))
                try:
                    await self._announce(broker)
                finally:
                    await broker.release()
            except (OSError, ValueError) as ex:
                if str(ex) != reported:
                    reported = str(ex)
                    self._log.warning('%s is not announced: %s', self._uri, ex)
                await asyncio.sleep(_RETRY)

    async def _announce(self, broker: Broker) -> None:
        def answer(message: Msg) -> None:
            if message.reply and broker.is_connected:
                broker.publish(message.reply, self._answer)

        key = await broker.subscriptions.subscribe(_SUBJECT, answer)
        try:
            await self._closed.wait()
        finally:
            await broker.subscriptions.unsubscribe(key)


async def rigs_at(uri: Uri, options: Mapping[str, Any], timeout: float) -> list[FoundRig]:
    """Return the rigs that announce themselves at a broker, sorted by name; the errors are those of `Broker.open`."""
    check_installed()
    search = _Search(uri)
    broker = await Broker.open(BrokerOptions.of(uri, options))
    private = broker.join(search.message_received, search)
    try:
        broker.publish(_SUBJECT, b'?', private)
        await asyncio.sleep(timeout)
    finally:
        broker.leave(private)
        await broker.release()
    if search.refused is not None:
        raise PermissionError(f'The broker does not allow to publish to {_SUBJECT}: {search.refused}')
    return [search.found[key] for key in sorted(search.found)]


class _Search:
    """Collects the answers of rigs."""

    def __init__(self, broker: Uri) -> None:
        self._broker = broker
        self.found: dict[tuple[str, str], FoundRig] = {}
        self.refused: Exception | None = None

    def message_received(self, message: Msg) -> None:
        """Note an answer; the report that nobody subscribes has headers."""
        rig = None if message.headers else read_answer(message.data, self._broker)
        if rig is not None and len(self.found) < _MAX_RIGS:
            self.found[rig.name, rig.uri] = rig

    def subject_refused(self, subject: str, is_publish: bool, error: Exception) -> None:
        """Note that the broker does not allow the search."""
        if is_publish and subject == _SUBJECT:
            self.refused = error

    def broker_lost(self, error: Exception | None) -> None:
        """Do nothing: the rigs that have answered are returned."""

    def broker_found(self) -> None:
        """Do nothing."""


def read_answer(answer: bytes, broker: Uri) -> FoundRig | None:
    """Return the rig that announces itself with this, or None; anybody at the broker may have sent it."""
    try:
        entry = orjson.loads(answer[:_LONGEST])
        name, version, group = (str(entry.get(key) or '') for key in ('name', 'version', 'group'))
        subject = checked_subject(str(entry['subject']), 'the answer')
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    if not name or not (name + version + group).isprintable():
        return None
    return FoundRig(
        name, str(replace(broker, subject=subject)), group or None, False, entry.get('key') is True, version, ()
    )
