"""The types of arguments, results and callbacks, which only type checkers read.

1. Names are literals, so that a checker reports a name that does not exist.
2. The keyword arguments of `client`, `server` and `connect` are typed dicts: a checker reports an unknown one.
3. The names exist at run time too, because the blocking classes evaluate annotations (`typing.get_type_hints`).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from ipaddress import IPv4Network, IPv6Network
from os import PathLike
from socket import socket
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, TypeVar

from .messages import ExpMessage, ExpStatus
from .tuning import Tuning
from .uri import Address, IPAddress

if TYPE_CHECKING:
    from typing_extensions import Unpack
elif sys.version_info >= (3, 11):
    from typing import Unpack
else:

    class Unpack:
        """Stands for `typing.Unpack`, which Python 3.10 does not have; type checkers use that one."""

        def __class_getitem__(cls, options: object) -> object:
            return Any


__all__ = [
    'AddressLike',
    'AllowEntry',
    'AlyxClient',
    'Announce',
    'AnnounceOptions',
    'AnyCallback',
    'AnyEvent',
    'AnyRigCallback',
    'Callback',
    'ClientOptions',
    'CombinationCallback',
    'CombinationRigCallback',
    'Data',
    'EventName',
    'ExpRef',
    'FixedDict',
    'JournalLike',
    'Listener',
    'MessageFuture',
    'RigCallback',
    'RigOptions',
    'SendOrder',
    'ServerOptions',
    'SingleEvent',
    'Status',
    'Unpack',
    'UriLike',
]

_V = TypeVar('_V')
_R_contra = TypeVar('_R_contra', contravariant=True)

# --- events and statuses ---

EventName = (
    Literal['EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP', 'EXPINTERRUPT', 'EXPSTATUS', 'EXPINFO', 'ALYX']
    | Literal['expinit', 'expstart', 'expend', 'expcleanup', 'expinterrupt', 'expstatus', 'expinfo', 'alyx']
)
"""The name of an event. Other spellings (``' ExpStart'``) are accepted at run time only."""
# Without ALYX: mypy takes a literal of all members for every ExpMessage, combinations too.
_SingleMember = Literal[
    ExpMessage.EXPINIT,
    ExpMessage.EXPSTART,
    ExpMessage.EXPEND,
    ExpMessage.EXPCLEANUP,
    ExpMessage.EXPINTERRUPT,
    ExpMessage.EXPSTATUS,
    ExpMessage.EXPINFO,
]
SingleEvent = EventName | _SingleMember
"""An event that a checker knows to be no combination."""
AnyEvent = EventName | int | ExpMessage
"""An event or a combination of events."""
Status = (
    ExpStatus
    | int
    | Literal['CONNECTED', 'INITIALIZED', 'RUNNING', 'STOPPED', 'connected', 'initialized', 'running', 'stopped']
)
"""A status, its number or its name."""

# --- addresses and arguments of messages ---

UriLike = str | IPAddress
"""A URI, a host with or without a port, or an IP address."""
AddressLike = tuple[str | IPAddress, int] | tuple[str, int, int, int]
"""The host and port of a peer, or the address that an IPv6 socket gives."""
ExpRef = str | Mapping[str, str | int | date]
"""An experiment reference, ``yyyy-mm-dd_n_subject``, or its parts ``date``, ``sequence`` and ``subject``."""
Data = list[Any]
"""The arguments of a received message, in the order of the wire. JSON can carry any value in them."""


class AlyxClient(Protocol):
    """What is used of a `one.webclient.AlyxClient`."""

    @property
    def base_url(self) -> str:
        """The address of the Alyx database."""
        ...

    @property
    def user(self) -> str | None:
        """The name of the user; None before the login."""
        ...

    @property
    def is_logged_in(self) -> bool:
        """Whether there is a token."""
        ...

    @property
    def _token(self) -> object: ...


# --- callbacks ---


class Callback(Protocol):
    """A function for the messages of one event; its result is ignored, except that a coroutine runs as a task."""

    def __call__(self, data: Data, addr: Address, /) -> object: ...


class CombinationCallback(Protocol):
    """A function for the messages of a combination of events."""

    def __call__(self, data: Data, addr: Address, event: ExpMessage, /) -> object: ...


class RigCallback(Protocol[_R_contra]):
    """A function for the messages of one event of several rigs."""

    def __call__(self, data: Data, addr: Address, rig: _R_contra, /) -> object: ...


class CombinationRigCallback(Protocol[_R_contra]):
    """A function for the messages of a combination of events of several rigs."""

    def __call__(self, data: Data, addr: Address, event: ExpMessage, rig: _R_contra, /) -> object: ...


MessageFuture = asyncio.Future[tuple[Data, Address]] | asyncio.Future[tuple[Data, Address, ExpMessage]]
"""A future that a message resolves: that of one event, or that of a combination."""
AnyCallback = Callback | CombinationCallback
"""A function for an event of which a checker does not know whether it is a combination."""
AnyRigCallback = RigCallback[_R_contra] | CombinationRigCallback[_R_contra]
"""The same for several rigs."""
Listener = Callable[..., object] | asyncio.Future[Any]
"""A callback or a future of any kind, as it is kept and removed."""

# --- keyword arguments ---

AllowEntry = str | IPAddress | IPv4Network | IPv6Network
"""An IP address, a network or a host name."""


class JournalLike(Protocol):
    """What is used of an `echorig.journal.Journal`."""

    path: str

    @property
    def lost(self) -> int:
        """Records that are not in the file."""
        ...


class AnnounceOptions(TypedDict, total=False):
    """What a server announces of itself, and by which interfaces."""

    name: str | None
    group: str | None
    interfaces: Iterable[str] | None


Announce = bool | AnnounceOptions
"""Whether a server announces itself on the network, or what it announces."""


class BrokerLogin(TypedDict, total=False):
    """How to reach a NATS broker, and to log in there."""

    servers: Iterable[str] | None
    user: str | None
    password: str | None
    token: str | None
    user_credentials: str | PathLike[str] | None
    nkeys_seed: str | PathLike[str] | None
    inbox_prefix: str | None
    tls_hostname: str | None


class _Options(BrokerLogin, total=False):
    allow: AllowEntry | Iterable[AllowEntry] | None
    tuning: Tuning | None
    busy_poll: float | None
    journal: JournalLike | str | PathLike[str] | None
    ssl: SSLContext | None
    ssl_handshake_timeout: float | None
    ssl_shutdown_timeout: float | None
    # Options of the event loop.
    sock: socket | None
    local_addr: tuple[str, int] | None
    family: int | None
    proto: int | None
    flags: int | None
    reuse_port: bool | None
    allow_broadcast: bool | None


class ServerOptions(_Options, total=False):
    """The keyword arguments of `EchoProtocol.server`."""

    key: bytes | str | None
    announce: Announce | None
    # Options of the event loop.
    reuse_address: bool | None
    backlog: int | None
    start_serving: bool | None
    keep_alive: bool | None


class _ClientOptions(_Options, total=False):
    reconnect: bool | None
    server_hostname: str | None
    # Options of the event loop.
    remote_addr: tuple[str, int] | None
    happy_eyeballs_delay: float | None
    interleave: int | None
    all_errors: bool | None


class ClientOptions(_ClientOptions, total=False):
    """The keyword arguments of `EchoProtocol.client`."""

    key: bytes | str | None


class RigOptions(_ClientOptions, total=False):
    """The keyword arguments of `Services.connect`."""

    key: bytes | str | Mapping[str, bytes | str] | None
    log: logging.Logger | None


class SendOrder(TypedDict, total=False):
    """In which order a message is sent to several rigs."""

    concurrent: bool
    reverse: bool


# --- sets of rigs ---

if TYPE_CHECKING:

    class FixedDict(Mapping[str, _V]):
        """A `UserDict` that cannot be changed: `data` is read-only."""

        data: Mapping[str, _V]

        def __getitem__(self, key: str) -> _V: ...
        def __iter__(self) -> Iterator[str]: ...
        def __len__(self) -> int: ...
else:
    FixedDict = UserDict
