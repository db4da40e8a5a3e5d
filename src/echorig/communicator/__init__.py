"""One end of a conversation."""

from ..delivery.statistics import Peers, PeerStatistics

__all__ = ['PeerStatistics', 'Peers']
