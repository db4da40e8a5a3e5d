from typing_extensions import disjoint_base

from ..uri import Address
from .callbacks import CallbackTable
from .event_queue import EventQueue
from .message_log import MessageLog

@disjoint_base
class Dispatcher:
    queue: EventQueue
    callbacks: CallbackTable
    log: MessageLog
    receiver_id: object
    def __init__(self, queue: EventQueue, callbacks: CallbackTable, log: MessageLog, receiver_id: object) -> None: ...
    def deliver(
        self, data: bytes, addr: Address, message_id: int = -1, in_reply_to: int = -1, time: int = 0
    ) -> None: ...
