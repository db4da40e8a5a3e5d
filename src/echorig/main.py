"""`main`: one communicator as a program."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from .checks import described, seconds
from .communicator.protocol import EchoProtocol
from .errors import EchoError, EchoTimeoutError
from .messages import ExpMessage
from .resolver import own_addresses
from .security.redaction import redact_frame
from .stall import wait_for
from .threads import in_thread
from .uri import address_text
from .wire._codec import encode

__all__ = ['EXAMPLE_REF', 'main']

EXAMPLE_REF = '2022-01-01_1_subject'
"""str: The default experiment reference of a client."""


async def main(role: str, server_uri: Any, name: str | None = None, **kwargs: Any) -> None:
    """Run one communicator: a server that prints incoming messages, or a client that sends one start message.

    Parameters
    ----------
    role : {'server', 'client'}
        The role. A server runs until it is cancelled.
    server_uri : str, ipaddress.IPv4Address or ipaddress.IPv6Address
        The address to listen on, or that of the server.
    name : str, optional
        A label.
    kwargs
        For :meth:`EchoProtocol.server` or :meth:`EchoProtocol.client`; for the client also `exp_ref`, the
        experiment reference, and `timeout`, the time limit in seconds for the connection, and then for the
        confirmation. The defaults are the limit of the system and `EchoProtocol.default_echo_timeout`.

    Raises
    ------
    TypeError, ValueError
        The role, the URI or the timeout is not valid.
    EchoError, OSError
        The message was not confirmed, or the address or the output cannot be used.
    """
    if role == 'server':
        await _serve(server_uri, name, kwargs)
    elif role == 'client':
        await _send_start(server_uri, name, kwargs)
    else:
        raise ValueError(f'The role must be "server" or "client", not {described(role)}')


async def _serve(server_uri: Any, name: str | None, kwargs: dict[str, Any]) -> None:
    error: OSError | None = None

    def print_line(line: str) -> None:
        nonlocal error
        try:
            print(line, flush=True)
        except OSError as ex:  # stdout is closed, which the sender of the message must not see as a failed callback
            error = ex
            com.close()

    def on_event(data: list[Any], addr: tuple[str, int], event: ExpMessage) -> None:
        # The message on the wire, without the tokens in it.
        print_line(f'{event.name} {redact_frame(encode([int(event), *data]))} from {addr[0]}:{addr[1]}')

    def on_notice(data: list[Any], addr: tuple[str, int]) -> None:
        print_line(f'failure {redact_frame(encode([0, *data]))} from {addr[0]}:{addr[1]}')

    async with await EchoProtocol.server(server_uri, name, **kwargs) as com:
        com.assign_callback(ExpMessage.any(), on_event)
        com.assign_callback(0, on_notice)
        print_line(f'{name + " listens" if name else "Listening"} on {com.server_uri}; Ctrl-C ends it')
        for line in await _reachable_at(com):
            print_line(line)
        await com.wait_closed()
    if error is not None:
        raise error


async def _reachable_at(com: EchoProtocol) -> list[str]:
    """Return a line with the addresses of a server that listens on all of them."""
    if com.hostname not in ('0.0.0.0', '::'):
        return []
    hosts = [host for host in await in_thread(own_addresses) if com.hostname == '::' or ':' not in host]
    uris = ' or '.join(address_text(com.protocol, (host, com.port)) for host in hosts)
    return [f'Other computers use {uris}' if uris else 'Other computers cannot reach it: this one has no address']


async def _send_start(server_uri: Any, name: str | None, kwargs: dict[str, Any]) -> None:
    exp_ref = kwargs.pop('exp_ref', EXAMPLE_REF)
    timeout = kwargs.pop('timeout', None)
    if timeout is not None:
        timeout = seconds(timeout, 'timeout')
    try:
        com = await wait_for(EchoProtocol.client(server_uri, name, **kwargs), timeout)
    except EchoError:
        raise
    except asyncio.TimeoutError as ex:
        if isinstance(ex, OSError) and ex.errno is not None:
            raise  # the limit of the system, with its error code
        raise EchoTimeoutError(f'{name or server_uri} did not accept a connection within {timeout} s') from None
    async with com:
        if timeout is not None:
            com.default_echo_timeout = timeout
        start = perf_counter()
        await com.start(exp_ref)
        print(f'{com.server_uri} confirmed EXPSTART {exp_ref} in {(perf_counter() - start) * 1e3:.2f} ms', flush=True)
