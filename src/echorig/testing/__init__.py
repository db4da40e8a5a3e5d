"""Tools for the tests of a program: bad networks, and rigs without hardware.

:class:`FakeRig` is a rig whose reactions a test sets.

Links lose, duplicate, reorder, delay, corrupt and cut messages. Put one between a client and a server::

    async with LossyLink(rig.server_uri, loss=0.2, seed=1) as link:
        client = await EchoProtocol.client(link.uri)

:class:`LossyLink` carries datagrams, :class:`TcpFaultLink` streams.
"""

from .fake_rig import BlockingFakeRig, FakeRig
from .faults import Counters, PerDirection
from .received import Received
from .tcp_link import CuttingLink, TcpFaultLink
from .udp_link import LossyLink

__all__ = [
    'BlockingFakeRig',
    'Counters',
    'CuttingLink',
    'FakeRig',
    'LossyLink',
    'PerDirection',
    'Received',
    'TcpFaultLink',
]
