"""Makes one line of JSON from a record: decodes its message, hides Alyx tokens, and cuts long data.

1. This runs in the thread of the journal. A message that cannot be decoded is described, and never raises.
2. Numbers that JSON has not, NaN and infinity, are written as null. Data that other readers may refuse, such as
   integers of more than 64 bits, is written as text.
"""

from __future__ import annotations

from typing import Any

import orjson

from ..messages import ExpMessage
from ..security.redaction import MASK, mask_tokens, may_hold_token, redact_frame
from ..uri import Address
from ..wire._codec import decode, encode, peek
from ..wire._tags import read_reply_number, read_tag, read_time, strip_tag
from ..wire.notices import event_of_notice
from ._records import Record

__all__ = ['MOST_BYTES', 'address', 'as_line', 'fields_of']

MOST_BYTES = 10_000
"""int: Data whose JSON has more bytes is cut."""
_NAMES = {event.value: str(name) for name, event in ExpMessage.__members__.items()} | {0: 'NOTICE'}


def as_line(fields: dict[str, Any]) -> bytes:
    """Return the fields of a record as one line of JSON."""
    try:
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
    except (TypeError, ValueError):  # data with integers of more than 64 bits, deep lists, or half of a character
        texts = {name: _plain(value) if isinstance(value, str) else value for name, value in fields.items()}
        if 'data' in fields:
            try:
                texts['data'] = _plain(encode(fields['data']).decode())
            except (TypeError, ValueError, RecursionError):
                texts['data'] = None
        return orjson.dumps(texts, option=orjson.OPT_APPEND_NEWLINE)


def _plain(text: str) -> str:
    return text.encode('utf-8', 'backslashreplace').decode()


def address(addr: Address) -> str:
    """Return an address as ``host:port``."""
    host, port = addr[0], addr[1]
    return f'[{host}]:{port}' if ':' in host else f'{host}:{port}'


def fields_of(record: Record) -> dict[str, Any]:
    """Return the fields of a record by name, without those that it does not have."""
    source, addr = record.source, record.addr
    fields: dict[str, Any] = {'kind': record.kind, 'time': record.time, 'mono': record.mono}
    fields['rig'], fields['role'] = source.name, source.role
    if addr is not None:
        fields['addr'] = address(addr)
    frame = record.frame
    if frame is not None:
        _add_message(fields, frame if type(frame) is bytes else frame.frame)  # type: ignore[attr-defined]
    if record.rtt >= 0.0:
        fields['rtt'] = record.rtt
    if record.tries:
        fields['tries'] = record.tries
    if record.details:
        fields.update((name, value) for name, value in record.details.items() if value is not None)
    if addr is not None and source.clock_of is not None and 'offset' not in fields:
        clock = source.clock_of(addr)
        if clock is not None:
            fields['offset'], fields['error'] = clock
    return fields


def _add_message(fields: dict[str, Any], frame: bytes) -> None:
    """Add the event, the number and the data of a message; only its beginning says that it was confirmed."""
    tag = read_tag(frame)
    message = None
    if len(frame) <= MOST_BYTES:
        message = _decoded(frame)
        event = message[0] if message else -1
    else:
        event = peek(frame)
    if event in _NAMES:
        fields['event'] = _NAMES[event]
    if tag is not None:
        fields['id'] = f'{tag[1]}:{tag[2]}'
        if (answered := read_reply_number(frame)) >= 0:
            fields['reply_to'] = f'{answered >> 32}:{answered & 0xFFFFFFFF}'
        if (moment := read_time(frame)) > 0:
            fields['at'] = moment
    if fields['kind'] in ('confirmed', 'failed'):  # the line of the message has its data
        return
    if message is not None:
        data = message[1:]
        about = event_of_notice(data) if event == 0 else None
        if about in _NAMES:
            fields['about'] = _NAMES[about]
        fields['data'] = mask_tokens(data, event, about)
    elif len(frame) > MOST_BYTES:
        _add_long(fields, strip_tag(frame))
    else:
        fields['data'] = redact_frame(frame)


def _decoded(frame: bytes) -> list[Any] | None:
    """Return a message; None for bytes that are none. MATLAB programs write one byte for each character."""
    for encoding in ('', 'latin-1'):
        try:
            message = decode(frame.decode(encoding).encode() if encoding else frame)
        except ValueError:
            continue
        if type(message) is list and message and type(message[0]) is int:
            return message
        return None
    return None


def _add_long(fields: dict[str, Any], body: bytes) -> None:
    """Add the beginning of a long message, its size and its hash, without decoding it, which would take long."""
    from hashlib import sha256  # most programs send no long messages

    beginning = body[:MOST_BYTES]
    is_secret = fields.get('event') in ('ALYX', 'NOTICE') or may_hold_token(beginning)
    fields['data'] = MASK if is_secret else beginning.decode('utf-8', 'ignore')
    fields['size'], fields['sha256'] = len(body), sha256(body).hexdigest()
