from typing import Any, final

from ..messages import ExpMessage
from ..uri import Address
from ._reply_context import Origin

@final
class ReceivedMessage:
    @property
    def event(self) -> ExpMessage: ...
    @property
    def data(self) -> list[Any]: ...
    @property
    def addr(self) -> Address: ...
    @property
    def request(self) -> Origin | None: ...
    @property
    def size(self) -> int: ...
    def __init__(
        self, event: ExpMessage, data: list[Any], addr: Address, request: Origin | None, size: int
    ) -> None: ...
