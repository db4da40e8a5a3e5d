"""The files of journals: those that a path stands for, and their lines."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, BinaryIO, TextIO

import orjson

from ..checks import path as checked_path
from .log_file import rotated

__all__ = ['Fields', 'Paths', 'journals_at', 'open_to_read', 'open_to_write', 'parsed']

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Fields = dict[str, Any]
"""The fields of one line by name."""
_SUFFIX = '.jsonl'


def journals_at(paths: Paths) -> list[list[str]]:
    """Return the files of each journal, the oldest first; of a folder those of all its journals.

    Raises
    ------
    FileNotFoundError
        A path does not exist.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    found: dict[str, list[str]] = {}
    for each in given:
        path = os.path.abspath(checked_path(each, 'paths'))
        if os.path.isdir(path):
            names = sorted(name for name in os.listdir(path) if name.endswith(_SUFFIX))
            inside = [os.path.join(path, name) for name in names]
        else:
            inside = [path]
        for one in inside:
            files = [full for _, full in rotated(one)]
            if os.path.exists(one):
                files.append(one)
            if not files:
                raise FileNotFoundError(2, 'There is no journal', one)
            found[os.path.realpath(one)] = files
    return list(found.values())


def open_to_read(path: str) -> BinaryIO:
    """Open a file of lines."""
    name = checked_path(path, 'paths')
    return open(name, 'rb')


def open_to_write(path: str) -> TextIO:
    """Open a text file for rows; the module csv writes the ends of lines."""
    name = checked_path(path, 'target')
    return open(name, 'w', encoding='utf-8', newline='')


def parsed(line: bytes) -> Fields | None:
    """Return the fields of a line; None if it is torn, or of another program."""
    try:
        fields = orjson.loads(line)
    except ValueError:
        return None
    if type(fields) is not dict or type(fields.get('kind')) is not str or type(fields.get('time')) is not int:
        return None
    return fields
