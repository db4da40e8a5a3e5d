"""The watch for secrets: searches all output of the tests for the Alyx tokens that they use.

1. Every token comes from `token` and repeats one mark, so that a part of a token is found as well.
2. The watch searches log records of all levels with their arguments and tracebacks, warnings, captured output of tests
   and of the processes that they start, expected errors with their causes, and the reports of failed tests.
3. A test that leaks a token fails. A leak that is found after the test fails the run.
4. The watch names the place and never shows the token.

It does not search tracebacks with the values of local variables (``pytest -l``), and pipes through which a helper
process returns the data of a message to its test.
"""

from __future__ import annotations

import asyncio.subprocess
import logging
import os
import subprocess
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from _pytest.capture import CaptureFixture

__all__ = ['MARK', 'Watch', 'token', 'watch']

MARK = os.environ.get('ECHORIG_TEST_TOKEN', 'c0ffee5ec2e7')
"""str: The mark that all tokens of a run repeat; a run inside of a run has another."""

# Loggers that may show tokens: those of the Alyx client and its HTTP library, which run as peers.
_FOREIGN = ('one', 'ibl', 'urllib3', 'requests')


def token(n: int = 0, length: int = 40) -> str:
    """Return a token of hexadecimal digits, like those of Alyx.

    Parameters
    ----------
    n : int
        The index of the token, 0 to 255.
    length : int
        The number of digits.
    """
    return f'{n:02x}{MARK * (length // len(MARK) + 1)}'[:length]


class Watch:
    """The places where tokens were found."""

    def __init__(self) -> None:
        self.leaks: list[str] = []
        self.late: list[str] = []
        self.searched = 0

    def look(self, where: str, what: Any) -> None:
        """Search a text, or the bytes of one."""
        self.searched += 1
        text = what.decode('utf-8', 'backslashreplace') if isinstance(what, (bytes, bytearray)) else str(what)
        if MARK in text:
            self.leaks.append(where)

    def look_at_error(self, where: str, error: BaseException | None) -> None:
        """Search an error, and everything that it was caused by, as it would be shown."""
        if error is not None:
            shown = ''.join(traceback.format_exception(type(error), error, error.__traceback__))
            self.look(f'{where} {type(error).__name__}', f'{error!r} {shown}')

    def take(self) -> list[str]:
        """Return what was found since the last call."""
        leaks, self.leaks = self.leaks, []
        return leaks


watch = Watch()


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition('.')[0] in _FOREIGN:
            return
        where = f'a log record of {record.name!r}, {record.pathname}:{record.lineno}'
        try:
            watch.look(where, f'{record.getMessage()} {record.args!r} {record.stack_info}')
        except Exception as ex:  # a record that cannot be formatted is for others to complain about
            watch.look(where, f'{record.msg!r} {ex!r}')
        if record.exc_info:
            watch.look_at_error(where, record.exc_info[1])


class _Read:
    """A pipe of a child process, whatever is read from which is searched."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    def _seen(self, text: Any) -> Any:
        watch.look('the output of a child process', text)
        return text

    def read(self, *args: Any) -> Any:
        return self._seen(self._pipe.read(*args))

    def readline(self, *args: Any) -> Any:
        return self._seen(self._pipe.readline(*args))

    def readlines(self, *args: Any) -> Any:
        return [self._seen(line) for line in self._pipe.readlines(*args)]

    def __iter__(self) -> Iterator[Any]:
        return map(self._seen, self._pipe)

    def __enter__(self) -> _Read:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pipe.close()


def _patch(patch: pytest.MonkeyPatch) -> None:
    """Listen to what has no hook: warnings, expected errors, and the pipes of child processes."""
    warn, warn_explicit = warnings.warn, warnings.warn_explicit

    def watched_warn(message: Any, category: Any = None, stacklevel: int = 1, *args: Any, **kwargs: Any) -> None:
        watch.look('a warning', message)
        warn(message, category, stacklevel + 1, *args, **kwargs)

    def watched_warn_explicit(message: Any, *args: Any, **kwargs: Any) -> None:
        watch.look('a warning', message)
        warn_explicit(message, *args, **kwargs)

    patch.setattr(warnings, 'warn', watched_warn)
    patch.setattr(warnings, 'warn_explicit', watched_warn_explicit)

    try:
        from _pytest.raises import RaisesExc as Raises  # since pytest 8.4
    except ImportError:
        from _pytest.python_api import RaisesContext as Raises
    leave = Raises.__exit__

    def watched_leave(self: Any, kind: Any, error: Any, trace: Any) -> Any:
        watch.look_at_error('an expected', error)
        return leave(self, kind, error, trace)

    patch.setattr(Raises, '__exit__', watched_leave)

    readouterr = CaptureFixture.readouterr

    def watched_readouterr(self: Any) -> Any:
        result = readouterr(self)
        watch.look('the captured output', f'{result.out} {result.err}')
        return result

    patch.setattr(CaptureFixture, 'readouterr', watched_readouterr)

    begin, communicate = subprocess.Popen.__init__, subprocess.Popen.communicate

    def watched_begin(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        for name in ('stdout', 'stderr'):
            if (pipe := getattr(self, name)) is not None:
                setattr(self, name, _Read(pipe))

    def watched_communicate(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = communicate(self, *args, **kwargs)
        for text in result:
            if text is not None:
                watch.look('the output of a child process', text)
        return result

    patch.setattr(subprocess.Popen, '__init__', watched_begin)
    patch.setattr(subprocess.Popen, 'communicate', watched_communicate)

    received = asyncio.subprocess.SubprocessStreamProtocol.pipe_data_received

    def watched_received(self: Any, fd: int, data: bytes) -> None:
        if fd == 2:  # what the helper processes of this suite write to stdout are the data that they have received
            watch.look('the output of a child process', data)
        received(self, fd, data)

    patch.setattr(asyncio.subprocess.SubprocessStreamProtocol, 'pipe_data_received', watched_received)


_patched = pytest.MonkeyPatch()
_handler = _Handler(logging.NOTSET)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption('log_level') is None:
        # pytest keeps what it captures, with errors and all that these hold on to; tests that look want no more of it.
        config.option.log_level = 'WARNING'
    root = logging.getLogger()
    root.addHandler(_handler)
    root.setLevel(logging.DEBUG)
    # The children of the process that pytest-xdist starts others from are these, which watch themselves.
    if not config.getoption('numprocesses', None):
        _patch(_patched)


def pytest_unconfigure() -> None:
    _patched.undo()
    logging.getLogger().removeHandler(_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail a test that has leaked a token, after everything else of it has been torn down."""
    yield
    leaks = watch.take()
    if leaks:
        pytest.fail(f'a token was shown in {"; ".join(dict.fromkeys(leaks))}', pytrace=False)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    watch.look(f'the report of {report.nodeid}', report.longreprtext)
    for name, text in report.sections:
        if 'log' in name:  # the records have been searched one by one
            continue
        watch.look(f'{name} of {report.nodeid}', text)
    watch.late += watch.take()


def pytest_warning_recorded(warning_message: warnings.WarningMessage, nodeid: str) -> None:
    watch.look(f'a warning of {nodeid}', warning_message.message)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    watch.late += watch.take()
    if (output := getattr(session.config, 'workeroutput', None)) is not None:
        output['tokens shown'] = watch.late
    if watch.late:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker process of pytest-xdist has found at its end."""
    watch.late += getattr(node, 'workeroutput', {}).get('tokens shown', [])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if watch.late:
        terminalreporter.section('tokens shown', red=True)
        for where in dict.fromkeys(watch.late):
            terminalreporter.line(where)
