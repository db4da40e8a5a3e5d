cdef class OutgoingRequest:
    cdef public object send  # a Send of the exchange; None until the message is sent

cdef class RequestContext:
    cdef readonly object receiver_id, event, addr, message_id, in_reply_to, time

cpdef RequestContext request_context(receiver_id, event, addr, message_id, in_reply_to=*, time=*)
