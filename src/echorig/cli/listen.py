"""`echorig listen`: a rig at the terminal; it prints what arrives and, with --answer, answers as a rig program does."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from ..communicator.protocol import EchoProtocol
from ..messages import ExpMessage
from ..rig import Rig
from ..security.redaction import redact_frame
from ..uri import Address, without_login
from ..wire._codec import encode
from .command import UsageError, run_command, set_up_logging
from .options import add_connection, add_output, add_own_address, connection_options, event_of
from .output import Output

__all__ = ['add_options', 'run']

_NOTICE = ExpMessage(0)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_own_address(parser)
    parser.add_argument('--name', default='rig', help='the name of the rig (default: %(default)s)')
    parser.add_argument(
        '--answer', action='store_true', help='answer each message, so that a main program can be tried without rigs'
    )
    parser.add_argument(
        '--fail',
        action='append',
        type=event_of,
        default=[],
        metavar='EVENT',
        help='raise an error in the work for this event (implies --answer); may be repeated',
    )
    add_output(parser)
    add_connection(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    set_up_logging(options.verbose, is_quiet=False)
    out = Output(options.json)

    async def listen() -> int:
        kwargs = connection_options(options, is_client=options.uri.lower().startswith('nats:'))
        try:
            if options.answer or options.fail:
                await _answer(options, kwargs, out)
            else:
                async with await EchoProtocol.server(options.uri, options.name, **kwargs) as com:
                    await _print_messages(com, out)
        except BrokenPipeError:
            raise
        except OSError as ex:
            raise UsageError(f'cannot listen on {without_login(options.uri)}: {ex}') from None
        return 0

    return run_command(listen, lambda: 0, if_unread=0)


async def _print_messages(com: EchoProtocol, out: Output) -> None:
    """Print all messages until the output is closed."""
    is_closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_message(data: list[Any], addr: Address, event: ExpMessage = _NOTICE) -> None:
        name = event.name or 'failure'
        shown = redact_frame(encode([int(event), *data]))
        try:
            out.line(f'{name} {shown} from {addr[0]}:{addr[1]}', kind='received', event=name, message=shown, addr=addr)
        except OSError as ex:  # which the sender of the message must not see as a failed callback
            if not is_closed.done():
                is_closed.set_exception(ex)

    com.assign_callback(ExpMessage.any(), on_message)
    com.assign_callback(0, on_message)
    out.line(f'{com.name} listens on {com.server_uri}; Ctrl-C ends it', 'bold', kind='listening', uri=com.server_uri)
    await is_closed


async def _answer(options: argparse.Namespace, kwargs: dict[str, Any], out: Output) -> None:
    """Answer as a rig program does, until the output is closed."""
    is_closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    rig = Rig(options.name)

    def register(event: ExpMessage) -> None:
        async def work(*data: Any) -> None:
            shown = redact_frame(encode([int(event), *data]))
            try:
                out.line(f'{event.name} {shown}', kind='received', event=event.name, message=shown)
            except OSError as ex:
                if not is_closed.done():
                    is_closed.set_exception(ex)
            if event in options.fail:
                raise RuntimeError(f'{event.name} fails: {options.name} was started with --fail')

        rig.on(event)(work)  # type: ignore[arg-type]

    for event in ExpMessage:
        register(event)
    async with await rig.open(options.uri, **kwargs):
        uri = rig.server_uri
        out.line(f'{rig.name} listens on {uri} and answers; Ctrl-C ends it', 'bold', kind='listening', uri=uri)
        await is_closed
