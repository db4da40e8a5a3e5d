cdef class Dispatcher:
    cdef readonly object waiting, callbacks, log, receiver
    cpdef deliver(self, bytes data, addr, long long number=?, long long answers=?)
    cdef _call(self, list listeners, event, message, addr)
