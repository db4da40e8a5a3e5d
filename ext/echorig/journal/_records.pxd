cdef class Record:
    cdef readonly str kind            # 'sent', 'confirmed' and so on
    cdef readonly Recorder source     # the communicator
    cdef readonly object frame        # bytes; or an object whose `frame` is the bytes by the time of writing; or None
    cdef readonly object addr         # (host, port) of the peer, or None
    cdef readonly object details      # a dict of further fields, or None
    cdef readonly long long time      # nanoseconds since 1970
    cdef readonly long long mono      # nanoseconds of the monotonic clock
    cdef readonly double rtt          # seconds; negative if there is none
    cdef readonly int tries           # how often a message was sent; 0 if that is unknown

cdef class RecordQueue:
    cdef readonly object records      # a deque of Record
    cdef public object wake           # called without arguments after a record, if `urgent`
    cdef public bint urgent
    cdef readonly unsigned long long lost  # records for which there was no room
    cdef object append, lock
    cdef Py_ssize_t limit
    cdef readonly long long long_bytes  # bytes of the long frames that wait

    cdef put(self, Record record, Py_ssize_t size)
    cdef _lose(self)

cdef class Recorder:
    cdef readonly str name            # that of the communicator
    cdef readonly str role            # 'client' or 'server'
    cdef public object clock_of       # returns the offset and the error of the clock of an address, or None
    cdef RecordQueue queue

    cpdef message(self, str kind, frame, Py_ssize_t size, addr, double rtt=?, int tries=?)
