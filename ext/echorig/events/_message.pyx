# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""`ReceivedMessage`: a decoded message on its way to its listeners."""

cimport cython


@cython.final
@cython.freelist(16)
cdef class ReceivedMessage:
    """A message that was received; made by `received_message`.

    `event` is 0 for a notice, and `bit` is that of `event_queue.bits`. `data` is the content after the event code.
    `request` is None for messages without a tag. `size` is the number of bytes on the wire.
    """


cpdef ReceivedMessage received_message(event, int bit, list data, addr, request, Py_ssize_t size):
    """Return a new message; this is faster than calling the class."""
    cdef ReceivedMessage message = ReceivedMessage.__new__(ReceivedMessage)
    message.event = event
    message.bit = bit
    message.data = data
    message.addr = addr
    message.request = request
    message.size = size
    return message
