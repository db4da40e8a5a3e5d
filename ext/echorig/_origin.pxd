cdef class Origin:
    cdef readonly object receiver, event, addr, number, asked
