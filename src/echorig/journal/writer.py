"""`Journal`: the file in which programs note all their messages, one JSON object a line.

1. The thread of the event loop only puts records into a queue. One thread of the journal decodes and writes them, every
   0.1 s, and has the disk written every second.
2. It never stops a session: if the queue or the disk is full, records are counted as lost, this is logged once, and a
   line of the kind ``lost`` says so as soon as lines can be written again.
3. After a fork the child opens the file again with its first record, and writes none of its parent's.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from weakref import WeakSet

from .._version import __version__
from ..checks import flag, number_of
from ..checks import path as checked_path
from ..security.safe_log import SafeLog
from ._records import Record, Recorder, RecordQueue
from .lines import as_line, fields_of
from .log_file import AppendError, LogFile

__all__ = ['FORMAT', 'Journal']

FORMAT = 1
"""int: The version of the lines, in the line of the kind ``session``."""
_INTERVAL = 0.1  # seconds between two writes
_SYNC_INTERVAL = 1.0  # seconds between two fsync
_CLOSE_TIMEOUT = 10.0  # seconds for a disk that hangs
MOST_RECORDS = 200_000  # that wait
_BATCH = 2000  # records of one write
_PIECE = 2**20  # bytes of one write
_BURST = 16  # records that are decoded before the other threads get their turn
_PAUSE = 0.0001  # seconds of that turn

_open_journals: WeakSet[Journal] = WeakSet()


class Journal:
    """A file of all messages of one or several communicators of this program; thread-safe.

    Parameters
    ----------
    path : str or path
        The file; lines are appended if it exists. Several programs of one computer may write to it.
    durable : bool
        Whether each record is written to the disk at once, for a computer that may lose power; otherwise every second.
    max_bytes : int, optional
        The size in bytes, at least 1,000, at which the file is renamed to PATH.1, then PATH.2 and so on, and a new one
        begun; by default it grows without limit. Nothing is deleted.

    Raises
    ------
    OSError
        The file cannot be opened: there is no such folder, or it cannot be written to.
    TypeError, ValueError
        An argument is not valid.

    Attributes
    ----------
    path : str
        The absolute path.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Journal(folder + '/session.jsonl') as journal:
    ...     journal.lost
    0
    """

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = False, max_bytes: int | None = None) -> None:
        self._durable = flag(durable, 'durable')
        self._max_bytes = None if max_bytes is None else number_of(max_bytes, 'max_bytes', 2**62, 1000)
        self._log = SafeLog(logging.getLogger('echorig.journal'))
        self._queue = RecordQueue(MOST_RECORDS)
        self._failed_lines = 0  # that could not be written
        self._reported = 0  # lost records that a line reports
        self._logged: set[str] = set()
        self._id = ''
        self._number = 0
        self._piece_bytes = min(_PIECE, self._max_bytes or _PIECE)
        self._is_closed = False
        self._close_lock = threading.Lock()
        self.path = os.path.abspath(checked_path(path, 'path'))
        self._file = LogFile(self.path, self._max_bytes, self._first_line)
        self._start()
        _open_journals.add(self)

    def __repr__(self) -> str:
        return f'<echorig.journal.Journal {self.path}{", closed" if self._is_closed else ""}>'

    @property
    def lost(self) -> int:
        """int: Records that are not in the file, since the queue or the disk was full."""
        return self._queue.lost + self._failed_lines

    def recorder(self, name: str, role: str) -> Recorder:
        """Return what a communicator puts its messages into.

        Parameters
        ----------
        name : str
            The name of the communicator.
        role : str
            ``client`` or ``server``.

        Returns
        -------
        Recorder
            The recorder; its `clock_of` may be set to a function that returns the offset and the error of the clock
            of an address in seconds, or None. The function is called in the thread of the journal.
        """
        return Recorder(self._queue, name, role)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything recorded so far is written.

        Parameters
        ----------
        timeout : float
            How long to wait, in seconds.

        Returns
        -------
        bool
            Whether it was written in time.
        """
        with self._turn:
            wanted = self._n_turns + 2  # the present one may have passed the record
            self._wake.set()
            return self._turn.wait_for(lambda: self._n_turns >= wanted or self._is_ended(), timeout)

    def close(self) -> None:
        """Write everything, and close the file; what is recorded afterwards is lost."""
        self.close_soon()
        self._thread.join(_CLOSE_TIMEOUT)

    def close_soon(self) -> None:
        """Close without waiting: the thread of the journal writes what is left."""
        self._is_closed = True
        self._wake.set()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- the thread ---

    def _start(self) -> None:
        self._id, self._number = secrets.token_hex(4), 0
        self._wake = threading.Event()
        self._turn = threading.Condition()
        self._n_turns = 0
        self._synced_at = time.monotonic()
        self._has_begun = False
        self._begun_at = time.time_ns(), time.monotonic_ns()
        self._queue.wake = self._wake.set
        self._queue.urgent = self._durable
        self._thread = threading.Thread(target=self._run, name=f'echorig journal {self.path}', daemon=True)
        self._thread.start()

    def _is_ended(self) -> bool:
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._is_closed:
            self._wake.wait(_INTERVAL)
            self._take_turn()
        self._take_turn()
        self._file.close()
        with self._turn:
            self._turn.notify_all()

    def _take_turn(self) -> None:
        is_hasty = self._wake.is_set()
        self._wake.clear()
        try:
            n = len(self._queue.records)
            while n > 0:
                self._write(min(n, _BATCH), is_hasty)
                n -= _BATCH
            self._write(0)
            self._sync()
        except Exception as ex:  # a fault of the journal must not end it
            self._complain(ex)
        with self._turn:
            self._n_turns += 1
            self._turn.notify_all()

    def _write(self, n: int, is_hasty: bool = False) -> None:
        """Write the next n records, after what has to be written before them."""
        n_lost, number = self.lost, self._number
        first, lost = self._head(n_lost - self._reported)
        n_head = len(first + lost)
        lines = [self._numbered(fields) for fields in first + lost]
        for i in range(n):
            if i % _BURST == _BURST - 1 and not is_hasty:
                time.sleep(_PAUSE)  # the event loop goes on
            record = self._queue.records.popleft()
            try:
                lines.append(self._numbered(fields_of(record)))
            except Exception as ex:  # of a function of the program, such as clock_of
                self._failed_lines += 1
                self._complain(ex)
            self._queue.taken(_size_of(record))
        done = 0
        try:
            for piece in _pieces(lines, self._piece_bytes):
                self._file.append(b''.join(piece))
                done += len(piece)
        except AppendError as ex:
            done += b''.join(lines[done:]).count(b'\n', 0, ex.done)
            self._number = number + done
            self._failed_lines += len(lines) - max(done, n_head)
            self._complain(ex)
        if first and done >= 1:
            self._has_begun = True
        if lost and done >= n_head:
            self._reported = n_lost

    def _numbered(self, fields: dict[str, object]) -> bytes:
        line = as_line({**fields, 'writer': self._id, 'seq': self._number + 1})
        self._number += 1
        return line

    def _head(self, missing: int) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        """Return the first line of this program, and the line that reports lost records, where they are due."""
        now = {'time': time.time_ns(), 'mono': time.monotonic_ns()}
        first = [] if self._has_begun else [self._first_fields()]
        return first, [{'kind': 'lost', 'n': missing, **now}] if missing else []

    def _sync(self) -> None:
        now = time.monotonic()
        if self._durable or self._is_closed or now - self._synced_at >= _SYNC_INTERVAL:
            self._synced_at = now
            try:
                self._file.sync()
            except OSError as ex:
                self._complain(ex)

    def _complain(self, error: Exception) -> None:
        kind = _kind(error)
        if kind not in self._logged:
            self._logged.add(kind)
            self._log.error(
                'The journal %s cannot be written, and the session goes on: %s: %s', *(self.path, kind, error)
            )

    def _first_fields(self) -> dict[str, object]:
        now = time.localtime()
        return {
            'kind': 'session',
            'time': self._begun_at[0],
            'mono': self._begun_at[1],
            'format': FORMAT,
            'version': __version__,
            'host': socket.gethostname(),
            'pid': os.getpid(),
            'program': os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else '',
            'python': sys.version.split()[0],
            'time_zone': now.tm_zone,
            'utc_offset': now.tm_gmtoff,
        }

    def _first_line(self) -> bytes:
        """Return the line that a further file of this program begins with."""
        now = {'time': time.time_ns(), 'mono': time.monotonic_ns()}
        return as_line({**self._first_fields(), **now, 'continued': True, 'writer': self._id})

    # --- after a fork ---

    def after_fork(self) -> None:
        """Forget the records of the parent; the thread is started with the first record of the child."""
        self._queue.reset()
        self._failed_lines = self._reported = 0
        self._close_lock = threading.Lock()
        self._wake = threading.Event()
        if not self._is_closed:
            self._queue.wake, self._queue.urgent = self._restart, True

    def _restart(self) -> None:
        """Open the file again in the child, whose locks and position are then its own."""
        with self._close_lock:
            if self._queue.wake == self._restart:
                self._file.close()
                try:
                    self._file = LogFile(self.path, self._max_bytes, self._first_line)
                except OSError as ex:
                    self._complain(ex)
                    self._queue.urgent = False
                    return
                self._start()


def _pieces(lines: list[bytes], most: int) -> Iterator[list[bytes]]:
    """Divide lines into pieces of at most so many bytes, or of one line."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > most:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield piece


def _size_of(record: Record) -> int:
    return len(record.frame) if isinstance(record.frame, bytes) else 0


def _kind(error: Exception) -> str:
    return type(error.__cause__ or error).__name__


def _after_fork() -> None:
    for journal in _open_journals:
        journal.after_fork()


def _close_all() -> None:
    for journal in list(_open_journals):
        journal.close_soon()
    for journal in list(_open_journals):
        journal.close()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_close_all)
