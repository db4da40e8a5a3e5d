from typing import Final

OVERHEAD: Final[int]

def as_key(key: bytes | str) -> bytes: ...
