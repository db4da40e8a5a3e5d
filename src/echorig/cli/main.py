"""The command line: ``python -m echorig`` or ``echorig``; each command is a module with `add_options` and `run`.

1. An error that the user can correct (an address, a silent rig) is one line on stderr, never a traceback.
2. Ctrl-C and SIGTERM close everything before the program ends, see :mod:`echorig.signals`.
3. Only the module of the command that runs is imported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from .._version import __version__
from ..checks import arguments
from ..loop import loop_name
from .command import EXIT_CODES
from .options import CommandParser
from .output import set_up_streams

__all__ = ['COMMANDS', 'main']

COMMANDS = {
    'ping': ('.ping', 'measure the round trip to rigs, and their clocks'),
    'status': ('.status', 'show which rigs are online'),
    'send': ('.send', 'send a message to rigs, and show their answers'),
    'listen': ('.listen', 'print the messages that arrive, as a rig'),
    'doctor': ('.doctor', 'find out why a rig cannot be reached'),
    'bench': ('.bench', 'measure the speed of this network'),
    'discover': ('.discover', 'list the rigs that announce themselves on this network'),
    'journal': ('.journal', 'show, check and export the journals of sessions'),
    'demo': ('..demo.__main__', 'sessions with rigs on this computer'),
    'as-iblutil': ('..compat.command', 'run a program that was written for iblutil with echorig'),
    'server': ('.server', 'print incoming messages until interrupted'),
    'client': ('.client', 'send one start message and print the result'),
}
"""dict: The module and the purpose of each command, by name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with the given arguments, or those of the process; return the exit code."""
    set_up_streams()
    argv = sys.argv[1:] if argv is None else arguments(argv)
    command = next((argument for argument in argv if not argument.startswith('-')), None)
    if command == 'as-iblutil':  # what follows are the arguments of another program
        from ..compat.command import main as run_program

        return run_program(argv[argv.index(command) + 1 :])
    parser = _parser(command)
    options, more = parser.parse_known_args(argv)
    if more:
        if any(word.startswith('-') for word in more) or not hasattr(options, 'uris'):
            parser.error(f'unrecognized arguments: {" ".join(more)}')
        options.uris += more  # argparse takes no positional arguments behind an option
    code: int = import_module(COMMANDS[options.command][0], __package__).run(options)
    return code


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = CommandParser(
        prog='echorig',
        description='Confirmed messages between the computers of an experiment.',
        epilog=EXIT_CODES,
        formatter_class=layout,
    )
    parser.add_argument('--version', action='version', version=f'echorig {__version__} ({loop_name()})')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, (module, about) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=about,
            description=f'{about[0].upper()}{about[1:]}.',
            formatter_class=layout,
            epilog=EXIT_CODES,
        )
        if name == chosen:
            import_module(module, __package__).add_options(command)
    return parser
