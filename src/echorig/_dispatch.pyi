from typing import Any

from .uri import Address

def deliver(com: Any, data: bytes, addr: Address) -> None: ...
