from typing import final

from .tuning import Tuning

@final
class Limits:
    def __init__(self, tuning: Tuning, max_size: int) -> None: ...

@final
class Peer: ...
