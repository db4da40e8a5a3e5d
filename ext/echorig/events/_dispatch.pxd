cpdef deliver(com, waiting, callbacks, bytes data, addr, long long number=?, long long answers=?)
