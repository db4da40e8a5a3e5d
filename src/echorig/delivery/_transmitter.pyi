from typing import final

from ._output import Output

@final
class Transmitter:
    def __init__(self, output: Output, stream: bool) -> None: ...
