# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""`ReceivedMessage`: a decoded message on its way to its listeners."""

cimport cython


@cython.final
@cython.freelist(16)
cdef class ReceivedMessage:
    """A message that was received.

    Parameters
    ----------
    event : ExpMessage
        Its event; 0 for a notice.
    data : list
        What came with the event.
    addr : tuple of (str, int)
        Who sent it.
    request : Origin or None
        Which message it is, if it has a tag; answers name it.
    size : int
        How many bytes it had on its way.
    """

    def __init__(self, event, list data, addr, request, Py_ssize_t size):
        self.event = event
        self.data = data
        self.addr = addr
        self.request = request
        self.size = size


cdef ReceivedMessage received_message(event, list data, addr, request, Py_ssize_t size):
    """Make a message without the costs of a call of its class."""
    cdef ReceivedMessage message = ReceivedMessage.__new__(ReceivedMessage)
    message.event = event
    message.data = data
    message.addr = addr
    message.request = request
    message.size = size
    return message
