# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""`TurnBuffer`: messages that nobody waits for, kept until the next iteration of the event loop.

A loop may deliver a message before a task that was made earlier calls `on_event`: uvloop reads its sockets before it
runs new tasks.
"""

cimport cython

from asyncio import get_running_loop

from echorig.events._message cimport ReceivedMessage


@cython.final
cdef class TurnBuffer:
    """The first `limit` messages of one loop iteration."""

    def __init__(self, Py_ssize_t limit):
        self.messages = []
        self.limit = limit

    cdef keep(self, ReceivedMessage message):
        """Keep a message until the tasks that exist now have run."""
        if not self.messages:
            if self.call_soon is None:  # a communicator belongs to one loop
                self.call_soon = get_running_loop().call_soon
                self.clear_messages = self.messages.clear
            self.call_soon(self.clear_messages)
        if len(self.messages) < self.limit:
            self.messages.append(message)

    cpdef pop(self, int mask):
        """Remove and return the first message of some events, or None."""
        cdef ReceivedMessage message
        for message in self.messages:
            if message.bit & mask:
                self.messages.remove(message)
                return message
        return None

    cpdef list pop_all(self, int mask):
        """Remove and return all messages of some events."""
        cdef ReceivedMessage message
        popped = [message for message in self.messages if message.bit & mask]
        for message in popped:
            self.messages.remove(message)
        return popped

    def clear(self) -> None:
        """Drop all messages."""
        self.messages.clear()
