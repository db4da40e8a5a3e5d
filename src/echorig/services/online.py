"""`wait_until_online`: waits until every rig of a set echoes a ping; `reach`: until one does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ..errors import EchoError, EchoTimeoutError
from ..stall import wait
from .fan_out import services_error

__all__ = ['reach', 'wait_until_online']

_PING_TIMEOUT = 1.0  # seconds
_RETRY = 0.1  # seconds


async def reach(rig: Any, errors: dict[str, Exception]) -> None:
    """Ping a rig until it echoes; keep its last error in `errors`, by name."""
    while True:
        try:
            await rig.ping(timeout=_PING_TIMEOUT)
            return
        except (EchoError, OSError) as ex:
            errors[rig.name] = ex
        await asyncio.sleep(_RETRY)


async def wait_until_online(rigs: Mapping[str, Any], timeout: float | None) -> None:
    """Ping each rig until it echoes; raise `ServicesError` for those that do not within `timeout` seconds.

    None or 0 is no limit.
    """
    errors: dict[str, Exception] = {}
    tasks = {name: asyncio.ensure_future(reach(rig, errors)) for name, rig in rigs.items()}
    try:
        await wait(list(tasks.values()), timeout or None)
        failures: dict[str, Exception] = {}
        for name, task in tasks.items():
            if not task.done():
                reason = errors.get(name)
                text = f'{name} is not online after {timeout} s' + (f': {reason}' if reason else '')
                failures[name] = EchoTimeoutError(text)
                failures[name].__cause__ = reason
            elif (error := task.exception()) is not None:
                raise error
        if failures:
            raise services_error({name: None for name in rigs if name not in failures}, failures)
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
