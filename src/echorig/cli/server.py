"""`echorig server`: the documented `main` as a server; `echorig listen` can do more."""

from __future__ import annotations

import argparse

from ..main import main
from ..uri import without_login
from .command import UsageError, run_command, set_up_logging
from .options import add_connection, add_own_address, connection_options

__all__ = ['add_options', 'run']


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_own_address(parser)
    parser.add_argument('--name', help='a label for the rig, in messages and logs')
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    set_up_logging(options.verbose, is_quiet=False)

    async def listen() -> int:
        kwargs = connection_options(options, is_client=options.uri.lower().startswith('nats:'))
        try:
            await main('server', options.uri, options.name, **kwargs)
        except BrokenPipeError:
            raise
        except OSError as ex:
            uri = without_login(options.uri)
            rig = f'{options.name} ({uri})' if options.name else uri
            raise UsageError(f'cannot listen on {rig}: {ex}') from None
        return 0

    return run_command(listen, lambda: 0, if_unread=0)
