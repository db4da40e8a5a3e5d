# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""The message that a task or callback is dealing with, so that what it sends back is known as the answer.

A callback is told by a context variable, and so are the tasks that it starts; `on_event` and streams tell the task that
reads, until it reads the next message.
"""

cimport cython

from contextvars import ContextVar

current = ContextVar('echorig.origin', default=None)


@cython.final
@cython.freelist(8)
cdef class Origin:
    """Where a message with a tag came from.

    Parameters
    ----------
    receiver : object
        Who received it: not the communicator but an object that stands for it, since what holds a context, such as a
        server that a callback has opened, would keep a communicator that was closed long ago.
    event : int
        Its event code.
    addr : tuple of (str, int)
        Who sent it.
    number : int
        Its number.
    asked : float or None
        If it is an answer, when the message that it answers was sent, on the clock of `time.monotonic`, in seconds; not a
        number if that is no longer known. None if it is no answer.

    Attributes
    ----------
    spent : bool
        Whether it has been answered: there is one answer to a message, and a task may go on sending for ever.
    """

    def __cinit__(self, receiver, event, addr, number, asked):
        self.receiver = receiver
        self.event = event
        self.addr = addr
        self.number = number
        self.asked = asked


def is_late(com, double since) -> bool:
    """Tell whether the current message is the answer to something that was sent before a time.

    Parameters
    ----------
    com : Communicator
        Who has received it.
    since : float
        The time, on the clock of `time.monotonic`, in seconds.

    Returns
    -------
    bool
        False also where nothing is known, as of peers without tags.
    """
    cdef Origin origin = current.get()
    return (
        origin is not None and origin.receiver is getattr(com, '_identity', None)
        and origin.asked is not None and <double>origin.asked < since
    )
