"""The options that several commands have: the rigs, the connection, and the kind of output."""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ..checks import path, seconds
from ..messages import ExpMessage
from ..services.rigs_file import read_rigs
from ..uri import LISTEN_PORT, without_login
from .command import UsageError

__all__ = [
    'CommandParser',
    'add_connection',
    'add_interval',
    'add_login',
    'add_output',
    'add_own_address',
    'add_rigs',
    'add_rigs_file',
    'add_timeout',
    'chosen_rigs',
    'connection_options',
    'count_of',
    'event_of',
    'known_event',
    'login_options',
    'seconds_of',
]


class CommandParser(argparse.ArgumentParser):
    """Prints an error as one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'{self.prog}: {message}; see {self.prog} --help\n')


def add_rigs(parser: argparse.ArgumentParser) -> None:
    """Add the rigs of a command: URIs, names, and a file with both."""
    parser.add_argument(
        'uris', nargs='*', metavar='URI', help='a rig: URI, NAME=URI, or a name in the file of --rigs (default: all)'
    )
    add_rigs_file(parser)


def add_rigs_file(parser: argparse.ArgumentParser) -> None:
    """Add the file with names and URIs."""
    parser.add_argument(
        '--rigs', dest='rigs_file', metavar='FILE', help='a YAML file with lines NAME: URI, such as remote_devices.yaml'
    )


def chosen_rigs(options: argparse.Namespace) -> dict[str, str]:
    """Return the URIs of the chosen rigs, by name; a rig without a name is called as its URI."""
    try:
        known = read_rigs(options.rigs_file) if options.rigs_file else {}
    except OSError as ex:
        raise UsageError(f'cannot read the rigs: {ex}') from None
    chosen: dict[str, str] = {}
    for given in options.uris:
        name, mark, uri = given.partition('=')
        if given in known:
            name, uri = given, known[given]
        elif not mark or ':' in name:  # such as mdns:camera?group=room-2
            name, uri = without_login(given), given
        if name in chosen:
            raise UsageError(f'the rig {name} is given twice')
        chosen[name] = uri
    chosen = chosen or known
    if not chosen:
        raise UsageError('no rigs: give the URI of at least one, or --rigs FILE')
    return chosen


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the options of the connection: who is allowed, signatures, TLS and the log."""
    parser.add_argument(
        '--allow',
        action='append',
        metavar='HOST',
        help='accept only this host: an address, a network (10.0.0.0/8) or a name; may be repeated',
    )
    parser.add_argument('--key-file', metavar='FILE', help='sign messages with the key in this file, 16 bytes or more')
    parser.add_argument('-v', '--verbose', action='count', default=0, help='log to stderr; -vv logs everything')
    add_login(parser)


def add_login(parser: argparse.ArgumentParser) -> None:
    """Add the options of TLS, and of the login at a NATS broker."""
    tls = parser.add_argument_group('for tls:// and nats://')
    tls.add_argument('--cafile', metavar='FILE', help='the authority that must have signed the certificate of the peer')
    tls.add_argument('--cert', metavar='FILE', help='the certificate of this end; a server needs one')
    tls.add_argument('--key', metavar='FILE', help='its private key, if that is in a file of its own')
    what = (
        'the login for the broker, as nsc writes it; a password or token stands in the URI: nats://user:password@host'
    )
    parser.add_argument_group('for nats://').add_argument('--creds', metavar='FILE', help=what)


def connection_options(options: argparse.Namespace, is_client: bool) -> dict[str, Any]:
    """Return the keyword arguments of `EchoProtocol.client` or `EchoProtocol.server` for these options."""
    if options.key_file == '':  # an empty variable of a script must not mean "unsigned"
        raise UsageError('--key-file needs the name of a file')
    kwargs: dict[str, Any] = {'allow': options.allow, **login_options(options, is_client)}
    try:
        if options.key_file:
            kwargs['key'] = Path(path(options.key_file, '--key-file')).read_bytes()
    except (OSError, ValueError) as ex:
        raise UsageError(f'cannot read the key: {ex}') from None
    return kwargs


def login_options(options: argparse.Namespace, is_client: bool) -> dict[str, Any]:
    """Return the keyword arguments for TLS and the login at a NATS broker."""
    names, kwargs = ('cafile', 'cert', 'key'), {}
    for name in (*names, 'creds'):
        if getattr(options, name) == '':
            raise UsageError(f'--{name} needs the name of a file')
    given = [f'--{name} {getattr(options, name)}' for name in names if getattr(options, name)]
    try:
        if given:
            kwargs['ssl'] = _ssl_context(options, is_client)
    except (OSError, ValueError) as ex:  # its text does not name the file
        raise UsageError(f'cannot use {" ".join(given)}: {ex}') from None
    if options.creds:
        kwargs['user_credentials'] = options.creds
    return kwargs


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


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the option for output that programs read."""
    parser.add_argument('--json', action='store_true', help='print one JSON object a line, for programs')


def known_event(text: str) -> ExpMessage | None:
    """Return the event with a name such as EXPSTART or start, or None; stop is EXPEND."""
    name = text.upper()
    name = {'STOP': 'EXPEND', 'ALYX': 'ALYX'}.get(name, name if name.startswith('EXP') else f'EXP{name}')
    return ExpMessage[name] if name in ExpMessage.__members__ else None


def event_of(text: str) -> ExpMessage:
    """Return the event that an option names."""
    if (event := known_event(text)) is None:
        known = ', '.join(sorted(event.name.removeprefix('EXP').lower() for event in ExpMessage if event.name))
        raise argparse.ArgumentTypeError(f'{text} is no event: use one of {known}')
    return event


def add_timeout(
    parser: argparse.ArgumentParser,
    what: str = 'how long to wait for an echo (default: %(default)s)',
    default: float = 1.0,
) -> None:
    """Add how long to wait."""
    read = seconds_of('--timeout')
    parser.add_argument('-t', '--timeout', type=read, default=default, metavar='SECONDS', help=what)


def add_interval(parser: argparse.ArgumentParser, zero: bool) -> None:
    """Add the time between two pings; `zero` is whether there may be none."""
    read, what = seconds_of('--interval', zero), 'the time between two pings of a rig (default: %(default)s)'
    parser.add_argument('-i', '--interval', type=read, default=1.0, metavar='SECONDS', help=what)


def add_own_address(parser: argparse.ArgumentParser) -> None:
    """Add the address on which a command listens."""
    what = 'the address to listen on (default: %(default)s, all addresses of this computer)'
    parser.add_argument('uri', nargs='?', default=f'udp://0.0.0.0:{LISTEN_PORT}', metavar='URI', help=what)


def seconds_of(what: str, zero: bool = False) -> Callable[[str], float]:
    """Return the type of an option that is a time in seconds."""

    def read(text: str) -> float:
        try:
            return seconds(float(text), what, zero=zero, endless=False)
        except ValueError as ex:
            raise argparse.ArgumentTypeError(str(ex)) from None

    return read


def count_of(low: int, high: int) -> Callable[[str], int]:
    """Return the type of an option that is a whole number within limits."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f'{text} is no whole number') from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f'{text} is not in {low:,} to {high:,}')
        return value

    return read
