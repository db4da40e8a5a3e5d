"""`echorig send`: sends one message to rigs at once, and shows their confirmations and answers as they come."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from time import perf_counter
from typing import Any

from ..communicator.outcomes import outcomes
from ..communicator.protocol import EchoProtocol
from ..errors import EchoError
from ..messages import ExpMessage, ExpStatus
from ..security.redaction import redact_frame
from ..wire._codec import encode
from .clients import clients_of
from .command import UsageError, fail, run_command, set_up_logging
from .options import add_connection, add_output, add_rigs_file, known_event, seconds_of
from .output import Output, duration

__all__ = ['add_options', 'run']

_REFERENCE = re.compile(r'\d{4}-\d\d-\d\d_\d+_\w')


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        'uris',
        nargs='+',
        metavar='URI ... EVENT [REF]',
        help='the rigs as for the other commands; the event: init, start, stop, interrupt, cleanup, status or info; '
        'the experiment reference of a start, yyyy-mm-dd_n_subject',
    )
    add_rigs_file(parser)
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
    try:
        event, reference, options.uris = _split(options.uris)
    except UsageError as ex:
        return fail(str(ex), 2)

    async def send_to_all() -> int:
        message = _message(options, event, reference)
        async with clients_of(options) as clients:
            sends = [_send(name, client, options, message, out) for name, client in clients.items()]
            return 0 if all(await asyncio.gather(*sends)) else 1

    return run_command(send_to_all)


def _split(words: list[str]) -> tuple[ExpMessage, str | None, list[str]]:
    """Return the event, the reference and the rigs among the words of the command."""
    events, references, rigs = [], [], []
    for word in words:
        if _REFERENCE.match(word):
            references.append(word)
        elif ':' not in word and (event := known_event(word)) is not None:
            events.append(event)
        else:
            rigs.append(word)
    if len(events) != 1 or len(references) > 1:
        raise UsageError('send needs one event, such as: echorig send udp://10.0.0.5 start 2026-01-31_1_mouse7')
    return events[0], next(iter(references), None), rigs


def _message(options: argparse.Namespace, event: ExpMessage, reference: str | None) -> list[Any]:
    """Return the message that the options describe."""
    try:
        data = None if options.data is None else json.loads(options.data)
    except (ValueError, RecursionError) as ex:
        raise UsageError(f'--data is no JSON: {ex}') from None
    if event == ExpMessage.ALYX:
        raise UsageError('a token must not be given on a command line: use Services.alyx() in a program')
    if event == ExpMessage.EXPSTART and reference is None:
        raise UsageError('start needs a reference, yyyy-mm-dd_n_subject')
    if event == ExpMessage.EXPSTART:
        return [event, reference, data]
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
        first, *_ = str(ex).splitlines() or ['']  # the traceback of a rig follows
        report('failed', f'failed: {first}', 'red', error=str(ex))
        return False
    seconds = perf_counter() - started
    shown = redact_frame(encode([int(event), *found]))
    report('answered', f'answered after {duration(seconds)}: {shown}', 'green', seconds=seconds, answer=shown)
    return True
