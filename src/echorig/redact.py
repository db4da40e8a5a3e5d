"""How messages are shown: as text, without delivery tags, and with the Alyx tokens in them replaced by ``***``."""

from __future__ import annotations

import re
from typing import Any

from ._codec import decode, encode, peek, untagged
from .messages import ExpMessage

__all__ = ['Shown', 'shown']

HIDDEN = '***'
_NAMED = re.compile(rb'\s*\[\s*"\s*alyx', re.IGNORECASE)  # an event may also be given by its name
_LONGEST = 1000


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
    frame = untagged(frame)
    if b'128' in frame or b'alyx' in frame.lower():
        frame = _without_tokens(frame)
    text = frame[: 4 * _LONGEST].decode('utf-8', 'backslashreplace')
    if not text.isprintable():  # nothing that a terminal would obey gets into a log
        text = ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)
    return text if len(text) <= _LONGEST else f'{text[:_LONGEST]}… ({len(frame)} bytes)'


def _without_tokens(frame: bytes) -> bytes:
    """Hide the tokens in an ALYX message, and in a notice that quotes one."""
    event = peek(frame)
    if event == ExpMessage.ALYX or _NAMED.match(frame):
        try:
            code, *rest = decode(frame)
        except ValueError:
            return b'[128, ' + HIDDEN.encode() + b']'  # cut short: what is secret in it cannot be told
        url = [part if isinstance(part, str) or part is None else HIDDEN for part in rest[:1]]
        return encode([code, *url, *map(_hide, rest[1:])])
    if event == 0:
        try:
            return encode(_unquote(decode(frame)))
        except ValueError:
            return b'[0, ' + HIDDEN.encode() + b']'
    # Text that is no message may still quote one.
    return b'(' + str(len(frame)).encode() + b' bytes, ' + HIDDEN.encode() + b')' if b'"token"' in frame else frame


def _hide(part: Any) -> Any:
    """Hide the values of ``{user: token}``, or whatever stands in its place."""
    return dict.fromkeys(part, HIDDEN) if isinstance(part, dict) else HIDDEN


def _unquote(value: Any) -> Any:
    """Hide the tokens in ALYX messages that stand as text inside another message."""
    if isinstance(value, list):
        return [_unquote(item) for item in value]
    if isinstance(value, str) and peek(value.encode('utf-8', 'replace')) == ExpMessage.ALYX:
        return _without_tokens(value.encode('utf-8', 'replace')).decode()
    return value


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
