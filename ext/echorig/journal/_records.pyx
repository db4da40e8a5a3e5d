# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""What a communicator gives to its journal: a `Record` for each message, put into the `RecordQueue` of the journal.

This is all that the thread of the event loop does. The records are decoded and written by the thread of the journal.
"""

cimport cython

from cpython.bytes cimport PyBytes_GET_SIZE

from collections import deque
from threading import Lock
from time import monotonic_ns, time_ns

cdef object _wall = time_ns
cdef object _mono = monotonic_ns
cdef Py_ssize_t LONG = 10_000  # bytes; only the bytes of longer frames are counted
cdef long long MOST_LONG_BYTES = 64 * 1024 * 1024


@cython.final
@cython.no_gc  # it refers to nothing that refers to it, except for the queue, which is emptied
@cython.freelist(256)
cdef class Record:
    """One line of a journal, before it is decoded."""


@cython.final
cdef class RecordQueue:
    """The records that wait to be written, at most `limit` of them, and 64 MiB of long frames; others are counted."""

    def __init__(self, Py_ssize_t limit):
        self.records = deque()
        self.limit = limit
        self.reset()

    def reset(self) -> None:
        """Forget all records, after a fork."""
        self.records.clear()
        self.append = self.records.append
        self.lock = Lock()
        self.long_bytes = 0
        self.lost = 0

    cdef put(self, Record record, Py_ssize_t size):
        if len(self.records) >= self.limit:
            self._lose()
            return
        if size > LONG:
            with self.lock:
                if self.long_bytes + size > MOST_LONG_BYTES:
                    self.lost += 1
                    return
                self.long_bytes += size
        self.append(record)
        if self.urgent:
            self.wake()

    cdef _lose(self):
        with self.lock:
            self.lost += 1

    def taken(self, Py_ssize_t size) -> None:
        """Note that a frame of this size does not wait any more."""
        if size > LONG:
            with self.lock:
                self.long_bytes -= size


@cython.final
cdef class Recorder:
    """Makes the records of one communicator, with its name and role."""

    def __init__(self, RecordQueue queue not None, str name not None, str role not None):
        self.queue = queue
        self.name = name
        self.role = role

    cpdef message(self, str kind, frame, Py_ssize_t size, addr, double rtt=-1.0, int tries=0):
        """Record a message; `size` is that of its frame in bytes."""
        cdef Record record = Record.__new__(Record)
        record.kind = kind
        record.source = self
        record.frame = frame
        record.addr = addr
        record.rtt = rtt
        record.tries = tries
        record.time = _wall()
        record.mono = _mono()
        self.queue.put(record, size)

    def note(self, str kind not None, bytes frame=None, addr=None, int tries=0, **details) -> None:
        """Record anything else, with fields of its own."""
        cdef Record record = Record.__new__(Record)
        record.kind = kind
        record.source = self
        record.frame = frame
        record.addr = addr
        record.details = details
        record.rtt = -1.0
        record.tries = tries
        record.time = _wall()
        record.mono = _mono()
        self.queue.put(record, 0 if frame is None else PyBytes_GET_SIZE(frame))
