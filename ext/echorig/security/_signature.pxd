cdef enum:
    WORD = 32        # bytes of whitespace that encode 32 bits
    SIGNATURE = 128  # bytes of whitespace that encode a signature
    SIGNED = 320     # bytes before the last bracket of a signed message: signature, reply number and tag

cdef bytes encode_bits(bytes value)
cdef bytes decode_bits(const unsigned char *src)
cdef bytes insert_signature(bytes frame, bytes signature, bint may_answer=?)
cdef bytes remove_signature(bytes frame)
cdef bytes handshake_frame(bytes random, unsigned int run, unsigned int number, bint welcome)
cdef unsigned int hello_number(bytes random)
cdef bytes mac_of(base, bytes message)
