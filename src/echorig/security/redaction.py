"""How messages are shown: as text, without delivery tags, and with the Alyx tokens in them replaced by ``***``.

1. In an ALYX message, however its event is written, only the database's host and the names of the users are shown.
2. In any other message a mapping behind a URL, the value of ``"token"``, and messages quoted as text are looked into.
3. What cannot be read is shown up to what may be secret: it may be an ALYX message that was cut or damaged.
"""

from __future__ import annotations

import re
from typing import Any

from ..messages import ExpMessage
from ..wire._codec import decode, encode, peek
from ..wire._tags import strip_tag
from .concealed import HIDDEN, told

__all__ = ['Shown', 'legible', 'shown']

_LONGEST = 1000
_WHOLE = 65_536  # bytes; no ALYX message comes near it, and of others only the beginning is shown
_DEEPEST = 16
_EVENTS = frozenset(map(int, ExpMessage.__members__.values())) - {int(ExpMessage.ALYX)}
_SUSPECT = re.compile(rb'128|1\.28|alyx|token|\\u00', re.IGNORECASE)
_URL = re.compile(r'\s*(https?://)(?:[^/?#\s]*@)?([^/?#\s@]*)(.*)', re.IGNORECASE | re.DOTALL)


def shown(frame: bytes | None) -> str:
    r"""Return a message as text for people, free of secrets.

    Parameters
    ----------
    frame : bytes or None
        What was sent or received.

    Returns
    -------
    str
        The text; bytes that are no UTF-8 appear as ``\\xNN``, and after 1,000 characters it is cut.
    """
    if frame is None:
        return str(None)
    frame = strip_tag(frame)
    # An ordinary message in which nothing can hide is most of what is logged.
    if peek(frame) not in _EVENTS or b'{' in frame or b'\\' in frame or _SUSPECT.search(frame):
        safe = _without_tokens(frame)
    else:
        safe = frame
    text = _printable(safe[: 4 * _LONGEST].decode('utf-8', 'backslashreplace'))
    return text if len(text) <= _LONGEST else f'{text[:_LONGEST]}… ({len(frame)} bytes)'


def legible(text: str) -> str:
    r"""Return a text that somebody else has written as it may stand in a log.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    str
        The text; what a terminal would obey, or no file would take, appears as ``\\x1b``, and after 1,000 characters
        it is cut.
    """
    safe = _printable(text[:_LONGEST])
    return safe if len(safe) <= _LONGEST and len(text) <= _LONGEST else f'{safe[:_LONGEST]}… ({len(text)} characters)'


def _printable(text: str) -> str:
    """Write out what is not printable: nothing that a terminal would obey gets into a log."""
    if text.isprintable():
        return text
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)


def _without_tokens(frame: bytes) -> bytes:
    """Hide the tokens in a message, whatever it is."""
    if len(frame) > _WHOLE:
        return _torn(frame[: 4 * _LONGEST])
    try:
        message = decode(frame)
    except ValueError:
        return _torn(frame)
    if isinstance(message, str):  # as text is shown that is no JSON
        safe: Any = _quoted(message, _DEEPEST)
    elif isinstance(message, list):
        # A mapping in what is no message at all may be that of an ALYX message with another code.
        is_event = bool(message) and type(message[0]) is int and (message[0] in _EVENTS or message[0] == 0)
        safe = _array(message, _DEEPEST, not is_event)
    else:
        safe = _hidden(message, _DEEPEST, True)
    return frame if safe == message else encode(safe)


def _torn(frame: bytes) -> bytes:
    """Show of what cannot be read the part that is outside of any mapping, up to what may be an ALYX message."""
    begin, end = frame.find(b'{'), frame.rfind(b'}')
    found = _SUSPECT.search(frame)
    hidden = HIDDEN.encode()
    if found is not None and (begin < 0 or found.end() <= begin):
        return frame[: found.end() if end < 0 or found.end() <= end else 0] + hidden
    if begin < 0 and end < 0:
        return frame
    return frame[: max(begin, 0)] + hidden + (frame[end + 1 :] if end > begin else b'')


def _is_alyx(code: Any) -> bool:
    """Tell whether an event is ALYX, or a combination with it, whatever it is written as."""
    if isinstance(code, str):
        return code.strip().upper() in ('ALYX', '128')
    if isinstance(code, float) and code.is_integer():
        code = int(code)
    return isinstance(code, int) and 0 < code <= ExpMessage.any() and bool(code & ExpMessage.ALYX)


def _is_of_alyx(event: Any) -> bool:
    """Tell whether a notice is about an ALYX message: it says its code, or as MATLAB quotes it."""
    return _is_alyx(event) or (isinstance(event, str) and peek(event.encode('utf-8', 'replace')) == ExpMessage.ALYX)


def _array(message: list[Any], depth: int, strict: bool) -> list[Any]:
    """Hide the tokens in an array, which may be an ALYX message, or a notice that quotes one."""
    if message and _is_alyx(message[0]):
        return [message[0], *map(_address, message[1:2]), *map(_user, message[2:])]
    is_alyx = len(message) > 2 and type(message[0]) is int and message[0] == 0 and _is_of_alyx(message[2])
    safe = []
    before: Any = None
    for part in message:
        if isinstance(part, dict) and isinstance(before, str) and _URL.match(before):
            safe.append(_user(part))
        elif is_alyx and isinstance(part, str):
            safe.append(told(part, True))
        else:
            safe.append(_hidden(part, depth - 1, strict))
        before = part
    return safe


def _address(part: Any) -> Any:
    """Show of the database its host alone: a user, a password or a token may stand before it or behind it."""
    if part is None:
        return None
    found = _URL.match(part) if isinstance(part, str) else None
    if found is None:
        return HIDDEN
    scheme, host, rest = found.groups()
    return scheme + host + (f'/{HIDDEN}' if rest not in ('', '/') else rest)


def _user(part: Any) -> Any:
    """Hide the values of ``{user: token}``, or whatever stands in its place."""
    return dict.fromkeys(part, HIDDEN) if isinstance(part, dict) else HIDDEN


def _hidden(value: Any, depth: int, strict: bool) -> Any:
    """Hide the tokens in a part of a message; where it is none, every text in a mapping may be one."""
    if isinstance(value, (dict, list)) and depth <= 0:
        return HIDDEN
    if isinstance(value, list):
        return _array(value, depth, strict)
    if isinstance(value, dict):
        return {
            key: HIDDEN
            if (strict and isinstance(item, str)) or key.strip().lower() == 'token'
            else _hidden(item, depth - 1, strict)
            for key, item in value.items()
        }
    return _quoted(value, depth) if isinstance(value, str) else value


def _quoted(text: str, depth: int) -> str:
    """Hide the tokens in a text, which may quote a message."""
    if len(text) < 4 or not ('[' in text or '{' in text or '"' in text or 'oken' in text):
        return text
    data = text.encode('utf-8', 'replace')
    try:
        message = decode(data)
    except ValueError:
        if '{' in text and _SUSPECT.search(data):
            return _torn(data).decode()
        return told(text)
    if not isinstance(message, (dict, list, str)):
        return text
    safe = HIDDEN if depth <= 0 else _hidden(message, depth - 1, False)
    return text if safe == message else encode(safe).decode()


class Shown:
    """A message that becomes text only if a log record is written.

    Parameters
    ----------
    frame : bytes
        What was sent or received.
    """

    __slots__ = ('_frame',)

    def __init__(self, frame: bytes) -> None:
        self._frame = frame

    def __str__(self) -> str:
        return shown(self._frame)

    def __repr__(self) -> str:
        return repr(shown(self._frame))
