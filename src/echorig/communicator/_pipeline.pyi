import asyncio
import logging
from collections.abc import Callable
from typing import Any, final

from typing_extensions import disjoint_base

from ..delivery._exchange import Exchange
from ..delivery._peer import Send
from ..events._dispatch import Dispatcher
from ..events._reply_context import OutgoingRequest
from ..journal._records import Recorder
from ..security._signing import Signer
from ..security.log_limit import RateLimitedLog
from ..security.safe_log import SafeLog
from ..transports.connection import Connection
from ..uri import Address
from ..wire._framing import FrameSplitter
from .interfaces import FrameReceiver, SendObserver
from .labels import Labels
from .scheduled import ScheduledMessages

@final
class PreparedSend:
    @property
    def send(self) -> Send: ...

def send_prepared(prepared: list[PreparedSend]) -> None: ...

@disjoint_base
class MessagePipeline:
    transport: asyncio.BaseTransport | None
    journal: Recorder | None
    observer: SendObserver
    on_refused: Callable[[bytes, Address], None]
    on_unsigned: Callable[[Address, int], None]
    on_write: Callable[[int], None]
    on_activity: Callable[[], None] | None
    on_alarm: Callable[[], None] | None
    route: Callable[[bytes, Address], None] | None
    source_of: Callable[[Any, bytes], Address | None]
    max_message_size: Callable[[], int]
    scheduled: ScheduledMessages | None
    closed: bool
    lost_transport: bool
    disconnect_error: BaseException | None
    reconnects: bool
    n_paused: int
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def signer(self) -> Signer | None: ...
    @property
    def exchange(self) -> Exchange: ...
    @property
    def log(self) -> SafeLog: ...
    @property
    def connections(self) -> dict[Address, Connection]: ...
    @property
    def current_send(self) -> Send | None: ...
    @property
    def current_frame(self) -> bytes | None: ...
    @property
    def current_addr(self) -> Address | None: ...
    @property
    def exposed_futures(self) -> dict[Send, asyncio.Future[bool]]: ...
    @property
    def legacy_sends(self) -> dict[Address, tuple[Any, asyncio.Future[Any]]]: ...
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        exchange: Exchange,
        dispatcher: Dispatcher,
        receiver: FrameReceiver,
        labels: Labels,
        logger: logging.Logger,
        log: SafeLog,
        log_limit: RateLimitedLog,
        *,
        plain_receive: Callable[..., None],
        connected: bool,
        longest: int,
        datagrams: bool,
        signer: Signer | None = None,
    ) -> None: ...
    def count_received(self) -> int: ...
    def start_send(self, data: Any, frame: bytes, addr: Address, timeout: float) -> Send: ...
    def prepare_send(
        self, data: Any, frame: bytes, addr: Address, timeout: float, request: OutgoingRequest | None
    ) -> PreparedSend: ...
    def check_can_send(self, addr: Address) -> None: ...
    def check_open(self) -> None: ...
    def set_longest(self, n_bytes: int) -> None: ...
    def checked_frame(self, data: Any, frame: bytes) -> bytes: ...
    def reply_number(self, data: Any, addr: Address) -> int: ...
    def send_unconfirmed(self, frame: bytes, addr: Address, taggable: bool, answered: int = -1) -> None: ...
    def datagram_received(self, data: bytes, addr: Any) -> None: ...
    def receive_from(self, transport: asyncio.BaseTransport, data: bytes, addr: Address) -> bool: ...
    def stream_received(self, splitter: FrameSplitter, data: bytes, addr: Address) -> bool: ...
    def receive_verified(self, frame: bytes, addr: Address) -> None: ...
    def handle_frame(self, frame: bytes, addr: Address) -> None: ...
    def flush(self) -> None: ...
    def watch_stalls(self, wanted: bool = True) -> None: ...
    def write_all(self) -> None: ...
    def close(self) -> None: ...
