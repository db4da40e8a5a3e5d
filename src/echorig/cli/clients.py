"""`clients_of`: opens a client for each chosen rig; those that cannot be opened are errors by name."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..communicator.protocol import EchoProtocol
from ..errors import EchoError
from ..services.discover import resolve_mdns
from ..uri import without_login
from .options import chosen_rigs, connection_options

__all__ = ['clients_of', 'kind_of']

_CONNECT_TIMEOUT = 5.0  # seconds
_KINDS = {'legacy': 'iblutil or MATLAB'}


@asynccontextmanager
async def clients_of(options: argparse.Namespace) -> AsyncIterator[dict[str, EchoProtocol | Exception]]:
    """Open the clients of the rigs that the options name, and close them at the end."""
    kwargs = connection_options(options, is_client=True)
    rigs = await resolve_mdns(chosen_rigs(options), _CONNECT_TIMEOUT, kwargs)

    async def open_client(name: str, uri: str) -> EchoProtocol | Exception:
        try:
            return await asyncio.wait_for(EchoProtocol.client(uri, name, **kwargs), _CONNECT_TIMEOUT)
        except EchoError as ex:
            return ex
        except asyncio.TimeoutError:
            return TimeoutError(f'{name} ({without_login(uri)}) accepted no connection within {_CONNECT_TIMEOUT:g} s')
        except OSError as ex:
            return ex
        except ValueError as ex:
            if isinstance(ex.__cause__, OSError):  # the name does not resolve: the computer may be off
                return ex
            raise

    opened = await asyncio.gather(*(open_client(name, uri) for name, uri in rigs.items()))
    clients = dict(zip(rigs, opened, strict=True))
    try:
        yield clients
    finally:
        for client in clients.values():
            if isinstance(client, EchoProtocol):
                client.close()


def kind_of(client: EchoProtocol) -> str:
    """Return what is known of the program of a rig."""
    kinds = [peer.kind for peer in client.peers.values()]
    return _KINDS.get(kinds[0], kinds[0]) if kinds else 'unknown'
