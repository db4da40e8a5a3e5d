cpdef bytes encode(obj)
cpdef bint is_raw(data)
cpdef decode(bytes data)
cpdef int peek(bytes frame) noexcept
cpdef int compare(bytes sent, bytes received, Py_ssize_t min_truncated, Py_ssize_t max_size) noexcept
cpdef bytes tag(bytes frame, unsigned int number)
cpdef bytes tag_answer(bytes frame, unsigned int number, unsigned int answered)
cpdef long long read_answered(bytes frame) except -2
cpdef long long read_tag(bytes frame) except -2
cpdef bytes acknowledged(bytes frame)
cpdef bint is_echo(bytes sent, bytes received) except -1
cpdef bint is_ping(bytes frame) except -1
