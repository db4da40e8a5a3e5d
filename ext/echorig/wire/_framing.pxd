cdef class FrameSplitter:
    cdef Py_ssize_t limit
    cdef bytearray kept        # the beginning of a frame whose end has not come yet
    cdef Py_ssize_t depth      # brackets open at the end of what has been looked at
    cdef bint quoted           # inside a string
    cdef bint escaped          # behind a backslash inside a string
    cdef readonly bint overflow
    cdef readonly unsigned long long frames, received

    cpdef list feed(self, bytes chunk)
    cpdef void stop(self)
    cdef list _refuse(self, list frames)
