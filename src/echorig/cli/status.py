"""`echorig status`: which rigs are online: a live table, or once with --once."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..communicator.protocol import EchoProtocol
from ..services.presence import Presence, RigPresence
from ..services.services import Services
from .clients import clients_of, kind_of
from .command import run_command, set_up_logging
from .options import add_connection, add_interval, add_output, add_rigs, add_timeout
from .output import Output, clock_text, duration, needs_rich

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ['add_options', 'run']

_COLUMNS = 'Rig', 'Address', 'Kind', 'State', 'Round trip', 'Heard', 'Again', 'Failed', 'Clock'
_FIGURES = 'Round trip', 'Heard', 'Again', 'Failed', 'Clock'
_WIDE = {'Kind', 'Heard', 'Again', 'Failed'}  # columns only for wide terminals
_WIDTH = 120  # columns of text that the whole table needs


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_rigs(parser)
    parser.add_argument('--once', action='store_true', help='print the table once; exit 1 if a rig is not online')
    add_interval(parser, zero=False)
    add_timeout(parser)
    add_output(parser)
    add_connection(parser)


@dataclass
class _Row:
    """What is known of one rig."""

    name: str
    client: EchoProtocol | Exception
    presence: RigPresence

    @property
    def state(self) -> str:
        return 'offline' if isinstance(self.client, Exception) else self.presence.state

    @property
    def error(self) -> Exception | None:
        return self.client if isinstance(self.client, Exception) else self.presence.error

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        if isinstance(self.client, Exception):
            return [self.name, '', '', 'offline', '', '', '', '', '']
        peer = next(iter(self.client.peers.values()), None)
        heard = '' if self.presence.last_heard is None else f'{duration(monotonic() - self.presence.last_heard)} ago'
        counts = ('', '') if peer is None else (f'{peer.retransmitted:,}', f'{peer.failed:,}')
        address, clock = self.client.server_uri, clock_text(self.client.clock()).removeprefix(', clock ')
        round_trip = duration(self.presence.round_trip)
        return [self.name, address, kind_of(self.client), self.state, round_trip, heard, *counts, clock]

    def record(self) -> dict[str, Any]:
        """Return the same for programs."""
        record: dict[str, Any] = {'kind': 'rig', 'rig': self.name, 'state': self.state}
        if self.error is not None:
            record['error'] = str(self.error)
        if not isinstance(self.client, Exception):
            record |= {'uri': self.client.server_uri, 'peer': kind_of(self.client)}
            record['round_trip'] = self.presence.round_trip
            if (peer := next(iter(self.client.peers.values()), None)) is not None:
                record |= {'retransmitted': peer.retransmitted, 'failed': peer.failed}
            if (clock := self.client.clock()) is not None:
                record |= {'clock_offset': clock.offset, 'clock_error': clock.error}
        return record


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    set_up_logging(options.verbose)
    out = Output(options.json)

    async def watch() -> int:
        if not options.once and not options.json:
            needs_rich('echorig status')
        async with clients_of(options) as clients:
            opened = [client for client in clients.values() if isinstance(client, EchoProtocol)]
            if not opened:
                return _print_once(_rows(clients, {}), out)
            # A watch sends nothing to a rig over TCP whose kind it does not know.
            await asyncio.gather(*(client.ping(timeout=options.timeout) for client in opened), return_exceptions=True)
            async with Services(opened).watch(options.interval, options.timeout) as presence:
                if options.once:
                    await _until_known(presence, options.timeout + options.interval)
                    return _print_once(_rows(clients, presence), out)
                if options.json:
                    await _print_changes(clients, presence, out)
                else:
                    await _show(clients, presence)
        return 0

    return run_command(watch, lambda: 0)


def _rows(clients: dict[str, EchoProtocol | Exception], presence: Presence | dict[str, RigPresence]) -> list[_Row]:
    return [_Row(name, client, presence.get(name) or RigPresence()) for name, client in clients.items()]


async def _until_known(presence: Presence, limit: float) -> None:
    async def first_states() -> None:
        async with presence.events() as changes:
            while any(rig.state == 'unknown' for rig in presence.values()):
                await anext(changes)

    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(first_states(), limit)


def _print_once(rows: list[_Row], out: Output) -> int:
    out.table(_COLUMNS, [row.cells() for row in rows], _FIGURES)
    for row in rows:
        out.record(**row.record())
        if row.error is not None:
            out.line(f'{row.name}: {row.error}', 'red')
    return 0 if all(row.state == 'online' for row in rows) else 1


async def _print_changes(clients: dict[str, EchoProtocol | Exception], presence: Presence, out: Output) -> None:
    async with presence.events() as changes:
        for row in _rows(clients, presence):
            out.record(**row.record())
        async for change in changes:
            row = _Row(change.name, clients[change.name], change.presence)
            out.record(**row.record(), change=change.state)


async def _show(clients: dict[str, EchoProtocol | Exception], presence: Presence) -> None:
    """Show the live table until Ctrl-C."""
    from rich.text import Text

    from ..live_view import live, new_console, rig_table, state_text

    def table() -> RenderableType:
        shown = [name for name in _COLUMNS if console.width >= _WIDTH or name not in _WIDE]
        rows = []
        for row in _rows(clients, presence):
            cells = dict(zip(_COLUMNS, row.cells(), strict=True))
            rows.append([state_text(cells[name]) if name == 'State' else Text(cells[name]) for name in shown])
        online = sum(row.state == 'online' for row in _rows(clients, presence))
        return rig_table(f'{online} of {len(clients)} rigs online; Ctrl-C ends', shown, _FIGURES, rows)

    console = new_console()
    with live(table, console, transient=False) as update:
        while True:
            update()
            await asyncio.sleep(0.2)
            if not console.is_terminal:
                console.print(table())
                await asyncio.sleep(1.0)
