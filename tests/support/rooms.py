"""Rigs that announce themselves on the loopback interface, in a room of each test.

Several runs of the tests may share one computer and so its loopback interface. So each test has a group and names of
its own, and asserts nothing about other rigs.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from echorig import EchoProtocol, FoundRig
from echorig.discovery import browse
from eventually import eventually
from lab import Lab

LOOPBACK = ['127.0.0.1']
LONG = 60.0  # seconds; a registration takes up to 5 on a busy computer


def new_room() -> str:
    """Return the name of a group that no other test uses."""
    return f'room-{uuid4().hex[:12]}'


async def announced(lab: Lab, room: str, *names: str, transport: str = 'udp', **kwargs: Any) -> list[EchoProtocol]:
    """Open servers that announce themselves; return when all are found."""
    options = {'group': room}
    coms = [await lab.server(transport, name, announce=options, **kwargs) for name in names]
    await seen(room, *names)
    return coms


async def seen(room: str, *names: str) -> list[FoundRig]:
    """Wait until rigs of a room are announced, and return them."""
    async with browse(room, LOOPBACK) as changes:
        await eventually(lambda: {*names} <= {rig.name for rig in changes.rigs}, f'{names} are announced', LONG)
        return changes.rigs
