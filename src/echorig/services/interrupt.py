"""`interrupt_all`: interrupts and cleans up rigs after a failure, within a bounded time.

Each rig is tried on its own. A silent rig is tried again, since it may come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ..communicator.outcomes import outcomes
from ..errors import ConnectionClosedError, EchoTimeoutError, PeerUnreachableError
from ..messages import ExpMessage

__all__ = ['interrupt_all']

_RETRY = 0.2  # seconds between two attempts at a rig that is silent
_MESSAGES: tuple[tuple[ExpMessage, tuple[str, tuple[Any, ...], dict[str, Any]]], ...] = (
    (ExpMessage.EXPINTERRUPT, ('stop', (), {'immediately': True})),
    (ExpMessage.EXPCLEANUP, ('cleanup', (), {})),
)


async def interrupt_all(rigs: Sequence[Any], timeout: float) -> dict[str, BaseException]:
    """Interrupt and clean up rigs within `timeout` seconds; return why each that may still run does, by name."""
    ends = await asyncio.gather(*(_interrupt(rig, timeout) for rig in rigs), return_exceptions=True)
    return {rig.name: end for rig, end in zip(rigs, ends, strict=True) if end is not None}


async def _interrupt(rig: Any, timeout: float) -> Exception | None:
    """Interrupt and clean up one rig; return why it may still run, or None."""
    loop = asyncio.get_running_loop()
    failure: Exception | None = None
    for event, message in _MESSAGES:
        deadline = loop.time() + timeout / len(_MESSAGES)
        while (left := deadline - loop.time()) > 0:
            found = (await outcomes([rig], event, message, left))[rig.name]
            is_silent = isinstance(found, EchoTimeoutError | ConnectionClosedError)
            if not is_silent or isinstance(found, PeerUnreachableError):  # there is no program any more
                break
            await asyncio.sleep(min(_RETRY, max(deadline - loop.time(), 0)))
        if isinstance(found, Exception) and event == ExpMessage.EXPINTERRUPT:
            failure = found
    return failure
