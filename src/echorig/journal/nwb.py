"""Journals as events of Neurodata Without Borders: one `EventsTable` of pynwb for each rig."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import orjson

from .extras import needed
from .files import Fields

__all__ = ['write_nwb']

_EXTRA = "'echorig[nwb]'"
_COLUMNS = {
    'event': 'The event of the message, such as EXPSTART; NOTICE for the report of a failure.',
    'kind': 'sent, answered, received, notice or failed.',
    'addr': 'The address of the peer.',
    'message_id': 'The number of the message: that of the run of its program, and its own.',
    'data': 'The data of the message as JSON; the reason if it failed.',
    'utc_ns': 'The time in nanoseconds since 1970, in UTC.',
}


def write_nwb(records: Iterator[Fields], begin: int, target: str, kinds: tuple[str, ...]) -> int:
    """Write a file in which session time is that of the journal; return how many events it has."""
    pynwb = needed('pynwb', _EXTRA, 'NWB')
    event = needed('pynwb.event', _EXTRA, 'NWB')
    by_rig: dict[str, list[Fields]] = {}
    reference = ''
    for fields in records:
        if fields['kind'] in kinds:
            by_rig.setdefault(str(fields.get('rig', 'program')), []).append(fields)
            if not reference and fields.get('event') == 'EXPSTART' and fields.get('data'):
                reference = str(fields['data'][0])
    if not by_rig:
        raise ValueError('The journal has no messages, and a table of events in NWB cannot be empty')
    start = datetime.fromtimestamp(begin // 1_000_000_000, timezone.utc) + timedelta(
        microseconds=begin % 1_000_000_000 / 1000
    )
    file = pynwb.NWBFile(
        session_description=f'Messages of the experiment {reference}'.strip(),
        identifier=hashlib.sha256(f'{reference} {begin}'.encode()).hexdigest(),
        session_start_time=start,
        **({'session_id': reference} if reference else {}),
    )
    for rig, rows in by_rig.items():
        file.add_events_table(_table(event, rig, rows))
    with pynwb.NWBHDF5IO(target, 'w') as io:
        io.write(file)
    return sum(map(len, by_rig.values()))


def _table(event: Any, rig: str, rows: list[Fields]) -> Any:
    stamps = event.TimestampVectorData(
        name='timestamp',
        description='When the program noted the message, in seconds since the first EXPSTART.',
        data=[fields['session_time'] for fields in rows],
        resolution=1e-9,
    )
    columns = [stamps]
    for name, description in _COLUMNS.items():
        values = [_value(name, fields) for fields in rows]
        columns.append(event.VectorData(name=name, description=description, data=values))
    return event.EventsTable(
        name=f'messages_{rig}'.replace('/', '_').replace(':', '_'),
        description=f'The messages between this program and {rig}, on the clock of this computer.',
        source_description='A journal of echorig',
        columns=columns,
        colnames=['timestamp', *_COLUMNS],
    )


def _value(name: str, fields: Fields) -> Any:
    if name == 'utc_ns':
        return fields['time']
    if name == 'data':
        return orjson.dumps(fields['data']).decode() if 'data' in fields else str(fields.get('reason', ''))
    return str(fields.get('id' if name == 'message_id' else name, ''))
