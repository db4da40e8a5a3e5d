"""The command line: ``python -m echorig`` or ``echorig``, with server, client and demo.

1. What a user can put right (an address, a silent rig) is one line on stderr, never a traceback.
2. Ctrl-C and SIGTERM end the work in order, see :mod:`echorig.signals`.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import ssl
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._version import __version__
from ..checks import path, words
from ..errors import EchoError
from ..loop import run
from ..main import EXAMPLE_REF, main
from ..signals import Interrupted, interruptible

__all__ = ['entry']

_EPILOG = """\
exit codes:
  0  the message was confirmed; or the server was ended by Ctrl-C or SIGTERM
  1  the message was not confirmed (stderr names the rig and says why), also if the client was ended before
  2  bad usage: an option, a URI that is not valid, an address that is in use or not of this computer
"""


def entry(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, by default those of the process.

    Returns
    -------
    int
        The exit code, as ``--help`` explains.

    Raises
    ------
    SystemExit
        The arguments are not valid (code 2), or help or the version was asked for (0).
    TypeError
        They are no texts.
    """
    argv = sys.argv[1:] if argv is None else words(argv)
    if argv[:1] == ['demo']:
        from ..demo.__main__ import entry as demo  # only where it is asked for

        return demo(argv[1:])
    options = _parser().parse_args(argv)
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(options.verbose, 2)]
    if options.role == 'client' and not options.verbose:
        level = logging.CRITICAL  # what went wrong is said once, at the end
    logging.basicConfig(level=level, format='%(asctime)s %(levelname)s %(name)s: %(message)s')
    with warnings.catch_warnings():
        # What is no message is logged as a warning already.
        warnings.filterwarnings('ignore', message='Expected list', category=RuntimeWarning)
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    is_client = options.role == 'client'
    kwargs: dict[str, Any] = {'exp_ref': options.exp_ref, 'timeout': options.timeout} if is_client else {}
    kwargs['allow'] = options.allow
    if options.cafile or options.cert or options.key:
        try:
            kwargs['ssl'] = _context(options, is_client)
        except (OSError, ValueError) as ex:  # whose text does not name the file
            named = (
                f'--{name} {getattr(options, name)}' for name in ('cafile', 'cert', 'key') if getattr(options, name)
            )
            return _failed(f'cannot use {" ".join(named)}: {ex}', 2)
    rig = f'{options.name} ({options.uri})' if options.name else options.uri
    if options.key_file:
        try:
            kwargs['key'] = Path(path(options.key_file, '--key-file')).read_bytes()
        except (OSError, ValueError) as ex:
            return _failed(f'cannot read the key: {ex}', 2)
    try:
        run(interruptible(main(options.role, options.uri, options.name, **kwargs)))
    except (Interrupted, KeyboardInterrupt):
        return _failed(f'not confirmed: {rig}: ended before the confirmation', 1) if is_client else 0
    except BrokenPipeError:
        # The reader of our output has left; the interpreter must not try to write to it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1 if is_client else 0
    except EchoError as ex:
        return _failed(f'not confirmed: {ex}', 1)
    except OSError as ex:
        return _failed(f'not confirmed: {rig}: {ex}', 1) if is_client else _failed(f'cannot listen on {rig}: {ex}', 2)
    except ValueError as ex:
        return _failed(str(ex), 2)
    return 0


def _context(options: argparse.Namespace, is_client: bool) -> ssl.SSLContext:
    """Return the certificates for TLS; a server that knows an authority asks its clients for theirs."""
    context = ssl.create_default_context(
        ssl.Purpose.SERVER_AUTH if is_client else ssl.Purpose.CLIENT_AUTH, cafile=options.cafile
    )
    if options.cafile and not is_client:
        context.verify_mode = ssl.CERT_REQUIRED
    if options.cert or options.key:
        if not options.cert:
            raise ValueError('a key needs a certificate, --cert FILE')
        context.load_cert_chain(options.cert, options.key, password=lambda: '')  # nobody is asked for one
    return context


def _failed(text: str, code: int) -> int:
    print(f'echorig: {text}', file=sys.stderr)
    return code


def _seconds(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f'{text} is not a positive number of seconds')
    return number


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--name', help='a label for the rig, in messages and logs')
    common.add_argument(
        '--allow',
        action='append',
        metavar='HOST',
        help='who may be at the other end: an address, a network (10.0.0.0/8) or a name; may be repeated',
    )
    tls = common.add_argument_group('for wss://')
    tls.add_argument('--cafile', metavar='FILE', help='the authority that must have signed the other end')
    tls.add_argument('--cert', metavar='FILE', help='the certificate of this end; a server needs one')
    tls.add_argument('--key', metavar='FILE', help='its key, if that is in a file of its own')
    common.add_argument('-v', '--verbose', action='count', default=0, help='log to stderr; -vv logs everything')
    common.add_argument('--key-file', metavar='FILE', help='sign messages with the key in this file, 16 bytes or more')
    style: dict[str, Any] = {'formatter_class': argparse.RawDescriptionHelpFormatter, 'epilog': _EPILOG}
    parser = argparse.ArgumentParser(
        prog='echorig', description='Confirmed messages between the computers of an experiment.', **style
    )
    parser.add_argument('--version', action='version', version=f'echorig {__version__}')
    roles = parser.add_subparsers(dest='role', required=True, metavar='{server,client,demo}')
    about = 'print every message that comes, until interrupted'
    server = roles.add_parser('server', parents=[common], help=about, description=about.capitalize(), **style)
    server.add_argument(
        'uri', nargs='?', default=':11001', metavar='URI', help='where to listen (default: %(default)s, this computer)'
    )
    about = 'send one start message and say what came of it'
    client = roles.add_parser('client', parents=[common], help=about, description=about.capitalize(), **style)
    client.add_argument(
        'uri', nargs='?', default=':11001', metavar='URI', help='the server (default: %(default)s, this computer)'
    )
    client.add_argument(
        '--exp-ref', default=EXAMPLE_REF, metavar='REF', help='the experiment reference (default: %(default)s)'
    )
    client.add_argument('--timeout', type=_seconds, metavar='SECONDS', help='how long to wait (default: 1)')
    roles.add_parser('demo', add_help=False, help='a whole session with rigs on this computer; see echorig demo --help')
    return parser
