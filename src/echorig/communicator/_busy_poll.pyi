import asyncio

from typing_extensions import disjoint_base

from ..delivery._exchange import Exchange

@disjoint_base
class BusyPoll:
    seconds: float
    @property
    def is_running(self) -> bool: ...
    def __init__(self, loop: asyncio.AbstractEventLoop, exchange: Exchange | None = None) -> None: ...
    def extend(self) -> None: ...
    def stop(self) -> None: ...
