from typing import final

from ._output import Output

@final
class Doubts:
    def __init__(self, output: Output, stream: bool) -> None: ...
