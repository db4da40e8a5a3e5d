from typing import final

from ._doubts import Doubts
from ._output import Output
from ._transmitter import Transmitter

@final
class PeerTable:
    def __init__(self, output: Output, transmitter: Transmitter, doubts: Doubts) -> None: ...
