cdef class ReceivedMessage:
    cdef readonly object event, addr, request
    cdef readonly list data
    cdef readonly int bit
    cdef readonly Py_ssize_t size

cpdef ReceivedMessage received_message(event, int bit, list data, addr, request, Py_ssize_t size)
