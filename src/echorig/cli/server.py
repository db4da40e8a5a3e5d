"""`echorig server`: the documented `main` as a server; `echorig listen` can do more."""

from __future__ import annotations

import argparse

from ..main import main
from ..uri import LISTEN_PORT
from .command import UsageError, run_command, set_up_logging
from .options import add_connection, connection_options

__all__ = ['add_options', 'run']

_ALL_ADDRESSES = f'udp://0.0.0.0:{LISTEN_PORT}'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        *('uri',),
        nargs='?',
        default=_ALL_ADDRESSES,
        metavar='URI',
        help='the address to listen on (default: %(default)s, all addresses of this computer)',
    )
    parser.add_argument('--name', help='a label for the rig, in messages and logs')
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    set_up_logging(options.verbose, is_quiet=False)

    async def listen() -> int:
        kwargs = connection_options(options, is_client=False)
        try:
            await main('server', options.uri, options.name, **kwargs)
        except BrokenPipeError:
            raise
        except OSError as ex:
            rig = f'{options.name} ({options.uri})' if options.name else options.uri
            raise UsageError(f'cannot listen on {rig}: {ex}') from None
        return 0

    return run_command(listen, lambda: 0, if_unread=0)
