# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""`BusyPoll`: keeps an event loop from sleeping for a while.

Waking a sleeping process takes several times as long as a round trip. A loop does not sleep while it has a callback to
run in its next iteration, so one is always scheduled.
"""

from cpython.time cimport monotonic

from echorig.delivery._exchange cimport Exchange


cdef class BusyPoll:
    """Keeps a loop awake for some seconds after each call of `extend`; a client only until all sends have ended."""

    cdef object loop
    cdef Exchange exchange      # that of a client, else None
    cdef double until
    cdef public double seconds
    cdef readonly bint is_running

    def __init__(self, loop, Exchange exchange=None):
        self.loop = loop
        self.exchange = exchange

    def extend(self) -> None:
        """Keep the loop awake for `seconds` from now."""
        self.until = monotonic() + self.seconds
        if not self.is_running:
            self.is_running = True
            self.loop.call_soon(self._poll)

    def stop(self) -> None:
        """Let the loop sleep again."""
        self.until = 0.0

    def _poll(self):
        if monotonic() >= self.until or (self.exchange is not None and not self.exchange.transmitter.n_waiting):
            self.is_running = False
        else:
            self.loop.call_soon(self._poll)
