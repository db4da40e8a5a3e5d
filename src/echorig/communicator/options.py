"""The options of a communicator: what ``client()`` and ``server()`` take besides the URI, before anything is opened."""

from __future__ import annotations

import logging
import socket
import ssl
from typing import Any

from ..checks import described, flag, seconds, short, text
from ..security.allowlist import entries
from ..tuning import DEFAULT_TUNING, Tuning
from ..uri import Uri

__all__ = ['check_identity', 'check_options', 'check_socket', 'check_text', 'polling', 'settings']

_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def check_options(name: Any, log: Any, kwargs: dict[str, Any]) -> None:
    """Refuse options of a wrong type; those that are None are taken out, which stands for the default.

    What is meant for the event loop is left to it.

    Parameters
    ----------
    name : str or None
        The label.
    log : logging.Logger or None
        Where to log.
    kwargs : dict
        The keyword arguments.

    Raises
    ------
    TypeError, ValueError
        An option is not what it must be.
    """
    for option in [option for option, value in kwargs.items() if value is None]:
        del kwargs[option]
    check_identity(name, log, kwargs.get('tuning', DEFAULT_TUNING))
    for option, kind, what in (
        ('ssl', ssl.SSLContext, 'an ssl.SSLContext, such as ssl.create_default_context()'),
        ('sock', socket.socket, 'a socket.socket'),
    ):
        if option in kwargs and not isinstance(kwargs[option], kind):
            raise TypeError(f'{option} must be {what}, not {described(kwargs[option])}')
    if not isinstance(kwargs.get('key', ''), (str, bytes, bytearray)):  # which must not be shown
        raise TypeError(f'key must be bytes or a str, not {type(kwargs["key"]).__name__}')
    for option, check in (('busy_poll', polling), ('ssl_handshake_timeout', seconds), ('reconnect', flag)):
        if option in kwargs:
            kwargs[option] = check(kwargs[option], option)
    if 'allow' in kwargs:
        kwargs['allow'] = entries(kwargs['allow'])
    if 'server_hostname' in kwargs:
        text(kwargs['server_hostname'], 'server_hostname', ', the name in the certificate of the server')


def check_identity(name: Any, log: Any, tuning: Any, log_name: str = 'log') -> None:
    """Refuse a label, a logger or limits of a wrong type.

    Parameters
    ----------
    name : str or None
        The label.
    log : logging.Logger or None
        Where to log.
    tuning : Tuning
        The limits.
    log_name : str
        The name of the second argument.

    Raises
    ------
    TypeError
        One is not what it must be.
    """
    if name is not None:
        text(name, 'name', ', the label of the rig')
    if log is not None and not isinstance(log, (logging.Logger, logging.LoggerAdapter)):
        raise TypeError(f'{log_name} must be a logging.Logger, not {described(log)}')
    if not isinstance(tuning, Tuning):
        raise TypeError(f'tuning must be an echorig.Tuning, not {described(tuning)}')


def polling(value: Any, what: str = 'busy_poll') -> float:
    """Return for how long to poll, in seconds: 0 or more, and not for ever."""
    return seconds(value, what, zero=True, endless=False)


def check_socket(sock: socket.socket | None, uri: Uri, role: str) -> None:
    """Refuse a socket that a communicator cannot use.

    Parameters
    ----------
    sock : socket.socket or None
        What the user gave.
    uri : Uri
        The URI of the communicator.
    role : {'client', 'server'}
        What it is to be.

    Raises
    ------
    ValueError
        It is closed, of another kind than the URI, or not bound or connected where it must be.
    """
    if sock is None:
        return
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


def settings(kwargs: dict[str, Any]) -> tuple[Tuning, bytes | str | None]:
    """Take out of the keyword arguments what is for the communicator and not for the loop."""
    return kwargs.pop('tuning', DEFAULT_TUNING), kwargs.pop('key', None)


def check_text(data: str) -> None:
    """Refuse text that has no bytes."""
    if not data.isascii():
        try:
            data.encode()
        except UnicodeEncodeError as ex:
            raise ValueError(f'data must be text that can be written as UTF-8, not {short(data)}') from ex
