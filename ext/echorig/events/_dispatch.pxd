from echorig.events._turn_buffer cimport TurnBuffer

cdef class Dispatcher:
    cdef readonly object queue, callbacks, log, receiver_id
    cdef TurnBuffer turn_buffer  # that of the queue
    cpdef deliver(self, bytes data, addr, long long message_id=?, long long in_reply_to=?, long long time=?)
    cdef _call(self, list listeners, event, message, addr)
