from typing import Any

from ..uri import Address
from .callbacks import CallbackTable
from .event_queue import Waiting

def deliver(
    com: Any,
    waiting: Waiting,
    callbacks: CallbackTable,
    data: bytes,
    addr: Address,
    number: int = -1,
    answers: int = -1,
) -> None: ...
