# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""Decodes messages and gives them to callbacks, waiters and streams.

1. A callback that fails stops no other: each failure is reported, and the next callback is called.
2. A future is resolved once, and then removed from every event that it was registered for.
3. A callback that is registered for a combination of events gets the event as a third argument.
4. A frame that is no message is only logged. MATLAB programs write one byte for each character; their messages are
   read as Latin-1 if they are no UTF-8.
5. A notice about a ping or about another notice is given to nobody, because no callback has sent the cause of it.
6. The token in an ALYX message is hidden in its `repr`, so that it does not get into logs.
"""

from asyncio import CancelledError
from collections.abc import Awaitable
from functools import partial

from cpython.contextvars cimport PyContextVar_Reset, PyContextVar_Set

from echorig.wire._codec cimport decode
from echorig.events._message cimport ReceivedMessage, received_message
from echorig.events._reply_context cimport RequestContext, request_context
from echorig.events._turn_buffer cimport TurnBuffer
from echorig.events._reply_context import current_request as _current_request
from echorig.events.callbacks import unusable_result
from echorig.security.redaction import hide_values
from echorig.messages import ExpMessage
from echorig.events.event_queue import bits

cdef object _validate = ExpMessage.validate
cdef int ALYX = 128
# {code: (event, bits)} of the single events and the notice: a lookup in the enum takes ten times as long.
cdef dict _SINGLE = {event.value: (event, bits(event)) for event in (ExpMessage(0), *ExpMessage.__members__.values())}


cdef class Dispatcher:
    """Decodes messages and gives them to the listeners of one communicator.

    `queue` is its `EventQueue`, `callbacks` its `CallbackTable`, `log` its `MessageLog`; `receiver_id` stands for it in
    a `RequestContext`.
    """

    def __init__(self, queue, callbacks, log, receiver_id):
        self.queue = queue
        self.turn_buffer = queue.turn_buffer
        self.callbacks = callbacks
        self.log = log
        self.receiver_id = receiver_id

    cpdef deliver(self, bytes data, addr, long long message_id=-1, long long in_reply_to=-1, long long time=0):
        """Decode a message and give it to its listeners; the ids and the time are those of `RequestContext`."""
        cdef RequestContext request = None
        cdef ReceivedMessage received
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
            except (TypeError, ValueError):  # its text quotes the code, which may be long or secret
                self.log.malformed(data, addr, 'it begins with no event', expected_list=False)
                return
        event, bit = <tuple>known
        del message[0]
        if bit == ALYX:
            message = hide_values(message)
        if not code and not self.log.notice(message, addr):
            return
        if message_id >= 0:
            request = request_context(self.receiver_id, code, addr, message_id, in_reply_to, time)
        received = received_message(event, bit, message, addr, request, len(data))
        if not (self.queue.interest & bit and self.queue.deliver(received)):
            self.turn_buffer.keep(received)
        listeners = (<dict>self.callbacks).get(event)  # faster than the look-up of a subclass
        if listeners:
            token = PyContextVar_Set(_current_request, request)
            try:
                self._call(listeners, event, message, addr)
            finally:
                PyContextVar_Reset(_current_request, token)
        elif not self.queue.interest & bit:
            self.log.no_callback(event)

    cdef _call(self, list listeners, event, message, addr):
        """Call every listener, in the order of registration."""
        for listener, gets_event in listeners:  # the table replaces its lists and never changes them
            if callable(listener):
                try:
                    result = listener(message, addr, event) if gets_event else listener(message, addr)
                except (Exception, CancelledError) as ex:
                    self.log.failed(listener, event, addr, ex)
                else:
                    if result is not None:
                        if isinstance(result, Awaitable):
                            self.callbacks.tasks.run(result, partial(self.log.failed, listener, event, addr))
                        elif (error := unusable_result(result)) is not None:
                            self.log.failed(listener, event, addr, error)
                continue
            self.callbacks.remove_future(listener)
            if listener.cancelled():
                continue
            if listener.done():
                self.log.already_done(listener)
            else:
                listener.set_result((message, addr, event) if gets_event else (message, addr))


cdef list _read_latin1(bytes data):
    """Read a message in Latin-1; None for valid UTF-8, or if there is no array with an event in Latin-1 either."""
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
