"""Journals that several communicators of this program share, by path; and that of ``ECHORIG_JOURNAL``.

A journal that was opened here is closed when the last communicator releases it.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time

from ..checks import described
from ..checks import path as checked_path
from .writer import Journal

__all__ = ['VARIABLE', 'acquire', 'check_journal', 'release']

VARIABLE = 'ECHORIG_JOURNAL'
"""str: The environment variable with the folder for the journals of programs that are not to be changed."""

_lock = threading.Lock()  # never held while a file is opened, so that event loops may wait for it
_opening = threading.Lock()
_shared: dict[str, tuple[Journal, int]] = {}  # by path, with the number of users
_of_process: list[Journal] = []  # that of the environment variable


def check_journal(journal: object) -> None:
    """Refuse what is neither a journal nor the path of one."""
    if not isinstance(journal, (Journal, str, os.PathLike)):
        raise TypeError(f'journal must be the path of a file, or a Journal, not {described(journal)}')


def acquire(journal: Journal | str | os.PathLike[str] | None) -> Journal | None:
    """Return the journal of a communicator: the given one, that of a path, or that of the environment.

    Raises
    ------
    OSError
        It cannot be opened.
    TypeError, ValueError
        It is neither a journal nor a path.
    """
    if journal is None:
        return _process_journal()
    check_journal(journal)
    if isinstance(journal, Journal):
        return journal
    path = os.path.abspath(checked_path(journal, 'journal'))
    with _opening:
        with _lock:
            found, users = _shared.get(path, (None, 0))
            if found is not None:
                _shared[path] = found, users + 1
                return found
        found = Journal(path)
        with _lock:
            _shared[path] = found, 1
        return found


def release(journal: Journal) -> bool:
    """Note that a communicator is closed; return whether it was the last one of a journal that was opened here.

    Then the journal is closed, without waiting for that.
    """
    with _lock:
        found, users = _shared.get(journal.path, (None, 0))
        if found is not journal:
            return False
        if users > 1:
            _shared[journal.path] = journal, users - 1
            return False
        del _shared[journal.path]
    journal.close_soon()
    return True


def _process_journal() -> Journal | None:
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    with _opening:
        if not _of_process:
            try:
                os.makedirs(folder, exist_ok=True)
                _of_process.append(Journal(os.path.join(folder, _file_name())))
            except OSError as ex:
                raise type(ex)(ex.errno, f'{VARIABLE}={folder} cannot be used: {ex.strerror}', ex.filename) from ex
        return _of_process[0]


def _after_fork() -> None:
    """Forget what other threads of the parent held; communicators of the child get a file of its own."""
    global _lock, _opening
    _lock, _opening = threading.Lock(), threading.Lock()
    _of_process.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork)


def _file_name() -> str:
    """Return a name with the date, the time, the program and the number of the process."""
    program = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ''))[0]
    program = re.sub(r'[^\w.-]+', '_', program).strip('_') or 'python'
    return f'{time.strftime("%Y-%m-%d_%H%M%S")}_{program}_{os.getpid()}.jsonl'
