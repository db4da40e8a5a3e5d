cdef enum:
    WORD = 32        # bytes of white space for 32 bits
    SIGNATURE = 128  # the same for 128
    SIGNED = 320     # what stands before the last bracket of a signed message

cdef bytes written(bytes value)
cdef bytes read_value(const unsigned char *src)
cdef bytes with_signature(bytes frame, bytes signature, bint may_answer=?)
cdef bytes without_signature(bytes frame)
cdef bytes number_frame(bytes random, unsigned int run, unsigned int number, bint welcome)
cdef unsigned int last_word(bytes number)
cdef bytes mac_of(base, bytes message)
