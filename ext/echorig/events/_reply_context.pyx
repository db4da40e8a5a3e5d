# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""Which message a task or callback deals with, and which message of its own a call waits for the answer to.

A callback is told by a context variable, and so are the tasks that it starts; `on_event` and streams tell the task that
reads, until it reads the next message. A call names its message in the same way: what it sends first is its question.
"""

cimport cython

from contextvars import ContextVar


current = ContextVar('echorig.origin', default=None)
asking = ContextVar('echorig.asking', default=None)


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
        Which message it is: its run, times 2**32, plus its number.
    answers : int
        The same of the message of ours that it answers; -1 if it names none, 0 if it names one of another program.
    """

    def __init__(self, receiver, event, addr, number, answers=-1):
        self.receiver = receiver
        self.event = event
        self.addr = addr
        self.number = number
        self.answers = answers


cdef Origin origin_of(receiver, event, addr, number, answers):
    """Make an origin without the costs of a call of its class."""
    cdef Origin origin = Origin.__new__(Origin)
    origin.receiver = receiver
    origin.event = event
    origin.addr = addr
    origin.number = number
    origin.answers = answers
    return origin


@cython.final
cdef class Question:
    """A message whose answer a call waits for: the first confirmed one that is sent while `asking` is set to this.

    Attributes
    ----------
    send : Send or None
        The message on its way, once it has been begun.
    """

    @property
    def number(self) -> int:
        """int: Which message it is: its run, times 2**32, plus its number; -1 before it is sent, and without a tag."""
        return -1 if self.send is None else self.send.identity

    @property
    def confirmed(self) -> bool:
        """bool: Whether its echo has come."""
        return self.send is not None and self.send.is_confirmed

    def close(self) -> None:
        """Note that its answer is not waited for any more."""
        if self.send is not None:
            self.send.forget_answer()


def names(com, Question question not None) -> int:
    """Tell whether the current message is the answer to a question.

    Parameters
    ----------
    com : Communicator
        Who has received it.
    question : Question
        The question.

    Returns
    -------
    int
        1 if it is, 0 if it answers something else, -1 if it does not say, as messages of peers without tags.
    """
    cdef Origin origin = current.get()
    if origin is None or origin.receiver is not getattr(com, 'receiver_id', None) or origin.answers == -1:
        return -1
    return 1 if origin.answers == question.number else 0
