"""Blocking use: the communicators for programs without an event loop, such as task code, GUIs and notebooks.

::

    from echorig import sync

    with sync.Services.connect('remote_devices.yaml') as rigs:
        rigs.start('2024-01-01_1_mouse')

The names, timeouts and errors are those of :class:`echorig.EchoProtocol` and :class:`echorig.Services`. Each call waits
for its result, on any thread; ``submit`` has the same methods, which return a future instead. One background thread
serves the whole process. Callbacks run on it, so they must not block; a method that waits raises `RuntimeError` there.
"""

from .blocking import Stream
from .discover import discover
from .experiment import Experiment
from .protocol import EchoProtocol, SubmitEchoProtocol
from .rig import Rig
from .services import Presence, Services, SubmitServices

__all__ = [
    'EchoProtocol',
    'Experiment',
    'Presence',
    'Rig',
    'Services',
    'Stream',
    'SubmitEchoProtocol',
    'SubmitServices',
    'discover',
]
