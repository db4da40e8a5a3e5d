"""`LogFile`: a file to which whole lines are appended, by several programs at once if need be.

1. One write appends whole lines to a descriptor of O_APPEND, so that lines of two programs do not mix. If the system
   writes only a part, the next write begins with a newline and repeats the line that was cut.
2. Before each write it is checked that the path still is this file, as `logging.handlers.WatchedFileHandler` does.
3. With `max_bytes`, a full file is renamed to PATH.1, the next one to PATH.2, and so on; nothing is deleted. The file
   is locked meanwhile, where the system has such locks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ['RENAMES_OPEN_FILES', 'LogFile', 'rotated']

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, 'O_CLOEXEC', 0) | getattr(os, 'O_BINARY', 0)
_TRIES = 4  # writes of one batch
RENAMES_OPEN_FILES = os.name != 'nt'
"""bool: Whether the system renames a file that is open."""
_CANNOT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EROFS, errno.ENOTSUP)  # pipes and devices


def rotated(path: str) -> list[tuple[int, str]]:
    """Return the numbers and paths of the full files of a journal, the oldest first."""
    folder, name = os.path.split(os.path.abspath(path))
    pattern = re.compile(re.escape(name) + r'\.(\d+)')
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = [(int(match.group(1)), os.path.join(folder, name)) for name in names if (match := pattern.fullmatch(name))]
    return sorted(found)


class LogFile:
    """An open file; `on_new_file` returns a line that each further file begins with."""

    def __init__(self, path: str, max_bytes: int | None, on_new_file: Callable[[], bytes] = lambda: b'') -> None:
        self.path = os.path.abspath(path)
        self._max_bytes, self._on_new_file = max_bytes, on_new_file
        self._is_torn = False
        self._is_dirty = False
        self._fd = self._open()

    def _open(self) -> int:
        try:
            fd = os.open(self.path, _FLAGS, 0o666)
        except OSError as ex:
            why = ex.strerror
            if isinstance(ex, FileNotFoundError):
                why = f'there is no folder {os.path.dirname(self.path)}'
            raise type(ex)(ex.errno, f'Cannot open the journal: {why}', self.path) from None
        with contextlib.suppress(OSError):
            self._is_torn = self._ends_within_a_line(fd)
        return fd

    def _ends_within_a_line(self, fd: int) -> bool:
        """Return whether an earlier program was ended while it wrote."""
        size = os.fstat(fd).st_size
        if size == 0:
            return False
        reading = os.open(self.path, os.O_RDONLY | getattr(os, 'O_BINARY', 0))
        try:
            os.lseek(reading, size - 1, os.SEEK_SET)
            return os.read(reading, 1) not in (b'\n', b'')
        finally:
            os.close(reading)

    def append(self, data: bytes) -> None:
        """Write whole lines, or raise `AppendError`."""
        done = 0
        try:
            self._follow_path()
            if self._max_bytes is not None:
                self._rotate(len(data))
            for _ in range(_TRIES):
                rest = data[done:]
                n = os.write(self._fd, b'\n' + rest if self._is_torn else rest)
                self._is_dirty = True
                n -= self._is_torn
                if n < 0:  # not even the newline
                    continue
                if n == len(rest):
                    self._is_torn = False
                    return
                whole = rest.rfind(b'\n', 0, n) + 1
                self._is_torn = n > whole
                done += whole
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        except OSError as ex:
            raise AppendError(ex, done) from ex

    def _follow_path(self) -> None:
        """Open the path again if somebody has renamed or removed the file."""
        if not self._is_current():
            self._reopen()

    def _is_current(self) -> bool:
        if self._fd < 0:
            return False
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        own = os.fstat(self._fd)
        return (there.st_ino, there.st_dev) == (own.st_ino, own.st_dev)

    def _reopen(self) -> None:
        fd, self._fd = self._fd, self._open()
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.fsync(fd)
            os.close(fd)
        self._write_first_line()

    def _write_first_line(self) -> None:
        line = self._on_new_file()
        if line:
            os.write(self._fd, b'\n' + line if self._is_torn else line)
            self._is_torn = False

    def _rotate(self, coming: int) -> None:
        """Rename the file if it would be too large, unless another program has done so meanwhile."""
        if not self._is_full(coming):
            return
        with _locked(self._fd):
            if not self._is_current():
                self._reopen()
                return
            if not self._is_full(coming):
                return
            numbers = rotated(self.path)
            target = f'{self.path}.{numbers[-1][0] + 1 if numbers else 1}'
            if not RENAMES_OPEN_FILES:
                self.sync()
                self.close()
            try:
                os.rename(self.path, target)
            except OSError:  # the folder may not be changed, or another program has the file open: the file grows
                if self._fd < 0:
                    self._fd = self._open()
                return
        self._reopen()

    def _is_full(self, coming: int) -> bool:
        size = os.fstat(self._fd).st_size
        return size > 0 and self._max_bytes is not None and size + coming > self._max_bytes

    def sync(self) -> None:
        """Wait until the disk has what was written."""
        if not self._is_dirty or self._fd < 0:
            return
        self._is_dirty = False
        try:
            os.fsync(self._fd)
        except OSError as ex:
            if ex.errno not in _CANNOT_SYNC:
                raise

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class AppendError(OSError):
    """An error of the system, and how many bytes of whole lines were written before."""

    def __init__(self, cause: OSError, done: int) -> None:
        super().__init__(cause.errno, cause.strerror, cause.filename)
        self.done = done


@contextlib.contextmanager
def _locked(fd: int) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # type: ignore[attr-defined,unused-ignore]
    except OSError:  # a network drive without locks
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)  # type: ignore[attr-defined,unused-ignore]
