from contextvars import ContextVar
from typing import Any, final

from typing_extensions import Self

from ..uri import Address

current_request: ContextVar[RequestContext | None]
outgoing_request: ContextVar[OutgoingRequest | None]

@final
class RequestContext:
    receiver_id: object
    event: int
    addr: Address
    message_id: int
    in_reply_to: int
    time: int

@final
class OutgoingRequest:
    send: Any
    def __new__(cls) -> Self: ...
    @property
    def message_id(self) -> int: ...
    @property
    def is_confirmed(self) -> bool: ...
    def close(self) -> None: ...

def request_context(
    receiver_id: object, event: int, addr: Address, message_id: int, in_reply_to: int = -1, time: int = 0
) -> RequestContext: ...
def is_reply_to(com: object, request: OutgoingRequest) -> bool | None: ...
