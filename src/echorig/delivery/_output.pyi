from typing import Any, final

from ._peer import Limits

@final
class Output:
    def __init__(self, limits: Limits, peers: dict[Any, Any], run: int, number: int, max_frame: int) -> None: ...
