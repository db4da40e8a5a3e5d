"""What to test a program against: bad networks, and rigs without hardware.

:class:`FakeRig` is a rig that does with each message what a test says.

Links lose, double, reorder, delay, damage and cut what they carry. Put one between a client and a server::

    async with LossyLink(rig.server_uri, loss=0.2, seed=1) as link:
        client = await EchoProtocol.client(link.uri)

:class:`LossyLink` carries datagrams, :class:`CuttingLink` streams. Each fault is given once for both ways, or as a
pair ``(there, back)``: from client to server, and from server to client.
"""

from .blocking_rig import BlockingFakeRig
from .fake_rig import FakeRig
from .faults import Counters, Ways
from .script import Received
from .tcp_link import CuttingLink
from .udp_link import LossyLink

__all__ = ['BlockingFakeRig', 'Counters', 'CuttingLink', 'FakeRig', 'LossyLink', 'Received', 'Ways']
