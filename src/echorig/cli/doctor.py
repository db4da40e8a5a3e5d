"""`echorig doctor`: finds out step by step why a rig cannot be reached."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ..diagnosis import Finding, diagnose
from ..diagnosis.installation import installation
from .command import UsageError, run_command, set_up_logging
from .options import add_connection, add_output, connection_options, seconds_of
from .output import Output

__all__ = ['add_options', 'run']


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('uri', nargs='?', metavar='URI', help='the rig')
    parser.add_argument(
        '--self', dest='shows_self', action='store_true', help='show this installation, for bug reports'
    )
    parser.add_argument(
        '--timeout',
        type=seconds_of('SECONDS'),
        default=1.0,
        metavar='SECONDS',
        help='how long a step waits for an answer (default: %(default)g); all steps end within 15 s',
    )
    add_output(parser)
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    set_up_logging(options.verbose)
    output = Output(options.json)
    return run_command(lambda: _run(options, output))


async def _run(options: argparse.Namespace, output: Output) -> int:
    if options.shows_self:
        for name, value in installation().items():
            output.line(f'{name}: {value}', name=name, value=value)
        return 0
    if options.uri is None:
        raise UsageError('give the URI of a rig, or --self')
    is_good = is_usage = True
    async for finding in diagnose(options.uri, timeout=options.timeout, **connection_options(options, is_client=True)):
        show(finding, output)
        is_good = is_good and finding.ok is not False
        is_usage = finding.step == 'uri'
    if is_good:
        return 0
    return 2 if is_usage else 1


def show(finding: Finding, output: Output) -> None:
    """Print a finding, and below it what to do."""
    mark = '-' if finding.ok is None else output.mark(finding.ok)
    style = {True: 'green', False: 'bold red', None: ''}[finding.ok]
    output.line(f'{mark} {finding.text}', style, **asdict(finding))
    if not output.as_json:
        arrow = '→' if output.mark(True) == '✓' else '->'
        for line in finding.advice.splitlines():
            output.line(f'  {arrow} {line}')
