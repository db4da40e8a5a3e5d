cpdef deliver(com, waiting, callbacks, bytes data, addr)
