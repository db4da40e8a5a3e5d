cdef class Origin:
    cdef readonly object receiver, event, addr, number, asked
    cdef public bint spent
