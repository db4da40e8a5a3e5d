"""Confirmed messages between the computers of a neuroscience experiment.

Importing the package makes uvloop the event loop of the process (see :mod:`echorig.loop`).
"""

import typing as _typing

from . import app, base
from ._version import __version__
from .app import EchoProtocol, Services, main
from .base import (
    LISTEN_PORT,
    PROTOCOL_VERSION,
    Communicator,
    ExpMessage,
    ExpStatus,
    Service,
    external_ip,
    hostname2ip,
    is_success,
    is_valid_ip,
    validate_uri,
)
from .communicator.peer_clocks import PeerClock
from .delivery.statistics import PeerStatistics
from .errors import (
    ConnectionClosedError,
    EchoError,
    EchoMismatchError,
    EchoTimeoutError,
    MessageTooLongError,
    PeerUnreachableError,
    RemoteCallbackError,
    RigLostError,
    ServicesError,
    ServicesTimeoutError,
    TLSError,
)
from .events.notifier import ConnectionEvent
from .events.stream import Stream
from .lazy import lazy_attributes as _lazy_attributes
from .loop import install_policy as _install_policy
from .loop import loop_name, run
from .progress import Progress
from .rig import Rig
from .security.rejections import Rejected
from .services.experiment import Experiment
from .services.presence import Presence, PresenceChange, RigPresence
from .services.start_together import CallbackTime, StartAnswers
from .tuning import Tuning

if _typing.TYPE_CHECKING:
    from .discovery import FoundRig, discover

__all__ = [
    'LISTEN_PORT',
    'PROTOCOL_VERSION',
    'CallbackTime',
    'Communicator',
    'ConnectionClosedError',
    'ConnectionEvent',
    'EchoError',
    'EchoMismatchError',
    'EchoProtocol',
    'EchoTimeoutError',
    'ExpMessage',
    'ExpStatus',
    'Experiment',
    'FoundRig',
    'MessageTooLongError',
    'PeerClock',
    'PeerStatistics',
    'PeerUnreachableError',
    'Presence',
    'PresenceChange',
    'Progress',
    'Rejected',
    'RemoteCallbackError',
    'Rig',
    'RigLostError',
    'RigPresence',
    'Service',
    'Services',
    'ServicesError',
    'ServicesTimeoutError',
    'StartAnswers',
    'Stream',
    'TLSError',
    'Tuning',
    '__version__',
    'app',
    'base',
    'discover',
    'external_ip',
    'hostname2ip',
    'is_success',
    'is_valid_ip',
    'loop_name',
    'main',
    'run',
    'validate_uri',
]

_install_policy()

__getattr__ = _lazy_attributes(__name__, {'FoundRig': 'discovery', 'discover': 'discovery'})


def __dir__() -> list[str]:
    return sorted(__all__)
