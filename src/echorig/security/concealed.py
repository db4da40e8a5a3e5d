"""Alyx tokens that do not show: as values in the hands of a program, and in the texts of errors.

A token that has come is a value like any other, and programs, asyncio and pytest write values into logs: as the result
of a finished task, in the text of an exception. So the mapping that holds it keeps it out of its ``repr``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

__all__ = ['HIDDEN', 'Concealed', 'conceal', 'told', 'without']

HIDDEN = '***'
_SUSPECT = re.compile(r'alyx|token|\[\s*\W?128\b', re.IGNORECASE)
_NAMED = re.compile(r'(token\W{0,8})[^\s"\'\\,;}\])&]{4,}', re.IGNORECASE)  # token=…, 'token': '…', Token …
_QUOTED = re.compile(r'"[^"]{6,}"|\'[^\']{6,}\'')
_WORD = re.compile(r'(?<![\w-])(?=[\w-]*\d)[\w-]{16,}')  # what is as long and has a digit is no word of a language
_SHORTEST = 4  # characters; shorter texts are no tokens, and stand in every sentence


class Concealed(dict[Any, Any]):
    """A mapping that shows its keys and hides its values, and is a `dict` in every other way."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self, HIDDEN))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)  # whoever reads it may have no echorig


def conceal(value: Any, depth: int = 8) -> Any:
    """Return a value with every mapping in it replaced by one that hides its values.

    Parameters
    ----------
    value : Any
        What came with an ALYX message.
    depth : int
        How far to look; what lies deeper is inside a mapping that hides it.

    Returns
    -------
    Any
        The value; equal to the one given.
    """
    if isinstance(value, dict):
        return Concealed((key, conceal(item, depth - 1)) for key, item in value.items()) if depth else Concealed(value)
    if type(value) is list and depth:
        return [conceal(item, depth - 1) for item in value]
    return value


def _texts(value: Any, depth: int = 8) -> Iterator[str]:
    """Find the texts in a value that may be secret: not the keys, which are names of users, nor addresses."""
    if isinstance(value, str):
        if len(value) >= _SHORTEST and '://' not in value:
            yield value
    elif depth and isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item, depth - 1)


def without(text: str, data: Any) -> str:
    """Return a text with everything replaced in it that is secret in the data of an ALYX message.

    Parameters
    ----------
    text : str
        What is to be shown.
    data : Any
        The data of the message.

    Returns
    -------
    str
        The text, with ``***`` in place of each token.
    """
    for secret in sorted(_texts(data), key=len, reverse=True):
        for form in (secret, repr(secret)[1:-1]):
            text = text.replace(form, HIDDEN)
    return text


def told(text: str, is_alyx: bool = False) -> str:
    """Return the text of an error without what looks like a token.

    Parameters
    ----------
    text : str
        The text, which anybody may have written.
    is_alyx : bool
        Whether the error has to do with an ALYX message: then whatever is quoted is hidden, and long words with digits.

    Returns
    -------
    str
        The text, with ``***`` in place of what may be secret.
    """
    if not is_alyx and not _SUSPECT.search(text):
        return text
    begin, end = text.find('{'), text.rfind('}')
    if begin >= 0 or end >= 0:  # a mapping, or what is left of one
        text = text[: max(begin, 0)] + HIDDEN + (text[end + 1 :] if end > begin else '')
    text = _NAMED.sub(rf'\g<1>{HIDDEN}', text)
    if is_alyx:
        text = _WORD.sub(HIDDEN, _QUOTED.sub(lambda found: found[0][0] + HIDDEN + found[0][0], text))
    return text
