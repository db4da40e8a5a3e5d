"""`echorig client`: the documented `main` as a client; `echorig send` can do more."""

from __future__ import annotations

import argparse

from ..errors import EchoError
from ..main import EXAMPLE_REF, main
from ..uri import without_login
from .command import fail, run_command, set_up_logging
from .options import add_connection, connection_options, seconds_of

__all__ = ['add_options', 'run']


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        'uri',
        nargs='?',
        default=':11001',
        metavar='URI',
        help='the server (default: %(default)s, this computer)',
    )
    parser.add_argument('--name', help='a label for the rig, in messages and logs')
    parser.add_argument(
        '--exp-ref', default=EXAMPLE_REF, metavar='REF', help='the experiment reference (default: %(default)s)'
    )
    parser.add_argument(
        '--timeout', type=seconds_of('SECONDS'), metavar='SECONDS', help='how long to wait (default: 1)'
    )
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    set_up_logging(options.verbose)
    uri = without_login(options.uri)
    rig = f'{options.name} ({uri})' if options.name else uri

    async def send() -> int:
        kwargs = connection_options(options, is_client=True)
        try:
            await main('client', options.uri, options.name, exp_ref=options.exp_ref, timeout=options.timeout, **kwargs)
        except BrokenPipeError:
            raise
        except EchoError as ex:
            return fail(f'not confirmed: {ex}', 1)
        except OSError as ex:
            return fail(f'not confirmed: {rig}: {ex}', 1)
        return 0

    return run_command(send, lambda: fail(f'not confirmed: {rig}: ended before the confirmation', 1))
