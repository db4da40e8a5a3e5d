cdef class ReceivedMessage:
    cdef readonly object event, addr, request
    cdef readonly list data
    cdef readonly Py_ssize_t size

cdef ReceivedMessage received_message(event, list data, addr, request, Py_ssize_t size)
