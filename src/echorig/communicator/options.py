"""Checks of the arguments of ``client()`` and ``server()``, before anything is opened."""

from __future__ import annotations

import logging
import socket
import ssl
from typing import Any

from ..checks import described, flag, seconds, short, text
from ..compatibility import in_force
from ..messages import ExpMessage
from ..security.allowlist import parse_entries
from ..tuning import DEFAULT_TUNING, Tuning
from ..uri import Uri
from ..wire._codec import is_raw, peek

__all__ = [
    'check_event',
    'check_identity',
    'check_options',
    'check_text',
    'check_transport',
    'checked_role',
    'echo_timeout',
    'poll_seconds',
    'pop_options',
]

_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def check_options(name: Any, log: Any, kwargs: dict[str, Any]) -> None:
    """Refuse options of a wrong type, and remove those that are None; the event loop checks its own options."""
    for option in [option for option, value in kwargs.items() if value is None]:
        del kwargs[option]
    check_identity(name, log, kwargs.get('tuning', DEFAULT_TUNING))
    for option, kind, what in (
        ('ssl', ssl.SSLContext, 'an ssl.SSLContext, such as ssl.create_default_context()'),
        ('sock', socket.socket, 'a socket.socket'),
    ):
        if option in kwargs and not isinstance(kwargs[option], kind):
            raise TypeError(f'{option} must be {what}, not {described(kwargs[option])}')
    if not isinstance(kwargs.get('key', ''), (str, bytes, bytearray)):  # the key must not be shown
        raise TypeError(f'key must be bytes or a str, not {type(kwargs["key"]).__name__}')
    for option, check in (('busy_poll', poll_seconds), ('ssl_handshake_timeout', seconds), ('reconnect', flag)):
        if option in kwargs:
            kwargs[option] = check(kwargs[option], option)
    if 'journal' in kwargs:
        from ..journal.sharing import check_journal  # most programs have no journal

        check_journal(kwargs['journal'])
    if 'allow' in kwargs:
        kwargs['allow'] = parse_entries(kwargs['allow'])
    if 'server_hostname' in kwargs:
        text(kwargs['server_hostname'], 'server_hostname', ', the name in the certificate of the server')


def check_identity(name: Any, log: Any, tuning: Any, log_name: str = 'log') -> None:
    """Refuse a label, a logger or limits of a wrong type; `log_name` is the argument of the logger."""
    if name is not None:
        text(name, 'name', ', the label of the rig')
    if log is not None and not isinstance(log, (logging.Logger, logging.LoggerAdapter)):
        raise TypeError(f'{log_name} must be a logging.Logger, not {described(log)}')
    if not isinstance(tuning, Tuning):
        raise TypeError(f'tuning must be an echorig.Tuning, not {described(tuning)}')


def checked_role(value: Any) -> str:
    """Return a role, or raise ValueError."""
    role = value.strip().lower() if isinstance(value, str) else ''
    if role not in ('client', 'server'):
        raise ValueError(f'The role must be "client" or "server", not {described(value)}')
    return role


def echo_timeout(value: Any, what: str) -> float:
    """Return a time-out for echoes: positive, or 0 if iblutil programs may set it; a send refuses that then."""
    return seconds(value, what, zero=in_force().zero_timeout)


def poll_seconds(value: Any, what: str = 'busy_poll') -> float:
    """Return how many seconds to poll: 0 or more, and finite."""
    return seconds(value, what, zero=True, endless=False)


def check_transport(uri: Uri, allow: object, sock: socket.socket | None, role: str) -> None:
    """Refuse options that the transport of a URI does not have, and a socket that cannot be used for it.

    That is a socket that is closed, of another kind than the URI, or not bound or connected where it must be.
    """
    if uri.scheme == 'nats' and allow is not None:
        raise ValueError(
            f'allow= has hosts, which a broker does not tell: {uri} needs permissions in the broker, or key='
        )
    if sock is None:
        return
    if uri.scheme == 'nats':
        raise ValueError(f'{uri} has no socket of its own: leave out sock=')
    kind, name = (socket.SOCK_DGRAM, 'datagram') if uri.scheme == 'udp' else (socket.SOCK_STREAM, 'stream')
    if sock.fileno() < 0:
        raise ValueError(f'sock is closed: {uri} needs one that is open')
    if sock.type != kind or sock.family not in _FAMILIES:
        raise ValueError(f'sock must be a {name} socket of IPv4 or IPv6 for {uri}, not {described(sock)}')
    if role == 'server':
        if sock.getsockname()[1] == 0:
            raise ValueError(f'sock must be bound to an address before it can serve {uri}: sock.bind((host, port))')
    elif uri.scheme != 'udp':
        try:
            sock.getpeername()
        except OSError:
            raise ValueError(f'sock must be connected to {uri}: sock.connect((host, port))') from None


def pop_options(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Remove and return the options of the communicator itself; the others are for the event loop."""
    return {name: kwargs.pop(name) for name in ('tuning', 'key') if name in kwargs}


def check_text(data: str) -> None:
    """Refuse text that cannot be encoded."""
    if not data.isascii():
        try:
            data.encode()
        except UnicodeEncodeError as ex:
            raise ValueError(f'data must be text that can be written as UTF-8, not {short(data)}') from ex


def check_event(data: Any, frame: bytes) -> None:
    """Refuse an encoded array that does not begin with an event code; an empty one is a ping."""
    if peek(frame) >= 0 or is_raw(data) or not frame.startswith(b'[') or frame == b'[]':
        return
    first = data[0] if isinstance(data, (list, tuple)) else None
    known = first if isinstance(first, str) and first.strip().upper() in ExpMessage.__members__ else None
    shown = repr(known) if known else f'of type {type(first).__name__}'  # it may contain a token
    hint = f'ExpMessage.{known.strip().upper()}' if known else 'such as ExpMessage.EXPSTART, or use start()'
    error = ValueError if isinstance(first, int) and not isinstance(first, bool) else TypeError
    raise error(f'A message must begin with an event code, {hint}; its first element is {shown}')
