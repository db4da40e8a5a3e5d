"""``echorig as-iblutil PROGRAM`` and ``python -m echorig.compat PROGRAM``: start a program with echorig as iblutil.

1. The program runs as without this command: the same Python, arguments, standard streams and exit code. On POSIX it
   replaces this process.
2. A program is a Python file, ``-m MODULE``, or anything that can be run by its name, such as ``pytest`` or ``python``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from typing import NoReturn

from ..compatibility import Compatibility
from .environment import environment

__all__ = ['add_options', 'main']

_PYTHON_FILES = ('.py', '.pyw', '.pyc', '.pyz')


def main(argv: Sequence[str]) -> int:
    """Start the program that the arguments name; return its exit code, or do not return."""
    own, program = _split(argv)
    parser = _Parser(
        prog='echorig as-iblutil',
        usage='%(prog)s [--without SWITCH] PROGRAM [ARGUMENT ...]',
        description=(
            'Run a program that was written for iblutil with echorig: iblutil.io.net is echorig in it and in the '
            'Python processes that it starts. Nothing is changed on disk.'
        ),
        epilog='PROGRAM is a Python file, -m MODULE, or the name of a command, such as pytest or python.',
    )
    add_options(parser)
    options = parser.parse_args(own)
    try:
        switches = Compatibility.without(options.without)
        words = _command(program)
    except ValueError as ex:
        parser.error(str(ex))
    return _run(words, {**os.environ, **environment(switches, os.environ)})


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        '--without',
        action='append',
        default=[],
        metavar='SWITCH',
        help=f'do not do this as iblutil did: {", ".join(Compatibility.names())}; may be repeated',
    )


class _Parser(argparse.ArgumentParser):
    """Prints an error as one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'{self.prog}: {message}; see {self.prog} --help\n')


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options of this command, and the program with its arguments."""
    words = list(argv)
    start = 0
    while start < len(words) and words[start].startswith('-') and words[start] not in ('-m', '--'):
        start += 2 if words[start] == '--without' else 1
    own, program = words[:start], words[start:]
    return own, program[1:] if program[:1] == ['--'] else program


def _command(program: list[str]) -> list[str]:
    """Return the words that start a program; raise ValueError if there is none."""
    if not program or program == ['-m']:
        raise ValueError('give the program to run: a Python file, -m MODULE, or the name of a command')
    name = program[0]
    if name == '-m' or name.endswith(_PYTHON_FILES) or os.path.exists(os.path.join(name, '__main__.py')):
        if name != '-m' and not os.path.exists(name):
            raise ValueError(f'there is no file {name}')
        return [sys.executable, *program]
    # The commands of the environment that echorig is in come first, whether it is activated or not.
    folders = os.path.dirname(sys.executable), sysconfig.get_path('scripts'), os.environ.get('PATH', os.defpath)
    path = os.pathsep.join(folders)
    found = shutil.which(name, path=path)
    if found is None:
        raise ValueError(f'there is no program {name}')
    return [found, *program[1:]]


def _run(words: list[str], variables: dict[str, str]) -> int:
    """Run a command in an environment."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == 'posix':
        os.execve(words[0], words, variables)
    with subprocess.Popen(words, env=variables) as process:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the program, which decides on the exit code
        return process.wait()
