cpdef bytes encode(obj)
cpdef bint is_raw(data)
cpdef decode(bytes data)
cpdef int peek(bytes frame) noexcept
cpdef int compare(bytes sent, bytes received, Py_ssize_t min_truncated, Py_ssize_t max_size) noexcept
