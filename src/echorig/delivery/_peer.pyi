from typing import final

from ..tuning import InternalTuning

@final
class Limits:
    def __init__(self, tuning: InternalTuning, max_size: int, signed: bool) -> None: ...

@final
class Peer: ...

@final
class Run: ...
