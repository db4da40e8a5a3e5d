"""`echorig discover`: the rigs that announce themselves on this network."""

from __future__ import annotations

import argparse

from ..discovery import discover
from .command import run_command
from .options import add_login, add_output, add_timeout, login_options
from .output import Output

__all__ = ['add_options', 'run']


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--group', metavar='NAME', help='only the rigs of this group, such as a room')
    parser.add_argument(
        '--broker', metavar='URI', help='look at this NATS broker, such as nats://10.0.0.5, not on the network'
    )
    add_timeout(parser, 'how long to listen for announcements (default: %(default)s)', 2.0)
    add_output(parser)
    add_login(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    out = Output(options.json)

    async def search() -> int:
        login = login_options(options, is_client=True) if options.broker else {}
        found = await discover(options.group, options.timeout, broker=options.broker, **login)
        for rig in found:
            out.record(kind='rig', name=rig.name, uri=rig.uri, group=rig.group, tls=rig.tls, key=rig.key)
        if found:
            rows = [[rig.name, rig.uri, rig.group or '', 'yes' if rig.key else 'no'] for rig in found]
            out.table(('Rig', 'URI', 'Group', 'Key'), rows)
            return 0
        advice = ''
        if not options.broker:
            advice = (
                ' The network must pass multicast, UDP port 5353: look at the firewall of both computers, and try the '
                'same subnet.'
            )
        text = f'No rig has announced itself within {options.timeout:g} s. Rigs do so with announce=True.{advice}'
        out.line(text, 'yellow')
        return 1

    return run_command(search)
