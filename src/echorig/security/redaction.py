"""No Alyx token is in a text that this package makes: log lines, errors, and the `repr` of what was received.

1. A frame is shown if it is a message of a known event other than ALYX, or a notice about one, and mentions neither a
   token nor a URL. Of any other frame only the size is shown: it may be an ALYX message that was cut or damaged.
2. The mapping that comes with an ALYX message hides its values in its `repr`.
3. Of an error that may have to do with ALYX, only the type is shown.
"""

from __future__ import annotations

import re
from typing import Any

from ..messages import ExpMessage
from ..wire._codec import decode
from ..wire._tags import strip_tag
from ..wire.notices import event_of_notice

__all__ = ['MASK', 'HiddenDict', 'LazyFrame', 'hide_values', 'printable', 'redact_error', 'redact_frame']

MASK = '***'
_MAX_TEXT = 1000  # characters of one message in a log line
_MAX_PARSED = 65_536  # bytes; parsing more takes too long for a log line
_SHOWN_EVENTS = frozenset(map(int, ExpMessage.__members__.values())) - {int(ExpMessage.ALYX)}
_SUSPECT = r'token|alyx|://'
_SUSPECT_TEXT = re.compile(_SUSPECT + r'|\[\s*128\b', re.IGNORECASE)
_SUSPECT_BYTES = re.compile(_SUSPECT.encode(), re.IGNORECASE)
_LONG_WORD = re.compile(r'(?=[\w-]*\d)[\w-]{16,}')  # as a token is, and no word of a language
_ERROR_TYPE = re.compile(r'[A-Za-z_][\w.]{0,99}(?=:|$)', re.ASCII)


def redact_frame(frame: bytes | None) -> str:
    r"""Return a frame as text for people, without its delivery tag and without secrets.

    Parameters
    ----------
    frame : bytes or None
        What was sent or received.

    Returns
    -------
    str
        The message, cut after 1,000 characters; ``<n bytes>`` for what may hold a token, or is no message.
    """
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
    """Return the text of an error without what may be a token.

    Parameters
    ----------
    text : str
        The text, ``ErrorType: details``, which anybody may have written.
    event : int, optional
        The event that the error is about; None if that is not known.

    Returns
    -------
    str
        The text; only the type of the error, if it is about ALYX or may quote a token.
    """
    suspect = _SUSPECT_TEXT.search(text) or (event is None and _LONG_WORD.search(text))
    if event != ExpMessage.ALYX and not suspect:
        return text
    found = _ERROR_TYPE.match(text)
    return found.group() if found else 'an error'


def printable(text: str) -> str:
    r"""Return a text that somebody else has written as it may stand in a log.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    str
        The text, with control characters as ``\\x1b``, cut after 1,000 characters.
    """
    safe = _escape(text[:_MAX_TEXT])
    return (
        safe if len(safe) <= _MAX_TEXT and len(text) <= _MAX_TEXT else f'{safe[:_MAX_TEXT]}… ({len(text)} characters)'
    )


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)


class LazyFrame:
    """A frame that becomes text only if a log record is written.

    Parameters
    ----------
    frame : bytes
        What was sent or received.
    """

    __slots__ = ('_frame',)

    def __init__(self, frame: bytes) -> None:
        self._frame = frame

    def __str__(self) -> str:
        return redact_frame(self._frame)

    def __repr__(self) -> str:
        return repr(redact_frame(self._frame))


class HiddenDict(dict[Any, Any]):
    """A mapping that shows its keys and hides its values, and is a `dict` in every other way."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self, MASK))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)  # the program that reads it may have no echorig


def hide_values(value: Any, depth: int = 8) -> Any:
    """Return a value with every mapping in it replaced by one that hides its values.

    Parameters
    ----------
    value : Any
        The data of an ALYX message.
    depth : int
        How many levels are replaced; what lies deeper is inside of a mapping that hides it.

    Returns
    -------
    Any
        The value; equal to the one given.
    """
    if isinstance(value, dict):
        items = ((key, hide_values(item, depth - 1)) for key, item in value.items())
        return HiddenDict(items) if depth else HiddenDict(value)
    if type(value) is list and depth:
        return [hide_values(item, depth - 1) for item in value]
    return value
