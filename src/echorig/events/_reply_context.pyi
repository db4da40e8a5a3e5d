from contextvars import ContextVar
from typing import Any, final

from typing_extensions import Self

from ..uri import Address

current: ContextVar[Origin | None]
asking: ContextVar[Question | None]

@final
class Origin:
    def __new__(cls, receiver: object, event: int, addr: Address, number: int, answers: int = -1) -> Self: ...
    @property
    def receiver(self) -> object: ...
    @property
    def event(self) -> int: ...
    @property
    def addr(self) -> Address: ...
    @property
    def number(self) -> int: ...
    @property
    def answers(self) -> int: ...

@final
class Question:
    send: Any
    def __new__(cls) -> Self: ...
    @property
    def number(self) -> int: ...
    @property
    def confirmed(self) -> bool: ...

def names(com: Any, question: Question) -> int: ...
