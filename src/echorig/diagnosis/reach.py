"""Whether anything answers at an address: over UDP and over TCP."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass, field
from enum import Enum

from ..uri import Address
from .channels import StreamChannel, UdpChannel
from .limits import Limits
from .prober import Prober, Reply

__all__ = ['Reached', 'State', 'is_refused', 'reach_tcp', 'reach_udp']

_REFUSED = {errno.ECONNREFUSED, errno.ECONNRESET, 10054, 10061}


class State(Enum):
    """What happens to what is sent to an address."""

    ANSWERS = 'answers'
    OTHER_ADDRESS = 'answers from another address'
    REFUSED = 'refused'
    UNREACHABLE = 'unreachable'
    SILENT = 'silent'


@dataclass(frozen=True)
class Reached:
    """What happened at an address, over UDP with the first ping."""

    addr: Address
    state: State
    reply: Reply = field(default_factory=Reply)
    error: OSError | None = None

    @property
    def reason(self) -> str:
        """str: The text of the error."""
        return (self.error.strerror or str(self.error)) if self.error is not None else 'it is unreachable'


def is_refused(error: OSError) -> bool:
    """Return whether the system of the rig said that nobody listens."""
    return error.errno in _REFUSED or isinstance(error, ConnectionRefusedError)


async def reach_udp(addr: Address, limits: Limits, key: bytes | str | None = None) -> Reached:
    """Ping an address from a connected socket, to which errors are reported, then from one that hears everybody."""
    try:
        reached = await _ping(addr, True, limits.wait(0.5), key)
        if reached.state is State.SILENT:
            reached = await _ping(addr, False, limits.wait(0.5), key)
    except OSError as ex:
        return Reached(addr, State.UNREACHABLE, error=ex)
    return reached


async def _ping(addr: Address, connected: bool, wait: float, key: bytes | str | None) -> Reached:
    channel = await UdpChannel.open(addr, connected=connected, all_errors=connected)
    try:
        reply = await Prober(channel, key).ping(wait / 2, tries=2)
    finally:
        channel.close()
    if reply.error is not None:
        return Reached(addr, State.REFUSED if is_refused(reply.error) else State.UNREACHABLE, reply, reply.error)
    if reply.kind is None:
        return Reached(addr, State.SILENT, reply)
    same = reply.sender is not None and _unscoped(reply.sender) == _unscoped(addr)
    return Reached(addr, State.ANSWERS if same else State.OTHER_ADDRESS, reply)


async def reach_tcp(addr: Address, limits: Limits) -> Reached:
    """Open a TCP connection to an address, and close it."""
    try:
        channel = await StreamChannel.open(addr, limits.wait())
    except asyncio.TimeoutError:
        return Reached(addr, State.SILENT)
    except OSError as ex:
        return Reached(addr, State.REFUSED if is_refused(ex) else State.UNREACHABLE, error=ex)
    channel.close()
    return Reached(addr, State.ANSWERS)


def _unscoped(addr: Address) -> Address:
    return addr[0].partition('%')[0], addr[1]
