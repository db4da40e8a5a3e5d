"""`echorig doctor`: finds out step by step why a rig cannot be reached."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from ..diagnosis import Finding, diagnose
from ..diagnosis.installation import installation
from ..errors import EchoError
from ..services.discover import resolve_mdns
from .command import run_command, set_up_logging
from .options import add_connection, add_output, add_rigs, add_timeout, chosen_rigs, connection_options
from .output import Output

__all__ = ['add_options', 'run']

_SEARCH = 3.0  # seconds


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_rigs(parser)
    parser.add_argument(
        '--self', dest='shows_self', action='store_true', help='show this installation, for bug reports'
    )
    what = 'how long a step waits for an answer (default: %(default)s); all steps of a rig end within about 15 s'
    add_timeout(parser, what)
    add_output(parser)
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    set_up_logging(options.verbose)
    output = Output(options.json)
    if options.shows_self:
        for name, value in installation().items():
            output.line(f'{name}: {value}', name=name, value=value)
        return 0
    return run_command(lambda: _examine(options, output))


async def _examine(options: argparse.Namespace, output: Output) -> int:
    """Examine one rig after the other; return the highest exit code."""
    rigs, code = chosen_rigs(options), 0
    kwargs = connection_options(options, is_client=True)
    for name, uri in rigs.items():
        if len(rigs) > 1 and not output.as_json:
            output.line(f'--- {name}', 'bold')
        async for finding in _findings(name, uri, options.timeout, kwargs):
            show(name, finding, output)
            if finding.ok is False:
                code = max(code, 2 if finding.step == 'uri' else 1)
    return code


async def _findings(name: str, uri: str, timeout: float, kwargs: dict[str, Any]) -> AsyncIterator[Finding]:
    """Find a rig that announces itself (``mdns:NAME``), and yield the findings about it."""
    try:
        found = await resolve_mdns({name: uri}, _SEARCH, kwargs)
    except EchoError as ex:
        advice = 'start the program of the rig with announce=True; echorig discover lists the rigs that are found'
        yield Finding('name', False, f'{uri} is not found: {ex}', advice, {'fault': 'not announced'})
        return
    async for finding in diagnose(found[name], timeout=timeout, **kwargs):
        yield finding


def show(rig: str, finding: Finding, output: Output) -> None:
    """Print a finding, and below it what to do."""
    mark = '-' if finding.ok is None else output.mark(finding.ok)
    style = {True: 'green', False: 'bold red', None: ''}[finding.ok]
    output.line(f'{mark} {finding.text}', style, rig=rig, **asdict(finding))
    if not output.as_json:
        arrow = '→' if output.mark(True) == '✓' else '->'
        for line in finding.advice.splitlines():
            output.line(f'  {arrow} {line}')
