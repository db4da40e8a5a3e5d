from typing import final

from ..tuning import Tuning

@final
class Limits:
    def __init__(self, tuning: Tuning, max_size: int, signed: bool) -> None: ...

@final
class Peer: ...

@final
class Run: ...
