"""Blocking use: the communicators for programs without an event loop, such as task code, GUIs and notebooks.

::

    from echorig import sync

    with sync.Services.connect('remote_devices.yaml') as rigs:
        rigs.start('2024-01-01_1_mouse')

1. The names are those of :class:`echorig.EchoProtocol` and :class:`echorig.Services`, and so are the timeouts and
   the errors. Each call waits for its end, on any thread; ``submit`` has the same methods for those who do not want
   to wait.
2. One background thread serves the whole process. Callbacks run on it, so they must not block; a method that waits
   raises `RuntimeError` there.
3. Ctrl-C cancels the call that it interrupts, and nothing else. Closing ends the calls of other threads with
   `ConnectionClosedError`.
4. When the main thread has ended, calls in other threads go on to their end; those without any limit
   (`on_event` without a timeout) end with `SystemExit`, which ends their thread without a traceback.
5. A fork of the process can open communicators of its own. Those that it has inherited raise `ConnectionClosedError`.
"""

from .protocol import EchoProtocol, SubmitEchoProtocol
from .services import Presence, Services, SubmitServices
from .stream import Stream

__all__ = ['EchoProtocol', 'Presence', 'Services', 'Stream', 'SubmitEchoProtocol', 'SubmitServices']
