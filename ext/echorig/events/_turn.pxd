cdef class Turn:
    cdef list kept
    cdef Py_ssize_t limit
    cdef object call_soon

    cdef keep(self, int bit, message)
    cpdef list take_all(self, int mask)
    cpdef take(self, int mask)
