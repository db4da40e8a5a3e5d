"""`echorig send`: sends one message to rigs at once, and shows their confirmations and answers as they come."""

from __future__ import annotations

import argparse
import asyncio
import json
from time import perf_counter
from typing import Any

from ..communicator.outcomes import outcomes
from ..communicator.protocol import EchoProtocol
from ..errors import EchoError
from ..messages import ExpMessage, ExpStatus
from ..security.redaction import redact_frame
from ..wire._codec import encode
from .clients import clients_of
from .command import UsageError, run_command, set_up_logging
from .options import add_connection, add_output, add_rigs, event_of, seconds_of
from .output import Output, duration

__all__ = ['add_options', 'run']


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        'event', type=event_of, metavar='EVENT', help='init, start, stop, interrupt, cleanup, status or info'
    )
    add_rigs(parser)
    parser.add_argument('--ref', metavar='REF', help='the experiment reference, for start: yyyy-mm-dd_n_subject')
    parser.add_argument(
        '--status',
        type=str.upper,
        choices=[status.name for status in ExpStatus],
        default='CONNECTED',
        help='for status and info (default: %(default)s)',
    )
    parser.add_argument('--data', metavar='JSON', help='the data of the message')
    parser.add_argument(
        '--no-answer', action='store_true', help='wait for the confirmations only, not for answers of the programs'
    )
    parser.add_argument(
        '--timeout',
        type=seconds_of('--timeout'),
        default=10.0,
        metavar='SECONDS',
        help='how long to wait for the answers (default: %(default)s)',
    )
    add_output(parser)
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    set_up_logging(options.verbose)
    out = Output(options.json)

    async def send_to_all() -> int:
        message = _message(options)
        async with clients_of(options) as clients:
            sends = [_send(name, client, options, message, out) for name, client in clients.items()]
            return 0 if all(await asyncio.gather(*sends)) else 1

    return run_command(send_to_all)


def _message(options: argparse.Namespace) -> list[Any]:
    """Return the message that the options describe."""
    try:
        data = None if options.data is None else json.loads(options.data)
    except ValueError as ex:
        raise UsageError(f'--data is no JSON: {ex}') from None
    event = options.event
    if event == ExpMessage.ALYX:
        raise UsageError('a token must not be given on a command line: use Services.alyx() in a program')
    if event == ExpMessage.EXPSTART and not options.ref:
        raise UsageError('start needs a reference: --ref yyyy-mm-dd_n_subject')
    if event == ExpMessage.EXPSTART:
        return [event, options.ref, data]
    status = ExpStatus[options.status]
    if event == ExpMessage.EXPSTATUS:
        return [event, status]
    return [event, status, data] if event == ExpMessage.EXPINFO else [event, data]


async def _send(
    name: str, client: EchoProtocol | Exception, options: argparse.Namespace, message: list[Any], out: Output
) -> bool:
    """Send to one rig, print what comes of it, and return whether it did what was asked."""
    event = message[0]

    def report(what: str, text: str, style: str, **facts: Any) -> None:
        out.line(f'{name}: {text}', style, kind=what, rig=name, event=event.name, **facts)

    started = perf_counter()
    try:
        if isinstance(client, Exception):
            raise client
        if options.no_answer:
            await client.confirmed_send(message, timeout=options.timeout)
            report('confirmed', f'confirmed after {duration(perf_counter() - started)}', 'green')
            return True
        found = (await outcomes([client], event, ('confirmed_send', (message,), {}), options.timeout))[client.name]
        if isinstance(found, BaseException):
            raise found
    except (EchoError, OSError, ValueError) as ex:
        report('failed', f'failed: {ex}', 'red', error=str(ex))
        return False
    seconds = perf_counter() - started
    shown = redact_frame(encode([int(event), *found]))
    report('answered', f'answered after {duration(seconds)}: {shown}', 'green', seconds=seconds, answer=shown)
    return True
