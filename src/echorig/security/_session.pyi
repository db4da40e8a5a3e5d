from typing import final

@final
class Session: ...

@final
class Outgoing: ...
