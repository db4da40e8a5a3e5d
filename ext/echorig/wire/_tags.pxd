cdef enum:
    TAG_SIZE = 128    # bytes of a delivery tag: four words of 32 bits
    FIELD_SIZE = 64   # bytes of the field before it that names another message: two words
    SIGNED_SIZE = 320 # bytes of a tag, that field and a signature
    HELLO_SIZE = 450  # bytes of a hello, which starts a session: [, a random number, SIGNED_SIZE bytes and ]

cdef enum:
    T_NONE = 0     # no tag
    T_WHOLE = 1    # a tag, whose check may be wrong
    T_BROKEN = 2   # a damaged tag

ctypedef struct Tag:
    unsigned int run       # 31 bits
    unsigned int number
    unsigned int lifetime  # milliseconds; 0 is no limit
    unsigned int check
    bint ack

cdef int parse(bytes frame, Tag *tag) noexcept
cdef bint is_intact(bytes frame, const Tag *tag) noexcept
cpdef bytes add_tag(bytes frame, unsigned int run, unsigned int number, unsigned int lifetime=?, long long reply_to=?)
cdef bytes with_lifetime(bytes frame, const Tag *tag, unsigned int lifetime)
cpdef bint is_echo(bytes sent, bytes received) noexcept
cpdef bint is_same(bytes sent, bytes received) noexcept
cdef long long identity(bytes frame) noexcept
cdef bytes reply_to_ping(bytes frame, const Tag *tag, unsigned int run, unsigned int wanted, long long time)
cpdef bytes make_ping(unsigned int run, unsigned int number, long long question=?)
cpdef bytes add_time(bytes frame, long long time)
cpdef long long read_time(bytes frame) noexcept
cpdef bytes set_ack(bytes frame)
cpdef long long read_reply_number(bytes frame) except -2
cpdef bint is_ping(bytes frame) noexcept
