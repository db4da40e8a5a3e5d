"""Discovery: which rigs announce themselves on this network, by multicast DNS (RFC 6762 and 6763).

It needs python-zeroconf: ``pip install 'echorig[discovery]'``. A rig announces itself with ``announce=True``, see
:meth:`echorig.EchoProtocol.server`.
"""

from .found_rig import FoundRig
from .search import Browsing, RigChange, browse, discover

__all__ = ['Browsing', 'FoundRig', 'RigChange', 'browse', 'discover']
