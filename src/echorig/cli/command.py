"""`run_command`: runs the coroutine of a command, and turns its errors into one line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

from ..errors import EchoError
from ..loop import run
from ..signals import Interrupted, interruptible
from .output import visible

__all__ = ['EXIT_CODES', 'UsageError', 'fail', 'run_command', 'set_up_logging']

EXIT_CODES = """\
exit codes:
  0  all rigs did what was asked
  1  a rig did not (stderr or the output names it and the reason), also if the command was ended before
  2  bad usage: an option, a URI that is not valid, a file that cannot be used, a package that is not installed
"""


class UsageError(Exception):
    """An option or a file of the command cannot be used."""


def run_command(
    work: Callable[[], Coroutine[Any, Any, int]],
    on_interrupt: Callable[[], int] = lambda: 1,
    if_unread: int = 1,
) -> int:
    """Run the coroutine of a command and return the exit code.

    Ctrl-C and SIGTERM end it by `on_interrupt`; `if_unread` is the code if the reader of the output has closed it.
    """
    try:
        return run(interruptible(work()))
    except (Interrupted, KeyboardInterrupt):
        return on_interrupt()
    except BrokenPipeError:
        # The reader of stdout has closed it; the interpreter must not try to flush to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return if_unread
    except (UsageError, ValueError, TypeError, ImportError) as ex:
        return fail(str(ex), 2)
    except (EchoError, OSError) as ex:
        return fail(str(ex), 1)


def fail(text: str, code: int) -> int:
    """Print an error as one line, and return the exit code."""
    print(f'echorig: {visible(" ".join(text.split()))}', file=sys.stderr)
    return code


def set_up_logging(verbose: int, is_quiet: bool = True) -> None:
    """Log to stderr: with -v from INFO on, with -vv everything; without, nothing if the command prints the errors."""
    quiet = logging.CRITICAL if is_quiet else logging.WARNING
    level = (quiet, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format='%(asctime)s %(levelname)s %(name)s: %(message)s')
    # The log has a warning for frames that are no message.
    warnings.filterwarnings('ignore', message='Expected list', category=RuntimeWarning)
