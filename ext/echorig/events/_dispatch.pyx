# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""From the bytes of a message to those who listen.

1. A listener that fails stops nobody: each failure is reported and the next listener runs.
2. A future is told once and then removed, from every event that it was registered for.
3. A listener registered for a combination of events is also told which one came.
4. A frame that is no message is only logged. What a MATLAB program writes, one byte for each
   character, is a message even if it is no UTF-8.
5. A notice about a ping or about a notice tells nobody: no listener has sent one.
6. The token in an ALYX message is concealed: nobody who writes the message into a log writes it there.
"""

from asyncio import CancelledError
from collections.abc import Coroutine
from functools import partial

from cpython.contextvars cimport PyContextVar_Reset, PyContextVar_Set

from echorig.wire._codec cimport decode
from echorig.events._message cimport received_message
from echorig.events._reply_context cimport Origin, origin_of
from echorig.events._turn cimport Turn
from echorig.events._reply_context import current as _current
from echorig.security.redaction import hide_values
from echorig.messages import ExpMessage
from echorig.events.event_queue import bits

cdef object _validate = ExpMessage.validate
cdef int ALYX = 128
# {code: (event, bits)} of the single events and the notice: the enum takes ten times as long.
cdef dict _SINGLE = {event.value: (event, bits(event)) for event in (ExpMessage(0), *ExpMessage.__members__.values())}


cdef class Dispatcher:
    """Decodes messages and gives them to the listeners of one communicator.

    Parameters
    ----------
    waiting : Waiting
        The coroutines that wait in ``on_event``, and the streams.
    callbacks : CallbackTable
        The callbacks of each event.
    log : MessageLog
        Takes frames that are no message, and callbacks that failed.
    receiver : object
        Stands for the communicator in the context of a message, see `Origin`.
    """

    def __init__(self, waiting, callbacks, log, receiver):
        self.waiting = waiting
        self.callbacks = callbacks
        self.log = log
        self.receiver = receiver

    cpdef deliver(self, bytes data, addr, long long number=-1, long long answers=-1):
        """Decode a message and give it to its listeners.

        Parameters
        ----------
        data : bytes
            The message.
        addr : tuple of (str, int)
            Where it came from.
        number : int
            Which message it is; -1 if it has no tag. See `Origin`.
        answers : int
            Which message it answers; see `Origin`.
        """
        cdef Origin origin = None
        try:
            message = decode(data)
        except ValueError as ex:
            message = _read_latin1(data)
            if message is None:
                self.log.malformed(data, addr, str(ex))
                return
            self.log.latin1(addr)
        if type(message) is not list or not message:
            self.log.malformed(data, addr, 'it is no array with an event code')
            return
        code = message[0]
        known = _SINGLE.get(code) if type(code) is int else None  # True and 2.0 are no codes
        if known is None:
            try:
                known = _SINGLE[_validate(code, False)]
            except (TypeError, ValueError):  # the text of which has all that stands there, which may be long or secret
                self.log.malformed(data, addr, 'it begins with no event', expected_list=False)
                return
        event, bit = <tuple>known
        del message[0]
        if bit == ALYX:
            message = hide_values(message)
        if not code and not self.log.notice(message, addr):
            return
        if number >= 0:
            origin = origin_of(self.receiver, code, addr, number, answers)
        received = received_message(event, message, addr, origin, len(data))
        if not (self.waiting.asked & bit and self.waiting.deliver(bit, received)):
            (<Turn>self.waiting.turn).keep(bit, received)
        listeners = self.callbacks[event]
        if listeners:
            token = PyContextVar_Set(_current, origin)
            try:
                self._call(listeners, event, message, addr)
            finally:
                PyContextVar_Reset(_current, token)
        elif not self.waiting.asked & bit:
            self.log.no_callback(event)

    cdef _call(self, list listeners, event, message, addr):
        """Call every listener, in the order of registration."""
        for listener, told in listeners:  # the table replaces its lists, it does not change them
            if callable(listener):
                try:
                    result = listener(message, addr, event) if told else listener(message, addr)
                except (Exception, CancelledError) as ex:
                    self.log.failed(listener, event, ex, addr)
                else:
                    if result is not None and isinstance(result, Coroutine):
                        self.callbacks.run(result, partial(self._failed, listener, event), addr)
                continue
            self.callbacks.clear_futures(listener)
            if listener.cancelled():
                continue
            if listener.done():
                self.log.already_done(listener)
            else:
                listener.set_result((message, addr, event) if told else (message, addr))

    def _failed(self, listener, event, ex, addr):
        """Report that a callback failed which ran as a task."""
        self.log.failed(listener, event, ex, addr)


cdef list _read_latin1(bytes data):
    """Read a message in Latin-1; None for bytes that are UTF-8, or no array with an event in Latin-1 either."""
    try:
        data.decode()
        return None
    except UnicodeDecodeError:
        pass
    try:
        message = decode(data.decode('latin-1').encode())
    except ValueError:
        return None
    if type(message) is list and message and type(message[0]) is int and message[0] in _SINGLE:
        return message
    return None
