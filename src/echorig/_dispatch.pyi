from typing import Any

from .callbacks import CallbackTable
from .uri import Address
from .waiting import Waiting

def deliver(
    com: Any,
    waiting: Waiting,
    callbacks: CallbackTable,
    data: bytes,
    addr: Address,
    number: int = -1,
    answers: int = -1,
) -> None: ...
