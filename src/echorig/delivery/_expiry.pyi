from typing import final

from ._transmitter import Transmitter

@final
class Unverified: ...

@final
class ExpiryChecks:
    def __init__(self, transmitter: Transmitter) -> None: ...
