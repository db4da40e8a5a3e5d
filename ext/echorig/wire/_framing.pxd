cdef class FrameSplitter:
    cdef Py_ssize_t limit
    cdef bytearray buffer        # the start of an incomplete frame
    cdef Py_ssize_t depth      # brackets open at the end of the last chunk
    cdef bint in_string
    cdef bint escaped          # after a backslash in a string
    cdef readonly bint overflow
    cdef readonly unsigned long long frames, received

    cpdef list feed(self, bytes chunk)
    cpdef void stop(self)
    cdef list _overflow(self, list frames)
