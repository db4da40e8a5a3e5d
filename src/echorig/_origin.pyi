from contextvars import ContextVar
from typing import Any, final

from typing_extensions import Self

from .uri import Address

current: ContextVar[Origin | None]

@final
class Origin:
    spent: bool
    def __new__(cls, receiver: object, event: int, addr: Address, number: int, asked: float | None) -> Self: ...
    @property
    def receiver(self) -> object: ...
    @property
    def event(self) -> int: ...
    @property
    def addr(self) -> Address: ...
    @property
    def number(self) -> int: ...
    @property
    def asked(self) -> float | None: ...

def is_late(com: Any, since: float) -> bool: ...
