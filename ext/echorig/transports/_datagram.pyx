# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""A datagram transport on the loop's ``add_reader``: one system call for each datagram received and each one sent.

1. It implements the contract of ``asyncio.DatagramTransport``, for a bound or connected socket of IPv4 or IPv6.
2. It reads one datagram each time the loop reports one. Where several are waiting it reads batches (``recvmmsg``, on
   Linux), at most `MAX_PER_TURN` datagrams before the loop continues.
3. Addresses are converted once, and cached. An answer to the sender of the last datagram needs no look-up.
4. System errors go to ``error_received``, exceptions of the protocol to the loop's exception handler.
   `KeyboardInterrupt` and `SystemExit` propagate; datagrams already read are delivered in the next iteration.
5. A socket bound to all addresses (0.0.0.0 or ::) answers from the address that the peer has sent to, where the system
   tells it (IP_PKTINFO; IPV6_PKTINFO of RFC 3542).
6. It measures how long a datagram lay in the socket, where the system has timestamps.
"""

cimport cython

import asyncio
import os
import socket
import warnings
from collections import deque

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, ECONNREFUSED, EINTR, ENOSYS, EPERM, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

cdef extern from "_datagram.h":
    ctypedef unsigned int socklen_t
    struct sockaddr:
        pass
    ctypedef union er_address:
        sockaddr any
    ctypedef struct er_local:
        int family
    ctypedef struct er_datagram:
        er_address origin "from"
        socklen_t from_size
        Py_ssize_t size
        er_local local
    int64_t er_received_at(int fd)
    int er_has_timestamps(int fd)
    int64_t er_clock()
    Py_ssize_t er_read_one(int fd, char *buffer, size_t room, er_datagram *got, bint with_local) nogil
    int er_read_many(int fd, char *buffers, size_t room, int n, er_datagram *got, bint with_local, int *error) nogil
    bint er_ask_local(int fd, bint six)
    Py_ssize_t er_send_from(int fd, const char *data, size_t size, const sockaddr *to, socklen_t n,
                            const er_local *local) nogil
    socklen_t er_write_address(er_address *out, const char *host, int six, unsigned int port, unsigned int flow,
                               unsigned int scope)
    int er_read_address(const er_address *address, const char **host, unsigned int *port, unsigned int *flow,
                        unsigned int *scope)
    int MSG_DONTWAIT
    Py_ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)
    Py_ssize_t c_sendto "sendto"(int fd, const void *data, size_t size, int flags, const sockaddr *to, socklen_t n)

cdef enum:
    ROOM = 65536         # bytes; no datagram is longer
    BATCH = 16           # datagrams read with one system call
    MAX_PER_TURN = 64    # datagrams read before the loop continues
    PROBE_INTERVAL = 32  # reads of one datagram, after which a second one is tried
    BATCH_READS = 4      # batches of at most one datagram, in a row, before datagrams are read one by one again
    CACHE_SIZE = 4096    # addresses in each direction
    HIGH_WATER = 65536   # unsent bytes above which the protocol is paused, by default
    RECENT = 20000000    # nanoseconds; datagrams behind one that was received since then share its timestamp


@cython.final
cdef class DatagramTransport:
    """The transport of a non-blocking datagram socket of IPv4 or IPv6, which is bound or connected.

    It owns the socket and calls ``connection_made`` at once. If that raises, or if the loop has no ``add_reader``
    (NotImplementedError), the caller keeps the socket.
    """

    cdef object loop, protocol, sock
    cdef dict extra
    cdef int fd
    cdef bint is_ipv6, closing, reading, paused
    cdef bint with_local                # the socket is bound to all addresses, and the system tells which was used
    cdef dict local_by_key              # the local addresses, as bytes, at which peers have sent
    cdef object peer                    # the address that the socket is connected to, or None
    cdef object unsent                  # (datagram, key of its address) that the system has not accepted yet
    cdef Py_ssize_t unsent_size, high, low
    cdef unsigned int n_reads
    cdef object held                    # (datagram, sender, received_at) that are read but not delivered yet
    cdef readonly bint knows_age        # `waited` is known
    cdef bint delivering
    cdef int64_t received_at            # timestamp of the datagram being delivered; 0 if the system must be asked
    cdef bint cannot_batch              # there is no recvmmsg
    cdef int batch_reads                # left before datagrams are read one by one again
    cdef char *buffers                  # of BATCH datagrams, once needed
    cdef er_datagram last               # the sender of the last datagram, and as a tuple:
    cdef object last_addr
    cdef dict addr_by_key, key_by_addr  # a key is a socket address as bytes

    def __init__(self, loop, sock, protocol):
        self.loop = loop
        self.fd = sock.fileno()
        self.is_ipv6 = sock.family == socket.AF_INET6
        self.unsent = deque()
        self.held = deque()
        self.high = HIGH_WATER
        self.low = HIGH_WATER // 4
        self.addr_by_key = {}
        self.key_by_addr = {}
        try:
            self.peer = sock.getpeername()
        except OSError:
            self.peer = None
        self.extra = {
            'socket': asyncio.trsock.TransportSocket(sock), 'sockname': sock.getsockname(), 'peername': self.peer
        }
        self.local_by_key = {}
        if self.peer is None and self.extra['sockname'][0] in ('0.0.0.0', '::'):
            self.with_local = er_ask_local(self.fd, self.is_ipv6)
        self.protocol = protocol
        self.knows_age = er_has_timestamps(self.fd)
        self.resume_reading()  # the loop polls the socket in its next iteration at the earliest
        self.sock = sock
        try:
            protocol.connection_made(self)
        except BaseException:
            self.pause_reading()
            self.sock = None
            raise

    def __dealloc__(self):
        free(self.buffers)

    def __del__(self):
        if self.sock is not None:
            warnings.warn(f'unclosed transport {self!r}', ResourceWarning, source=self)
            self.sock.close()

    def __repr__(self):
        state = 'closed' if self.sock is None else 'closing' if self.closing else 'open'
        return f'<{type(self).__name__} {state} {self.extra["sockname"]}>'

    # --- reading ---

    def _readable(self):
        """Called by the loop when at least one datagram waits."""
        if self.batch_reads:
            self._read_batches()
        elif self._read_one():
            self.n_reads += 1
            if self.n_reads % PROBE_INTERVAL == 0 and self._read_one():
                self.batch_reads = 0 if self.cannot_batch else BATCH_READS
        else:  # rare: perhaps a socket error, after which some loops do not watch the socket any more
            self.loop.call_soon(self._watch_again)

    cdef bint _read_one(self):
        """Read and deliver one datagram; return whether there was one."""
        cdef er_datagram got
        cdef bytes data = self._fetch(&got)
        if data is None:
            return False
        self._deliver(data, self._sender(&got), 0)
        return True

    cdef int64_t _hold_one(self):
        """Read one datagram to be delivered later; return its timestamp, or 0 if there was no datagram."""
        cdef er_datagram got
        cdef int64_t received_at
        cdef bytes data = self._fetch(&got)
        if data is None:
            return 0
        received_at = er_received_at(self.fd)
        self.held.append((data, self._sender(&got), received_at))
        return received_at

    cdef bytes _fetch(self, er_datagram *got):
        # A separate function, so that the buffer is off the stack before the protocol is called.
        cdef char[ROOM] buffer
        if self.closing or not self.reading:
            return None
        if er_read_one(self.fd, buffer, ROOM, got, self.with_local) < 0:
            self._on_read_error(errno)
            return None
        return PyBytes_FromStringAndSize(buffer, got.size)

    cdef void _read_batches(self):
        """Read and deliver the waiting datagrams, many with one system call."""
        cdef er_datagram[BATCH] got
        cdef int n, i, error = 0, n_read = 0
        cdef int64_t received_at = 0
        if self.buffers == NULL:
            self.buffers = <char *>malloc(BATCH * ROOM)
        while self.buffers != NULL and n_read < MAX_PER_TURN and self.reading and not error:
            if self.knows_age:  # the first one is the oldest
                received_at = self._hold_one()
                if received_at == 0:
                    self.batch_reads = BATCH_READS if n_read > 1 else self.batch_reads - 1
                    break
                if er_clock() - received_at > RECENT:
                    self._deliver_held()
                    n_read += 1
                    continue
            n = er_read_many(
                self.fd, self.buffers, ROOM, BATCH - self.knows_age, got, self.with_local, &error
            )
            for i in range(n):
                data = PyBytes_FromStringAndSize(self.buffers + i * ROOM, got[i].size)
                self.held.append((data, self._sender(&got[i]), received_at))
            self._deliver_held()
            n_read += n + self.knows_age
            if error == ENOSYS or error == EPERM:  # there is no recvmmsg here
                self.cannot_batch = True
                error = EAGAIN
            if n < BATCH - self.knows_age:
                self.batch_reads = BATCH_READS if n_read > 1 else self.batch_reads - 1
                break
        if self.cannot_batch or self.buffers == NULL:
            self.batch_reads = 0
        if not self.batch_reads:
            free(self.buffers)
            self.buffers = NULL
        if error:
            self._on_read_error(error)

    def _deliver_held(self):
        """Deliver held datagrams until the protocol pauses reading."""
        try:
            while self.held and self.reading:
                data, addr, received_at = self.held.popleft()
                self._deliver(data, addr, received_at)
        finally:
            if self.held and self.reading:
                self.loop.call_soon(self._deliver_held)

    cdef void _deliver(self, bytes data, addr, int64_t received_at):
        self.received_at = received_at
        self.delivering = True
        try:
            self.protocol.datagram_received(data, addr)
        except Exception as ex:
            self._on_protocol_error('datagram_received', ex)
        finally:
            self.delivering = False

    @property
    def waited(self) -> float:
        """How many seconds the datagram being delivered lay in the socket; -1.0 if that is unknown.

        Datagrams that were read in one batch behind a recent one count as no older than that one.
        """
        cdef int64_t received_at = self.received_at
        if not self.delivering:
            return -1.0
        if received_at == 0:
            received_at = er_received_at(self.fd)
        if received_at == 0:
            return -1.0
        return max(er_clock() - received_at, 0) * 1e-9  # negative if the clock was set back

    cdef void _on_read_error(self, int error):
        if not _is_transient(error):
            self._report(error)

    def _watch_again(self):
        """Register the socket with the loop again: some loops (libuv) do not watch it any more after an error."""
        if self.reading:
            self.loop.remove_reader(self.fd)
            self.loop.add_reader(self.fd, self._readable)
        if self.unsent and self.sock is not None:
            self.loop.remove_writer(self.fd)
            self.loop.add_writer(self.fd, self._writable)

    cdef void _report(self, int error):
        """Report a system error to the protocol."""
        self.loop.call_soon(self._watch_again)
        try:
            self.protocol.error_received(OSError(error, os.strerror(error)))
        except Exception as ex:
            self._on_protocol_error('error_received', ex)

    cdef _on_protocol_error(self, method, error):
        self.loop.call_exception_handler({
            'message': f'{method}() failed', 'exception': error, 'transport': self, 'protocol': self.protocol
        })

    def pause_reading(self) -> None:
        """Stop reading; the system drops datagrams when its buffer is full."""
        if self.reading:
            self.reading = False
            self.loop.remove_reader(self.fd)

    def resume_reading(self) -> None:
        """Read again, after `pause_reading`."""
        if not self.closing and not self.reading:
            self.loop.add_reader(self.fd, self._readable)
            self.reading = True
            if self.held:
                self.loop.call_soon(self._deliver_held)

    def is_reading(self) -> bool:
        """Return whether datagrams are read."""
        return self.reading

    # --- writing ---

    def sendto(self, data, addr=None) -> None:
        """Send a datagram, or keep it until the system accepts it; an empty one is not sent.

        `addr` is numeric, and may be omitted on a connected socket. Raises TypeError or ValueError if the data or the
        address are not valid.
        """
        cdef bytes frame
        if type(data) is bytes:
            frame = data
        elif isinstance(data, (bytes, bytearray, memoryview)):
            frame = bytes(data)
        else:
            raise TypeError(f'A datagram is bytes, not {type(data).__name__}')
        if self.closing or not frame:
            return
        cdef int error
        if self.peer is not None:
            if addr is not None and addr != self.peer:
                raise ValueError(f'The socket is connected to {self.peer}, not {addr}')
            key = b''
        elif addr is self.last_addr and addr is not None:
            key = None
        else:
            key = self._key(addr)
        if not self.unsent:
            error = self._send(frame, key)
            if error == ECONNREFUSED and self.peer is not None:  # of an earlier datagram; this one was not sent
                self._report(error)
                error = self._send(frame, key)
            if error == 0:
                return
            if not _is_transient(error):
                self._report(error)
                return
            self.loop.add_writer(self.fd, self._writable)
        self.unsent.append((frame, self._key(addr) if key is None else key))
        self.unsent_size += len(frame)
        self._check_flow()

    cdef int _send(self, bytes frame, bytes key) noexcept:
        """Pass a datagram to the system; return the error number or 0. None is the key of the last sender."""
        cdef Py_ssize_t sent
        cdef const char *data = PyBytes_AS_STRING(frame)
        cdef size_t size = <size_t>PyBytes_GET_SIZE(frame)
        cdef const sockaddr *to = &self.last.origin.any
        cdef socklen_t to_size = self.last.from_size
        cdef const er_local *local = &self.last.local
        if self.peer is not None:
            sent = c_send(self.fd, data, size, MSG_DONTWAIT)
            return errno if sent < 0 else 0
        if key is not None:
            to, to_size = <const sockaddr *>PyBytes_AS_STRING(key), <socklen_t>PyBytes_GET_SIZE(key)
            local = NULL
            if self.with_local:
                known = self.local_by_key.get(key)
                if known is not None:
                    local = <const er_local *>PyBytes_AS_STRING(known)
        if local != NULL and local.family:
            sent = er_send_from(self.fd, data, size, to, to_size, local)
            if sent >= 0 or _is_transient(errno):
                return errno if sent < 0 else 0
            # The computer may not have this address any more: let the system choose one.
        sent = c_sendto(self.fd, data, size, MSG_DONTWAIT, to, to_size)
        return errno if sent < 0 else 0

    def _writable(self):
        """Called by the loop when the system accepts datagrams again."""
        cdef int error
        while self.unsent:
            frame, key = self.unsent[0]
            error = self._send(frame, key)
            if _is_transient(error):
                break
            self.unsent.popleft()
            self.unsent_size -= len(frame)
            if error:
                self._report(error)
        self._check_flow()
        if not self.unsent and self.sock is not None:
            self.loop.remove_writer(self.fd)
            if self.closing:
                self._close_socket(None)

    def get_write_buffer_size(self) -> int:
        """Return the number of unsent bytes."""
        return self.unsent_size

    def get_write_buffer_limits(self) -> tuple:
        """Return the numbers of unsent bytes at which the protocol is resumed and paused."""
        return self.low, self.high

    def set_write_buffer_limits(self, high=None, low=None) -> None:
        """Set these numbers, with the defaults of asyncio; raises ValueError unless ``high >= low >= 0``."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f'The limits must be high >= low >= 0, not {high!r} and {low!r}')
        self.high = high
        self.low = low
        self._check_flow()

    cdef _check_flow(self):
        """Pause or resume the protocol."""
        if not self.paused and self.unsent_size > self.high:
            self.paused = True
            self.protocol.pause_writing()
        elif self.paused and self.unsent_size <= self.low:
            self.paused = False
            self.protocol.resume_writing()

    # --- addresses ---

    cdef object _sender(self, er_datagram *got):
        """Return the address of the sender of a datagram as a tuple."""
        cdef bytes key, local
        if (self.last_addr is None or got.from_size != self.last.from_size
                or memcmp(&got.origin, &self.last.origin, got.from_size) != 0
                or (self.with_local and memcmp(&got.local, &self.last.local, sizeof(er_local)) != 0)):
            key = PyBytes_FromStringAndSize(<char *>&got.origin, got.from_size)
            addr = self.addr_by_key.get(key)
            if addr is None:
                addr = self._as_tuple(got)
                _cache(self.addr_by_key, key, addr)
                _cache(self.key_by_addr, addr, key)  # it may be answered after other datagrams were read
            if self.with_local:
                local = PyBytes_FromStringAndSize(<char *>&got.local, sizeof(er_local))
                if self.local_by_key.get(key) != local:
                    _cache(self.local_by_key, key, local)
            self.last = got[0]
            self.last_addr = addr
        return self.last_addr

    cdef object _as_tuple(self, er_datagram *got):
        cdef const char *host
        cdef unsigned int port, flow, scope
        if er_read_address(&got.origin, &host, &port, &flow, &scope):
            return socket.inet_ntop(socket.AF_INET6, host[:16]), port, flow, scope
        return socket.inet_ntop(socket.AF_INET, host[:4]), port

    cdef bytes _key(self, addr):
        """Return the socket address of a tuple as bytes."""
        cdef er_address raw
        cdef bytes key = self.key_by_addr.get(addr) if type(addr) is tuple else None
        cdef bytes host
        if key is None:
            if addr is None:
                raise ValueError('The socket is not connected, so that an address is needed')
            if not (type(addr) is tuple and len(addr) in (2, 4) and isinstance(addr[0], str)
                    and isinstance(addr[1], int) and 0 <= addr[1] <= 65535):
                raise ValueError(f'An address is a tuple of numeric host and port, not {addr!r}')
            family = socket.AF_INET6 if self.is_ipv6 else socket.AF_INET
            try:
                # AI_NUMERICHOST sends no query. getaddrinfo accepts scopes such as %eth0.
                found = socket.getaddrinfo(addr[0], addr[1], family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST)[0][4]
            except socket.gaierror as ex:
                raise ValueError(f'{addr!r} is no numeric address for {self!r}: {ex}') from None
            name, port, flow, scope = (*found, 0, 0) if len(found) == 2 else found
            if len(addr) == 4:
                flow, scope = addr[2], addr[3] or scope
            host = socket.inet_pton(family, name.partition('%')[0])
            key = PyBytes_FromStringAndSize(
                <char *>&raw, er_write_address(&raw, PyBytes_AS_STRING(host), self.is_ipv6, port, flow, scope)
            )
            _cache(self.key_by_addr, addr, key)
        return key

    # --- the rest of the contract ---

    def get_extra_info(self, name, default=None):
        """Return ``socket``, ``sockname`` or ``peername``."""
        value = self.extra.get(name)
        return default if value is None else value

    def get_protocol(self):
        """Return the protocol."""
        return self.protocol

    def set_protocol(self, protocol) -> None:
        """Set the protocol."""
        self.protocol = protocol

    def is_closing(self) -> bool:
        """Return whether the transport is closed or closing."""
        return self.closing

    def close(self) -> None:
        """Stop reading, send the unsent datagrams, then close the socket."""
        if not self.closing:
            self._start_closing()
            if not self.unsent:
                self.loop.call_soon(self._close_socket, None)

    def abort(self) -> None:
        """Close the socket at once, without sending the unsent datagrams."""
        if self.sock is not None and self.loop.is_closed():
            self.closing = True
            self.reading = False
            self.sock.close()
            self.sock = None
        elif self.sock is not None:
            self._start_closing()
            if self.unsent:
                self.unsent.clear()
                self.unsent_size = 0
                self.loop.remove_writer(self.fd)
            self.loop.call_soon(self._close_socket, None)

    cdef _start_closing(self):
        self.pause_reading()
        self.closing = True

    def _close_socket(self, error):
        if self.sock is not None:
            self.sock.close()
            self.sock = None
            self.protocol.connection_lost(error)


cdef inline bint _is_transient(int error) noexcept:
    """Return whether the system call can be repeated later."""
    return error == EAGAIN or error == EINTR


cdef _cache(dict table, key, value):
    if len(table) >= CACHE_SIZE:
        table.clear()
    table[key] = value
