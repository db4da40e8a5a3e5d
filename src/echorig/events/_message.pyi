from typing import Any, final

from ..messages import ExpMessage
from ..uri import Address
from ._reply_context import RequestContext

@final
class ReceivedMessage:
    event: ExpMessage
    bit: int
    data: list[Any]
    addr: Address
    request: RequestContext | None
    size: int

def received_message(
    event: ExpMessage, bit: int, data: list[Any], addr: Address, request: RequestContext | None, size: int
) -> ReceivedMessage: ...
