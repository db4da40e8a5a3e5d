# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""Which received message a task handles, and which message of its own a call waits for the answer to.

`current_request` is set for callbacks and inherited by the tasks that they start. `on_event` and streams set it in the
task that reads, until that task reads the next message. Messages are identified by their run times 2**32 plus their
number.
"""

cimport cython

from contextvars import ContextVar


current_request = ContextVar('echorig.current_request', default=None)
outgoing_request = ContextVar('echorig.outgoing_request', default=None)


@cython.final
@cython.freelist(8)
cdef class RequestContext:
    """The ids of a received message with a tag; made by `request_context`.

    `receiver_id` is an opaque id of the communicator; a reference would keep it alive as long as the context. `event` is
    the event code. `in_reply_to` is the id of our message that it answers: -1 if it names none, 0 if it names one of
    another program. `time` is when its callbacks ran, in a message for a certain time and in its answer: in nanoseconds since
    1970 on the clock of the rig, else 0.
    """


cpdef RequestContext request_context(receiver_id, event, addr, message_id, in_reply_to=-1, time=0):
    """Return a new context; this is faster than calling the class."""
    cdef RequestContext context = RequestContext.__new__(RequestContext)
    context.receiver_id = receiver_id
    context.event = event
    context.addr = addr
    context.message_id = message_id
    context.in_reply_to = in_reply_to
    context.time = time
    return context


@cython.final
cdef class OutgoingRequest:
    """The first confirmed message that is sent while `outgoing_request` is set to this; a call waits for its answer."""

    @property
    def message_id(self) -> int:
        """int: Its id; -1 before it is sent, and without a tag."""
        return -1 if self.send is None else self.send.identity

    @property
    def is_confirmed(self) -> bool:
        """bool: Whether its echo was received."""
        return self.send is not None and self.send.is_confirmed

    def close(self) -> None:
        """Stop waiting for its answer."""
        if self.send is not None:
            self.send.forget_answer()


def is_reply_to(com, OutgoingRequest request not None) -> bool | None:
    """Return whether the current message, received by `com`, answers a request; None if it does not name one."""
    cdef RequestContext context = current_request.get()
    if context is None or context.receiver_id is not getattr(com, 'receiver_id', None) or context.in_reply_to == -1:
        return None
    return context.in_reply_to == request.message_id
