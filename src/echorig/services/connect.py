"""Opening many clients at once, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from ..checks import described, short, text
from ..communicator.options import check_options
from ..communicator.protocol import EchoProtocol
from ..errors import EchoTimeoutError
from ..stall import wait
from .fan_out import services_error

__all__ = ['opened']


async def opened(uris: Mapping[str, Any], timeout: float | None, kwargs: dict[str, Any]) -> list[EchoProtocol]:
    """Open a client for each URI; where one fails, the others are closed again.

    Parameters
    ----------
    uris : mapping of str to str
        The URI of each rig, by name.
    timeout : float or None
        How long to wait, in seconds; None or 0 waits without limit.
    kwargs : dict
        For :meth:`EchoProtocol.client`; ``key`` may be a mapping with the key of each rig, by name.

    Returns
    -------
    list of EchoProtocol
        The clients, in the order of the URIs.

    Raises
    ------
    ServicesError, ServicesTimeoutError
        At least one could not be opened.
    TypeError
        A name or a URI is none, or an option is of a wrong type; nothing has been opened.
    ValueError
        There is no key for one of them.
    """
    for name, uri in uris.items():
        text(name, 'rigs', ' for each name')
        if not isinstance(uri, (str, IPv4Address, IPv6Address)):
            raise TypeError(f'rigs must have a URI for {short(name)}, a str, not {described(uri)}')
    options = {**kwargs}
    keys = options.pop('key', None)
    check_options(None, options.get('log'), options)
    each = {name: {**options, 'key': _key_of(name, keys)} for name in uris}
    tasks = {name: asyncio.ensure_future(EchoProtocol.client(uri, name, **each[name])) for name, uri in uris.items()}
    whole = False
    try:
        if tasks:
            await wait(list(tasks.values()), timeout or None)
        failures: dict[str, Exception] = {}
        for name, task in tasks.items():
            if not task.done():
                failures[name] = EchoTimeoutError(
                    f'{name} ({uris[name]}) did not accept a connection within {timeout} s'
                )
            elif (error := task.exception()) is not None:
                if not isinstance(error, Exception):
                    raise error
                failures[name] = error
        if failures:
            raise services_error({name: uris[name] for name in tasks if name not in failures}, failures)
        whole = True
        return [task.result() for task in tasks.values()]
    finally:
        if not whole:
            await _undo(list(tasks.values()))


def _key_of(name: str, keys: Any) -> Any:
    if isinstance(keys, Mapping):
        if name not in keys:
            raise ValueError(f'key= has no key for {name}; it has those of {", ".join(map(str, keys)) or "nobody"}')
        keys = keys[name]
    check_options(name, None, {'key': keys})
    return keys


async def _undo(tasks: list[asyncio.Task[EchoProtocol]]) -> None:
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    coms = [com for com in outcomes if isinstance(com, EchoProtocol)]
    for com in coms:
        com.close()
    await asyncio.gather(*(com.wait_closed() for com in coms))
