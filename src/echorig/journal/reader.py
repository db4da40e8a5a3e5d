"""`read`: the records of journals in order of time, also while they are written."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import BinaryIO

from .files import Fields, Paths, full_files, journals_at, open_to_read, parsed

__all__ = ['JournalReader', 'read']

_DISORDER = 5_000_000_000  # nanoseconds by which lines of several programs in one file may be out of order
_POLL = 0.1  # seconds


def read(
    paths: Paths, *, follow: bool = False, on_skipped: Callable[[str, bytes], object] | None = None
) -> JournalReader:
    """Read journals.

    Parameters
    ----------
    paths : str, path or iterable
        The files, with those that were renamed when they were full (PATH.1, PATH.2 and so on), or folders of files
        that end with ``.jsonl``.
    follow : bool
        Whether to wait at the end for what is written later, without end.
    on_skipped : callable, optional
        Called with the path and the bytes of each line that is skipped, because it is torn or no record.

    Returns
    -------
    JournalReader
        An iterator of the records as dicts, in order of time. `JournalReader.skipped` counts the skipped lines.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    OSError, TypeError, ValueError
        A file cannot be read, or `paths` is no path.
    """
    return JournalReader(paths, follow, on_skipped)


class JournalReader(Iterator[Fields]):
    """The records of journals; made by `read`.

    Attributes
    ----------
    lines : int
        The records read so far.
    skipped : int
        The lines skipped so far: torn ones, and those of other programs.
    lost : int
        The records that the writers have reported as lost.
    """

    def __init__(self, paths: Paths, follow: bool, on_skipped: Callable[[str, bytes], object] | None) -> None:
        if not isinstance(paths, (str, os.PathLike)):
            paths = list(paths)
        journals = journals_at(paths)
        self.lines = self.skipped = self.lost = 0
        self._on_skipped = on_skipped
        self._records = self._follow(paths) if follow else self._in_order([self._of_journal(path) for path in journals])

    def __iter__(self) -> JournalReader:
        return self

    def __next__(self) -> Fields:
        fields = next(self._records)
        self.lines += 1
        if fields['kind'] == 'lost':
            self.lost += int(fields.get('n', 0))
        return fields

    def _parsed(self, line: bytes, path: str) -> Fields | None:
        fields = parsed(line)
        if fields is None and line.strip():
            self.skipped += 1
            if self._on_skipped is not None:
                self._on_skipped(path, line)
        return fields

    def _of_journal(self, path: str) -> Iterator[Fields]:
        """Read all files of a journal, also if its newest file is renamed meanwhile."""
        with ExitStack() as stack:
            newest = None
            with suppress(FileNotFoundError):
                newest = stack.enter_context(open_to_read(path))
            yield from self._of_full_files(path, newest)
            yield from filter(None, (self._parsed(line, path) for line in newest or ()))

    def _of_full_files(self, path: str, newest: BinaryIO | None) -> Iterator[Fields]:
        for full in full_files(path, newest):
            with open_to_read(full) as file:
                yield from filter(None, (self._parsed(line, full) for line in file))

    def _in_order(self, journals: list[Iterator[Fields]]) -> Iterator[Fields]:
        streams = [_sorted(journal) for journal in journals]
        return streams[0] if len(streams) == 1 else heapq.merge(*streams, key=lambda fields: fields['time'])

    def _follow(self, paths: Paths) -> Iterator[Fields]:
        """Read what is there in order of time, and then each line when it is written."""
        tails: dict[str, _Tail] = {}
        try:
            while True:
                found: list[Fields] = []
                for path in journals_at(paths):
                    if path not in tails:
                        with suppress(FileNotFoundError):  # it is being renamed
                            tail = tails[path] = _Tail(path)
                            found += self._of_full_files(path, tail.file)
                for tail in tails.values():
                    found += filter(None, (self._parsed(line, tail.path) for line in tail.lines()))
                found.sort(key=lambda fields: fields['time'])
                yield from found
                if not found:
                    time.sleep(_POLL)
        finally:
            for tail in tails.values():
                tail.close()


class _Tail:
    """The lines that are appended to a file, also after it was renamed and begun again."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = open_to_read(path)  # the newest
        self._rest = b''

    def lines(self) -> Iterator[bytes]:
        """Yield the whole lines written since the last call."""
        while True:
            piece = self.file.read(2**20)
            if piece:
                *lines, self._rest = (self._rest + piece).split(b'\n')
                yield from lines
            elif not self._renamed():
                return
            elif self._rest:  # torn, since the file is complete
                rest, self._rest = self._rest, b''
                yield rest

    def _renamed(self) -> bool:
        """Open the next file, if this one is complete."""
        try:
            there, own = os.stat(self.path), os.fstat(self.file.fileno())
            if (there.st_ino, there.st_dev) == (own.st_ino, own.st_dev):
                return False
            following = open_to_read(self.path)
        except OSError:  # it is about to be made
            return False
        self.file.close()
        self.file = following
        return True

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _sorted(records: Iterator[Fields]) -> Iterator[Fields]:
    """Sort records that are nearly in order, without holding all of them."""
    heap: list[tuple[int, int, Fields]] = []
    newest = 0
    for i, fields in enumerate(records):
        moment = fields['time']
        newest = max(newest, moment)
        heapq.heappush(heap, (moment, i, fields))
        while heap and newest - heap[0][0] > _DISORDER:
            yield heapq.heappop(heap)[2]
    while heap:
        yield heapq.heappop(heap)[2]
