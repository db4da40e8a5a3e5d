"""The command line: ``python -m echorig`` or ``echorig``, with the commands server, client and demo.

1. An error that the user can correct (an address, a silent rig) is one line on stderr, never a traceback.
2. Ctrl-C and SIGTERM close everything before the program ends, see :mod:`echorig.signals`.
"""

from __future__ import annotations

import argparse
import logging
import os
import ssl
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from .._version import __version__
from ..checks import arguments, path, seconds
from ..errors import EchoError
from ..loop import loop_name, run
from ..main import EXAMPLE_REF
from ..main import main as communicate
from ..signals import Interrupted, interruptible
from ..uri import LISTEN_PORT

__all__ = ['main']

_ALL_ADDRESSES = f'udp://0.0.0.0:{LISTEN_PORT}'
_EPILOG = """\
exit codes:
  0  the message was confirmed; or the server was ended by Ctrl-C or SIGTERM
  1  the message was not confirmed (stderr names the rig and the reason), also if the client was ended before
  2  bad usage: an option, a URI that is not valid, an address that is in use or not of this computer
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with the given arguments, or those of the process; return the exit code."""
    argv = sys.argv[1:] if argv is None else arguments(argv)
    if argv[:1] == ['demo']:
        from ..demo.__main__ import main as demo  # it needs modules that the other commands do not

        return demo(argv[1:])
    options = _parser().parse_args(argv)
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(options.verbose, 2)]
    if options.role == 'client' and not options.verbose:
        level = logging.CRITICAL  # the error is printed at the end
    logging.basicConfig(level=level, format='%(asctime)s %(levelname)s %(name)s: %(message)s')
    with warnings.catch_warnings():
        # The log has a warning for frames that are no message.
        warnings.filterwarnings('ignore', message='Expected list', category=RuntimeWarning)
        return _run(options, options.role == 'client')


def _run(options: argparse.Namespace, is_client: bool) -> int:
    kwargs: dict[str, Any] = {'exp_ref': options.exp_ref, 'timeout': options.timeout} if is_client else {}
    kwargs['allow'] = options.allow
    given = [f'--{name} {getattr(options, name)}' for name in ('cafile', 'cert', 'key') if getattr(options, name)]
    try:
        if given:
            kwargs['ssl'] = _ssl_context(options, is_client)
    except (OSError, ValueError) as ex:  # its text does not name the file
        return _fail(f'cannot use {" ".join(given)}: {ex}', 2)
    try:
        if options.key_file:
            kwargs['key'] = Path(path(options.key_file, '--key-file')).read_bytes()
    except (OSError, ValueError) as ex:
        return _fail(f'cannot read the key: {ex}', 2)
    rig = f'{options.name} ({options.uri})' if options.name else options.uri
    try:
        run(interruptible(communicate(options.role, options.uri, options.name, **kwargs)))
    except (Interrupted, KeyboardInterrupt):
        return _fail(f'not confirmed: {rig}: ended before the confirmation', 1) if is_client else 0
    except BrokenPipeError:
        # The reader of stdout has closed it; the interpreter must not try to flush to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1 if is_client else 0
    except EchoError as ex:
        return _fail(f'not confirmed: {ex}', 1)
    except OSError as ex:
        return _fail(f'not confirmed: {rig}: {ex}', 1) if is_client else _fail(f'cannot listen on {rig}: {ex}', 2)
    except ValueError as ex:
        return _fail(str(ex), 2)
    return 0


def _ssl_context(options: argparse.Namespace, is_client: bool) -> ssl.SSLContext:
    """Return the settings of TLS; a server with an authority requires certificates of its clients."""
    purpose = ssl.Purpose.SERVER_AUTH if is_client else ssl.Purpose.CLIENT_AUTH
    context = ssl.create_default_context(purpose, cafile=options.cafile)
    if options.cafile and not is_client:
        context.verify_mode = ssl.CERT_REQUIRED
    if options.cert or options.key:
        if not options.cert:
            raise ValueError('a key needs a certificate, --cert FILE')
        context.load_cert_chain(options.cert, options.key, password=lambda: '')  # do not ask the terminal for one
    return context


class _Parser(argparse.ArgumentParser):
    """Prints an error as one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'{self.prog}: {message}; see {self.prog} --help\n')


def _fail(text: str, code: int) -> int:
    print(f'echorig: {text}', file=sys.stderr)
    return code


def _seconds(text: str) -> float:
    try:
        return seconds(float(text), 'SECONDS', endless=False)
    except ValueError as ex:
        raise argparse.ArgumentTypeError(str(ex)) from None


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument('--name', help='a label for the rig, in messages and logs')
    common.add_argument(
        '--allow',
        action='append',
        metavar='HOST',
        help='accept only this host: an address, a network (10.0.0.0/8) or a name; may be repeated',
    )
    tls = common.add_argument_group('for tls://')
    tls.add_argument('--cafile', metavar='FILE', help='the authority that must have signed the certificate of the peer')
    tls.add_argument('--cert', metavar='FILE', help='the certificate of this end; a server needs one')
    tls.add_argument('--key', metavar='FILE', help='its private key, if that is in a file of its own')
    common.add_argument('-v', '--verbose', action='count', default=0, help='log to stderr; -vv logs everything')
    common.add_argument('--key-file', metavar='FILE', help='sign messages with the key in this file, 16 bytes or more')
    style: dict[str, Any] = {'formatter_class': argparse.RawDescriptionHelpFormatter, 'epilog': _EPILOG}
    parser = _Parser(prog='echorig', description='Confirmed messages between the computers of an experiment.', **style)
    parser.add_argument('--version', action='version', version=f'echorig {__version__} ({loop_name()})')
    roles = parser.add_subparsers(dest='role', required=True, metavar='{server,client,demo}')

    def add(role: str, about: str, uri: str, default: str, where: str) -> argparse.ArgumentParser:
        command = roles.add_parser(role, parents=[common], help=about, description=about.capitalize(), **style)
        uri += f' (default: %(default)s, {where})'
        command.add_argument('uri', nargs='?', default=default, metavar='URI', help=uri)
        return command

    where = 'all addresses of this computer'
    add('server', 'print incoming messages until interrupted', 'the address to listen on', _ALL_ADDRESSES, where)
    about = 'send one start message and print the result'
    client = add('client', about, 'the server', ':11001', 'this computer')
    client.add_argument(
        '--exp-ref', default=EXAMPLE_REF, metavar='REF', help='the experiment reference (default: %(default)s)'
    )
    client.add_argument('--timeout', type=_seconds, metavar='SECONDS', help='how long to wait (default: 1)')
    roles.add_parser('demo', add_help=False, help='sessions with rigs on this computer; see echorig demo --help')
    return parser
