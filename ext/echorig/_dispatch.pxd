cpdef deliver(com, bytes data, addr)
