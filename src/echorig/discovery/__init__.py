"""Discovery: which rigs announce themselves on this network, by multicast DNS (RFC 6762 and 6763).

It needs python-zeroconf: ``pip install 'echorig[discovery]'``. A rig announces itself with ``announce=True``, see
:meth:`echorig.EchoProtocol.server`. Each part is imported when it is used, since most programs discover nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_attributes

if TYPE_CHECKING:
    from .found_rig import FoundRig
    from .search import Browsing, RigChange, browse, discover

__all__ = ['Browsing', 'FoundRig', 'RigChange', 'browse', 'discover']

__getattr__ = lazy_attributes(
    __name__,
    {'FoundRig': 'found_rig', 'Browsing': 'search', 'RigChange': 'search', 'browse': 'search', 'discover': 'search'},
)


def __dir__() -> list[str]:
    return sorted(__all__)
