"""`main`: one communicator as a program."""

from __future__ import annotations

import asyncio
from typing import Any

from .messages import ExpMessage
from .protocol import EchoProtocol

__all__ = ['main']

EXAMPLE_REF = '2022-01-01_1_subject'


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
        experiment reference to send.

    Raises
    ------
    ValueError
        The role or the URI is not valid.
    EchoError, OSError
        The message was not confirmed, or the address cannot be used.
    """
    if role == 'server':
        await _serve(server_uri, name, kwargs)
    elif role == 'client':
        await _tell(server_uri, name, kwargs)
    else:
        raise ValueError(f'The role must be "server" or "client", not {role!r}')


async def _serve(server_uri: Any, name: str | None, kwargs: dict[str, Any]) -> None:
    def hear(data: list[Any], addr: tuple[str, int], event: ExpMessage) -> None:
        # Of a token only the database and the user are shown.
        shown = [data[0], list(data[1])] if event == ExpMessage.ALYX and len(data) > 1 else data
        print(f'{event.name} {shown} from {addr[0]}:{addr[1]}', flush=True)

    async with await EchoProtocol.server(server_uri, name, **kwargs) as com:
        com.assign_callback(ExpMessage.any(), hear)
        com.assign_callback(0, lambda data, addr: print(f'failure {data} from {addr[0]}:{addr[1]}', flush=True))
        print(f'{com.name} listens on {com.server_uri}; Ctrl-C ends it', flush=True)
        await com.wait_closed()


async def _tell(server_uri: Any, name: str | None, kwargs: dict[str, Any]) -> None:
    exp_ref = kwargs.pop('exp_ref', EXAMPLE_REF)
    loop = asyncio.get_running_loop()
    async with await EchoProtocol.client(server_uri, name, **kwargs) as com:
        begun = loop.time()
        await com.start(exp_ref)
        print(
            f'{com.server_uri} confirmed EXPSTART {exp_ref} in {(loop.time() - begun) * 1e3:.2f} ms',
            flush=True,
        )
