"""One end of a conversation."""

from ..delivery.statistics import Peers, PeerStatistics
from .base import Communicator
from .protocol import EchoProtocol
from .service import Service

__all__ = ['Communicator', 'EchoProtocol', 'PeerStatistics', 'Peers', 'Service']
