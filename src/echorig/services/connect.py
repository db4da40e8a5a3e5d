"""`connect_all`: opens many clients at once, all or none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from ..aliases import UriLike
from ..checks import described, short, text
from ..communicator.options import check_options
from ..communicator.protocol import EchoProtocol
from ..errors import EchoTimeoutError, TLSError
from ..stall import wait
from ..uri import without_login
from .fan_out import services_error
from .online import reach

__all__ = ['connect_all']

_RETRY = 0.25  # seconds


async def _client_when_there(uri: UriLike, name: str, errors: dict[str, Exception], **kwargs: Any) -> EchoProtocol:
    """Open a client as soon as its server echoes a ping; keep the last error in `errors`."""
    while True:
        try:
            com = await EchoProtocol.client(uri, name, **kwargs)
            break
        except (PermissionError, TLSError):  # waiting changes nothing
            raise
        except OSError as ex:
            errors[name] = ex
            await asyncio.sleep(_RETRY)
    try:
        await reach(com, errors)
    except BaseException:
        com.close()
        await com.wait_closed()
        raise
    return com


async def connect_all(
    uris: Mapping[str, UriLike], timeout: float | None, kwargs: dict[str, Any], wait_for_rigs: bool = False
) -> list[EchoProtocol]:
    """Open a client for each URI, by name; if one fails, close the others and raise `ServicesError`.

    None or 0 is no time limit. `kwargs` are for :meth:`EchoProtocol.client`; ``key`` may be a mapping with the key of
    each rig, by name. With `wait_for_rigs` it tries again until the time-out to connect to rigs.
    """
    for name, uri in uris.items():
        text(name, 'rigs', ' for each name')
        if not isinstance(uri, (str, IPv4Address, IPv6Address)):
            raise TypeError(f'rigs must have a URI for {short(name)}, a str, not {described(uri)}')
    options = {**kwargs}
    keys = options.pop('key', None)
    check_options(None, options.get('log'), options)
    each = {name: {**options, 'key': _key_of(name, keys)} for name in uris}
    shown = {name: without_login(str(uri)) for name, uri in uris.items()}
    errors: dict[str, Exception] = {}
    opening = partial(_client_when_there, errors=errors) if wait_for_rigs else EchoProtocol.client
    tasks = {name: asyncio.ensure_future(opening(uri, name, **each[name])) for name, uri in uris.items()}
    failures: dict[str, Exception] = {}
    try:
        await wait(list(tasks.values()), timeout or None)
        for name, task in tasks.items():
            if not task.done():
                missed = 'is not online' if wait_for_rigs else 'did not accept a connection'
                why = f': {errors[name]}' if name in errors else ''
                reason = f'{name} ({shown[name]}) {missed} within {timeout} s{why}'
                failures[name] = EchoTimeoutError(reason)
            elif (error := task.exception()) is not None:
                if not isinstance(error, Exception):
                    raise error
                failures[name] = error
        if failures:
            raise services_error({name: shown[name] for name in tasks if name not in failures}, failures)
    except BaseException:
        await _close_all(list(tasks.values()))
        raise
    return [task.result() for task in tasks.values()]


def _key_of(name: str, keys: Any) -> Any:
    if isinstance(keys, Mapping):
        if name not in keys:
            raise ValueError(f'key= has no key for {name}; it has those of {", ".join(map(str, keys)) or "nobody"}')
        keys = keys[name]
    check_options(name, None, {'key': keys})
    return keys


async def _close_all(tasks: list[asyncio.Task[EchoProtocol]]) -> None:
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    coms = [com for com in outcomes if isinstance(com, EchoProtocol)]
    for com in coms:
        com.close()
    await asyncio.gather(*(com.wait_closed() for com in coms))
