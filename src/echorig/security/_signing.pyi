from collections.abc import Callable, Hashable
from typing import Any, Final, final

from typing_extensions import disjoint_base

GENUINE: Final[int]
HANDSHAKE: Final[int]
UNSIGNED: Final[int]
REPLAYED: Final[int]

@disjoint_base
class Entry: ...

@final
class Session(Entry): ...

@final
class Outgoing(Entry): ...

@disjoint_base
class Signer:
    def __init__(
        self,
        key: bytes | str,
        stream: bool = False,
        max_peers: int = 4096,
        retry: float = 0.02,
        max_held: int = ...,
        hold_time: float = 1.0,
        idle: float = 60.0,
        lifetime: int = ...,
        random: Callable[[int], bytes] = ...,
    ) -> None: ...
    @property
    def outbox(self) -> list[tuple[bytes, Any]]: ...
    @property
    def verdict(self) -> int: ...
    @property
    def n_held(self) -> int: ...
    @property
    def sizes(self) -> dict[str, int]: ...
    def seal(self, frame: bytes, addr: Hashable, now: float) -> bytes | None: ...
    def open(self, frame: bytes, addr: Hashable, now: float) -> bytes | None: ...
    def drop(self, frame: bytes, addr: Hashable) -> None: ...
    def abandon(self, addr: Any) -> None: ...
    def forget(self, addr: Hashable) -> None: ...
    def send_failed(self, frame: bytes, addr: Hashable) -> None: ...
