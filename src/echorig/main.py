"""`main`: one communicator as a program."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from .checks import described, seconds
from .communicator.protocol import EchoProtocol
from .errors import EchoError, EchoTimeoutError
from .messages import ExpMessage
from .security.redaction import redact_frame
from .stall import wait_for
from .wire._codec import encode

__all__ = ['EXAMPLE_REF', 'main']

EXAMPLE_REF = '2022-01-01_1_subject'
"""str: The experiment reference that a client sends unless told otherwise."""


async def main(role: str, server_uri: Any, name: str | None = None, **kwargs: Any) -> None:
    """Run one communicator: a server that prints what it hears, or a client that sends one start message.

    Parameters
    ----------
    role : {'server', 'client'}
        What to run. The server runs until it is cancelled.
    server_uri : str, ipaddress.IPv4Address or ipaddress.IPv6Address
        The address to listen on, or of the server to tell.
    name : str, optional
        A label.
    kwargs
        For :meth:`EchoProtocol.server` or :meth:`EchoProtocol.client`; for the client also `exp_ref`, the
        experiment reference to send, and `timeout`, how long to wait for the connection, and then for the
        confirmation, in seconds (by default `EchoProtocol.default_echo_timeout` for the confirmation, and
        as long as the system does for the connection).

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
        await _tell(server_uri, name, kwargs)
    else:
        raise ValueError(f'The role must be "server" or "client", not {described(role)}')


async def _serve(server_uri: Any, name: str | None, kwargs: dict[str, Any]) -> None:
    unprinted: OSError | None = None

    def tell(line: str) -> None:
        nonlocal unprinted
        try:
            print(line, flush=True)
        except OSError as ex:  # whoever read the output is gone, which is no failure of the sender's
            unprinted = ex
            com.close()

    def hear(data: list[Any], addr: tuple[str, int], event: ExpMessage) -> None:
        # The message as it travelled, without the tokens in it.
        tell(f'{event.name} {redact_frame(encode([int(event), *data]))} from {addr[0]}:{addr[1]}')

    def hear_notice(data: list[Any], addr: tuple[str, int]) -> None:
        tell(f'failure {redact_frame(encode([0, *data]))} from {addr[0]}:{addr[1]}')

    async with await EchoProtocol.server(server_uri, name, **kwargs) as com:
        com.assign_callback(ExpMessage.any(), hear)
        com.assign_callback(0, hear_notice)
        tell(f'{name + " listens" if name else "Listening"} on {com.server_uri}; Ctrl-C ends it')
        await com.wait_closed()
    if unprinted is not None:
        raise unprinted


async def _tell(server_uri: Any, name: str | None, kwargs: dict[str, Any]) -> None:
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
            raise  # the system's own limit, with its reason
        raise EchoTimeoutError(f'{name or server_uri} did not accept a connection within {timeout} s') from None
    async with com:
        if timeout is not None:
            com.default_echo_timeout = timeout
        begun = perf_counter()
        await com.start(exp_ref)
        print(f'{com.server_uri} confirmed EXPSTART {exp_ref} in {(perf_counter() - begun) * 1e3:.2f} ms', flush=True)
