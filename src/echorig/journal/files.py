"""The files of journals: those that a path stands for, and their lines."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, BinaryIO, TextIO

import orjson

from ..checks import path as checked_path
from .log_file import rotated

__all__ = ['Fields', 'Paths', 'full_files', 'journals_at', 'open_to_read', 'open_to_write', 'parsed']

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Fields = dict[str, Any]
"""The fields of one line by name."""
_SUFFIX = '.jsonl'


def journals_at(paths: Paths) -> list[str]:
    """Return the path of each journal, each once; of a folder those of all its journals.

    Raises
    ------
    FileNotFoundError
        A path does not exist, and has no full files either.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    found: dict[str, str] = {}
    for each in given:
        path = os.path.abspath(checked_path(each, 'paths'))
        if os.path.isdir(path):
            names = sorted(name for name in os.listdir(path) if name.endswith(_SUFFIX))
            inside = [os.path.join(path, name) for name in names]
        else:
            inside = [path]
        for one in inside:
            if not os.path.exists(one) and not rotated(one):
                raise FileNotFoundError(2, 'There is no journal', one)
            found[os.path.realpath(one)] = one
    return list(found.values())


def full_files(path: str, newest: BinaryIO | None) -> list[str]:
    """Return the full files of a journal, the oldest first, without the one that is open as its newest."""
    own = None if newest is None else os.fstat(newest.fileno())
    found = []
    for _, each in rotated(path):
        there = os.stat(each)
        if own is None or (there.st_ino, there.st_dev) != (own.st_ino, own.st_dev):
            found.append(each)
    return found


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
