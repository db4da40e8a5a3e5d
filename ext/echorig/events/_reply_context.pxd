cdef class Question:
    cdef public object send  # of the core; None until the message is begun

cdef class Origin:
    cdef readonly object receiver, event, addr, number, answers

cdef Origin origin_of(receiver, event, addr, number, answers)
