"""Bad networks to test a program on: links that lose, double, reorder, delay, damage and cut what they carry.

Put one between a client and a server::

    async with LossyLink(rig.server_uri, loss=0.2, seed=1) as link:
        client = await EchoProtocol.client(link.uri)

:class:`LossyLink` carries datagrams, :class:`CuttingLink` streams. Each fault is given once for both ways, or as a
pair ``(there, back)``: from client to server, and from server to client.
"""

from .cutting import CuttingLink
from .faults import Counters, Ways
from .lossy import LossyLink

__all__ = ['Counters', 'CuttingLink', 'LossyLink', 'Ways']
