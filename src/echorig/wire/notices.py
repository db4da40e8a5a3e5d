"""Notices: what they are about. Each rig says in them that something failed, in one of several shapes."""

from __future__ import annotations

from typing import Any

from ..messages import ExpMessage
from ._codec import peek

__all__ = ['event_of_notice', 'is_about_no_message']


def event_of_notice(content: list[Any]) -> int | None:
    """Tell which event a notice is about: its code, that of the message which MATLAB quotes instead, or nothing."""
    if len(content) < 2:
        return None
    event = content[1]
    if isinstance(event, str):
        code = peek(event.encode('utf-8', 'replace'))
        return code if code > 0 else None
    return event if type(event) is int and 0 <= event <= ExpMessage.any() else None


def is_about_no_message(content: list[Any]) -> bool:
    """Tell whether a notice quotes a ping, or a notice.

    MATLAB programs execute whatever they receive. Of a ping, which is an empty array, and of a notice they say that
    they cannot.
    """
    quoted = content[1] if len(content) > 1 else None
    if not isinstance(quoted, str):
        return False
    quoted = quoted.strip()
    if quoted[:1] == '[' and quoted[-1:] == ']' and not quoted[1:-1].strip():
        return True
    return peek(quoted.encode('utf-8', 'replace')) == 0
