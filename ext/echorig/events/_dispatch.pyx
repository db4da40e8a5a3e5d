# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""From the bytes of a message to those who listen.

1. A listener that fails stops nobody: each failure is reported and the next listener runs.
2. A future is told once and then removed, from every event that it was registered for.
3. A listener registered for a combination of events is also told which one came.
4. What is no message is handed to ``_malformed``, and tells nobody. What a MATLAB program writes, one byte for each
   character, is a message even if it is no UTF-8.
5. A notice about a ping or about a notice tells nobody: no listener has sent one.
6. The token in an ALYX message is concealed: nobody who writes the message into a log writes it there.
"""

from asyncio import CancelledError
from collections.abc import Coroutine
from functools import partial

from cpython.contextvars cimport PyContextVar_Reset, PyContextVar_Set

from echorig.wire._codec cimport decode
from echorig.events._reply_context cimport Origin
from echorig.events._turn cimport Turn
from echorig.events._reply_context import current as _current
from echorig.security.redaction import hide_values
from echorig.messages import ExpMessage
from echorig.events.event_queue import bits

cdef object _validate = ExpMessage.validate
cdef int ALYX = 128
# {code: (event, bits)} of the single events and the notice: the enum takes ten times as long.
cdef dict _SINGLE = {event.value: (event, bits(event)) for event in (ExpMessage(0), *ExpMessage.__members__.values())}


cpdef deliver(com, waiting, callbacks, bytes data, addr, long long number=-1, long long answers=-1):
    """Decode a message and tell its listeners.

    Parameters
    ----------
    com : Communicator
        Who is told what is no message, and which callback failed.
    waiting : Waiting
        Who waits in ``on_event``.
    callbacks : CallbackTable
        The listeners of each event.
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
            com._malformed(data, addr, str(ex))
            return
        com._log_latin1(addr)
    if type(message) is not list or not message:
        com._malformed(data, addr, 'it is no array with an event code')
        return
    code = message[0]
    known = _SINGLE.get(code) if type(code) is int else None  # True and 2.0 are no codes
    if known is None:
        try:
            known = _SINGLE[_validate(code, False)]
        except (TypeError, ValueError):  # the text of which has all that stands there, which may be long or secret
            com._malformed(data, addr, 'it begins with no event', expected_list=False)
            return
    event, bit = <tuple>known
    del message[0]
    if bit == ALYX:
        message = hide_values(message)
    if not code and not com._log_notice(message, addr):
        return
    if number >= 0:
        origin = Origin(com._identity, code, addr, number, answers)
    heard = waiting.asked & bit and waiting.deliver(bit, (event, message, addr, origin, len(data)))
    if not heard:
        (<Turn>waiting.turn).keep(bit, (event, message, addr, origin, len(data)))
    listeners = callbacks[event]
    if listeners:
        token = PyContextVar_Set(_current, origin)
        try:
            _tell(com, listeners, event, message, addr)
        finally:
            PyContextVar_Reset(_current, token)
    elif not waiting.asked & bit:
        com._log.debug('No callbacks to execute for event %s', event.name)


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


cdef _tell(com, list listeners, event, message, addr):
    """Tell every listener, in the order of registration."""
    for listener, told in listeners:  # the table replaces its lists, it does not change them
        if callable(listener):
            try:
                result = listener(message, addr, event) if told else listener(message, addr)
            except (Exception, CancelledError) as ex:
                com._report(listener, event, ex, addr)
            else:
                if result is not None and isinstance(result, Coroutine):
                    com._callbacks.run(result, partial(_report, com, listener, event), addr)
            continue
        com._callbacks.clear_futures(listener)
        if listener.cancelled():
            continue
        if listener.done():
            com._log.warning('Future %s already resolved', listener)
        else:
            listener.set_result((message, addr, event) if told else (message, addr))


def _report(com, listener, event, ex, addr):
    """Report that a callback failed which ran as a task."""
    com._report(listener, event, ex, addr)
