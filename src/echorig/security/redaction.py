"""Keeps Alyx tokens out of log lines, errors, and the `repr` of received data.

1. A frame is shown only if it parses as a message of a known event other than ALYX, or as a notice about one, and
   contains neither a token nor a URL. Any other frame may be a truncated or damaged ALYX message: its size is shown.
2. The mapping in an ALYX message hides its values in its `repr`.
3. Of an error that may concern ALYX, only the type is shown.
4. In a journal, `mask_tokens` hides the values that may be tokens, and leaves the rest of the data.
"""

from __future__ import annotations

import re
import traceback
from typing import Any

from ..compatibility import in_force
from ..messages import ExpMessage
from ..wire._codec import decode
from ..wire._tags import strip_tag
from ..wire.notices import event_of_notice

__all__ = [
    'MASK',
    'HiddenDict',
    'LazyFrame',
    'frames_of',
    'hide_values',
    'mask_tokens',
    'may_hold_token',
    'may_show_traceback',
    'printable',
    'redact_error',
    'redact_frame',
]

MASK = '***'
_MAX_TEXT = 1000  # characters of one message in a log line
_MAX_PARSED = 65_536  # bytes; parsing more takes too long for a log line
_SHOWN_EVENTS = frozenset(map(int, ExpMessage.__members__.values())) - {int(ExpMessage.ALYX)}
_SUSPECT = r'token|alyx|://'
_SUSPECT_TEXT = re.compile(_SUSPECT + r'|\[\s*128\b', re.IGNORECASE)
_SUSPECT_BYTES = re.compile(_SUSPECT.encode(), re.IGNORECASE)
_SUSPECT_KEY = re.compile(r'token|alyx|passw|secret|credential|auth(?!or)', re.IGNORECASE)
_LONG_WORD = re.compile(r'(?=[\w-]*\d)[\w-]{16,}')  # has a digit, as tokens do and words do not
_ERROR_TYPE = re.compile(r'[A-Za-z_][\w.]{0,99}(?=:|$)', re.ASCII)


def redact_frame(frame: bytes | None) -> str:
    """Return a frame as text, without its delivery tag; ``<n bytes>`` if it may contain a token or is no message."""
    if frame is None:
        return 'None'
    body = strip_tag(frame)
    if not _may_be_shown(body):
        return f'<{len(frame)} bytes>'
    text = _escape(body[: 4 * _MAX_TEXT].decode('utf-8', 'backslashreplace'))
    return text if len(text) <= _MAX_TEXT else f'{text[:_MAX_TEXT]}… ({len(frame)} bytes)'


def _may_be_shown(frame: bytes) -> bool:
    if len(frame) > _MAX_PARSED or _SUSPECT_BYTES.search(frame):
        return False
    try:
        message = decode(frame)
    except ValueError:
        return False
    if not isinstance(message, list) or not message or type(message[0]) is not int:
        return False
    return (event_of_notice(message[1:]) if message[0] == 0 else message[0]) in _SHOWN_EVENTS


def redact_error(text: str, event: int | None = None) -> str:
    """Return an error text, ``ErrorType: details``; only its type if it concerns ALYX or may contain a token.

    `event` is the event that the error concerns, or None if that is unknown.
    """
    suspect = _SUSPECT_TEXT.search(text) or (event is None and _LONG_WORD.search(text))
    if event != ExpMessage.ALYX and not suspect:
        return text
    found = _ERROR_TYPE.match(text)
    return found.group() if found else 'an error'


def may_show_traceback(error: BaseException, event: int | None = None) -> bool:
    """Return whether the traceback of an error, with its causes, contains nothing that `redact_error` removes."""
    text = ''.join(traceback.format_exception(error))
    return redact_error(text, event) == text


def frames_of(error: BaseException, event: int | None = None) -> str:
    """Return where an error was raised, without its text; nothing if it concerns ALYX."""
    return '' if event == ExpMessage.ALYX else '\n' + ''.join(traceback.format_tb(error.__traceback__)).rstrip()


def printable(text: str) -> str:
    r"""Return a peer's text for a log line: control characters as ``\\x1b``, truncated after 1,000 characters."""
    safe = _escape(text[:_MAX_TEXT])
    if max(len(safe), len(text)) <= _MAX_TEXT:
        return safe
    return f'{safe[:_MAX_TEXT]}… ({len(text)} characters)'


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)


class LazyFrame:
    """A frame that is redacted only when a log record is formatted."""

    __slots__ = ('_frame',)

    def __init__(self, frame: bytes) -> None:
        self._frame = frame

    def __str__(self) -> str:
        return redact_frame(self._frame)

    def __repr__(self) -> str:
        return repr(redact_frame(self._frame))


class HiddenDict(dict[Any, Any]):
    """A `dict` whose `repr` shows the keys and hides the values."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self, MASK))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)  # the program that unpickles it may have no echorig


def hide_values(value: Any, depth: int = 8) -> Any:
    """Return the data of an ALYX message with each mapping replaced by a `HiddenDict`, `depth` levels down.

    Deeper mappings are inside of one that hides its values. With `Compatibility.tokens_in_yaml` nothing is replaced.
    """
    if in_force().tokens_in_yaml:
        return value
    if isinstance(value, dict):
        items = ((key, hide_values(item, depth - 1)) for key, item in value.items())
        return HiddenDict(items) if depth else HiddenDict(value)
    if type(value) is list and depth:
        return [hide_values(item, depth - 1) for item in value]
    return value


def may_hold_token(frame: bytes) -> bool:
    """Return whether the bytes of a message name a token, Alyx or a URL."""
    return _SUSPECT_BYTES.search(frame) is not None


def mask_tokens(data: list[Any], event: int, about: int | None = None) -> list[Any]:
    """Return the data of a message with ``***`` in place of what may be a token, for a file.

    Of an ALYX message only the address of the database and the names of users are kept. In other messages the values
    of keys such as ``token`` are hidden, and long words in texts that mention one. `about` is the event of a notice.
    """
    if event == ExpMessage.ALYX:
        return [item if i == 0 and _is_url(item) else _mask_all(item) for i, item in enumerate(data)]
    if event == 0:
        return [redact_error(item, about) if isinstance(item, str) else _mask_some(item) for item in data]
    return [_mask_some(item) for item in data]


def _is_url(value: object) -> bool:
    return isinstance(value, str) and '://' in value and '@' not in value and '?' not in value


def _mask_all(value: Any) -> Any:
    if isinstance(value, dict):
        return dict.fromkeys(value, MASK)
    if isinstance(value, list):
        return [_mask_all(item) for item in value]
    return value if value is None or isinstance(value, bool) else MASK


def _mask_some(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: MASK if item is not None and _SUSPECT_KEY.search(str(key)) else _mask_some(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_mask_some(item) for item in value]
    if isinstance(value, str) and _SUSPECT_KEY.search(value):
        return _LONG_WORD.sub(MASK, value)
    return value
