# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""Messages for which nobody has asked, kept for the rest of the event loop's turn.

A loop may deliver a message before a task that was made earlier has begun to wait for it: uvloop looks at its sockets
before new tasks run.
"""

cimport cython

from asyncio import get_running_loop


@cython.final
cdef class Turn:
    """The messages of one turn.

    Parameters
    ----------
    limit : int
        How many are kept.
    """

    def __init__(self, Py_ssize_t limit):
        self.kept = []
        self.limit = limit

    cdef keep(self, int bit, message):
        """Keep a message until the tasks that exist now have had their turn."""
        if not self.kept:
            if self.call_soon is None:  # a communicator belongs to one loop
                self.call_soon = get_running_loop().call_soon
            self.call_soon(self.kept.clear)
        if len(self.kept) < self.limit:
            self.kept.append((bit, message))

    cpdef take(self, int mask):
        """Take the first message of some events out.

        Parameters
        ----------
        mask : int
            The bits of the events.

        Returns
        -------
        tuple or None
            The message.
        """
        cdef Py_ssize_t i
        for i in range(len(self.kept)):
            bit, message = self.kept[i]
            if bit & mask:
                del self.kept[i]
                return message
        return None

    cpdef list take_all(self, int mask):
        """Take all messages of some events out.

        Parameters
        ----------
        mask : int
            The bits of the events.

        Returns
        -------
        list of (int, tuple)
            The bit of the event and the message, of each.
        """
        taken = [entry for entry in self.kept if entry[0] & mask]
        for entry in taken:
            self.kept.remove(entry)
        return taken

    def clear(self) -> None:
        """Forget them."""
        self.kept.clear()
