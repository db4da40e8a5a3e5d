cdef class Origin:
    cdef readonly object com, event, addr, number, asked
