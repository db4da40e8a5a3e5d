from typing import Any, final

from ._peer import Limits

@final
class Transmitter:
    def __init__(
        self, limits: Limits, peers: dict[Any, Any], stream: bool, run: int, number: int, max_frame: int
    ) -> None: ...
