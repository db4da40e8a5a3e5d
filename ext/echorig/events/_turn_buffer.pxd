from echorig.events._message cimport ReceivedMessage

cdef class TurnBuffer:
    cdef list messages
    cdef Py_ssize_t limit
    cdef object call_soon
    cdef object clear_messages

    cdef keep(self, ReceivedMessage message)
    cpdef pop(self, int mask)
    cpdef list pop_all(self, int mask)
