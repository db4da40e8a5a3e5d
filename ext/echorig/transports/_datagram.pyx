# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""A datagram transport on the loop's own ``add_reader``: one system call for each datagram in and each one out.

1. It keeps the contract of ``asyncio.DatagramTransport``, for a bound or connected socket of IPv4 or IPv6.
2. One datagram is read for each time the loop says that there is one. Where several wait they are read together
   (``recvmmsg``, on Linux), at most `FAIR` before the loop gets its turn.
3. Addresses become tuples, and tuples addresses, once for as long as they are remembered; an answer to the sender of the last datagram needs no look-up.
4. An error of the system goes to ``error_received``, an exception of the protocol to the loop's exception handler;
   what ends a program is not held up, and the datagrams behind it are handed on in the next turn.
5. How long the datagram that is being handed on lay in the socket is known where the system says when it came.
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
    ctypedef struct er_datagram:
        er_address origin "from"
        socklen_t from_size
        Py_ssize_t size
    int64_t er_last_came(int fd)
    int er_notes_times(int fd)
    int64_t er_clock()
    Py_ssize_t er_read_one(int fd, char *buffer, size_t room, er_datagram *got) nogil
    int er_read_many(int fd, char *buffers, size_t room, int n, er_datagram *got, int *error) nogil
    socklen_t er_write_address(er_address *out, const char *host, int six, unsigned int port, unsigned int flow,
                               unsigned int scope)
    int er_read_address(const er_address *address, const char **host, unsigned int *port, unsigned int *flow,
                        unsigned int *scope)
    int MSG_DONTWAIT
    Py_ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)
    Py_ssize_t c_sendto "sendto"(int fd, const void *data, size_t size, int flags, const sockaddr *to, socklen_t n)

cdef enum:
    ROOM = 65536       # bytes; no datagram is longer
    TOGETHER = 16      # datagrams read with one system call
    FAIR = 64          # datagrams before the loop gets its turn
    PROBE = 32         # after every so many readings it is tried whether another datagram waits
    CALM = 4           # so many readings in a row that bring one datagram or none: they are read singly again
    REMEMBERED = 4096  # addresses in each direction
    HIGH = 64 * 1024   # bytes that may wait to be sent before the protocol is asked to pause
    RECENT = 20000000  # nanoseconds; those behind one that came so lately are not timed each


@cython.final
cdef class DatagramTransport:
    """The transport of one socket.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The loop; it has ``add_reader``.
    sock : socket.socket
        A non-blocking datagram socket of IPv4 or IPv6, bound or connected. It belongs to the transport from now on.
    protocol : asyncio.DatagramProtocol
        What is told of everything; its ``connection_made`` is called before this returns.

    Raises
    ------
    NotImplementedError
        The loop has no ``add_reader``. The socket is left to the caller, as it is if ``connection_made`` raises.
    """

    cdef object loop, protocol, sock
    cdef dict extra
    cdef int fd
    cdef bint six, closing, reading, paused
    cdef object peer                # the address that the socket is connected to, or None
    cdef object waiting             # (datagram, address as the system writes it) that it would not take yet
    cdef Py_ssize_t waiting_size, high, low
    cdef unsigned int readings
    cdef object held                # (datagram, sender, when it came) that have been read, and not handed on yet
    cdef readonly bint knows_age    # `waited` is known
    cdef bint handing_on
    cdef int64_t came               # when the one came that is being handed on; 0 if the system is to be asked
    cdef bint alone                 # the system has no way to read several together
    cdef int crowded                # readings left before datagrams are taken one by one again
    cdef char *buffers              # room for TOGETHER datagrams, once it has been needed
    cdef er_datagram last           # the sender of the last datagram, and below the same as a tuple
    cdef object last_addr
    cdef dict tuples, addresses     # {address as the system writes it: tuple} and back

    def __init__(self, loop, sock, protocol):
        self.loop = loop
        self.fd = sock.fileno()
        self.six = sock.family == socket.AF_INET6
        self.waiting = deque()
        self.held = deque()
        self.high = HIGH
        self.low = HIGH // 4
        self.tuples = {}
        self.addresses = {}
        try:
            self.peer = sock.getpeername()
        except OSError:
            self.peer = None
        self.extra = {
            'socket': asyncio.trsock.TransportSocket(sock), 'sockname': sock.getsockname(), 'peername': self.peer
        }
        self.protocol = protocol
        self.knows_age = er_notes_times(self.fd)
        self.resume_reading()  # the loop looks at the socket in its next turn at the earliest
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
        if self.crowded:
            self._read_together()
        elif self._read_one():
            self.readings += 1
            if self.readings % PROBE == 0 and self._read_one():
                self.crowded = 0 if self.alone else CALM
        else:  # for nothing, which is rare: the error may be gone for which some loops have given up the socket
            self.loop.call_soon(self._listen_again)

    cdef bint _read_one(self):
        """Take one datagram; whether there was one."""
        cdef er_datagram got
        cdef bytes data = self._fetch(&got)
        if data is None:
            return False
        self._deliver(data, self._sender(&got), 0)
        return True

    cdef int64_t _hold_one(self):
        """Read one datagram, to be handed on later; when it came, or 0 if there was none."""
        cdef er_datagram got
        cdef int64_t came
        cdef bytes data = self._fetch(&got)
        if data is None:
            return 0
        came = er_last_came(self.fd)
        self.held.append((data, self._sender(&got), came))
        return came

    cdef bytes _fetch(self, er_datagram *got):
        # A function of its own, so that the room is given back before anybody is called.
        cdef char[ROOM] buffer
        if self.closing or not self.reading:
            return None
        if er_read_one(self.fd, buffer, ROOM, got) < 0:
            self._failed_to_read(errno)
            return None
        return PyBytes_FromStringAndSize(buffer, got.size)

    cdef void _read_together(self):
        """Take what waits, many datagrams with one system call."""
        cdef er_datagram[TOGETHER] got
        cdef int n, i, error = 0, taken = 0
        cdef int64_t came = 0
        if self.buffers == NULL:
            self.buffers = <char *>malloc(TOGETHER * ROOM)
        while self.buffers != NULL and taken < FAIR and self.reading and not error:
            if self.knows_age:  # no other is older than the first
                came = self._hold_one()
                if came == 0:
                    self.crowded = CALM if taken > 1 else self.crowded - 1
                    break
                if er_clock() - came > RECENT:
                    self._deliver_held()
                    taken += 1
                    continue
            n = er_read_many(self.fd, self.buffers, ROOM, TOGETHER - self.knows_age, got, &error)
            for i in range(n):
                data = PyBytes_FromStringAndSize(self.buffers + i * ROOM, got[i].size)
                self.held.append((data, self._sender(&got[i]), came))
            self._deliver_held()
            taken += n + self.knows_age
            if error == ENOSYS or error == EPERM:  # no such system call here: one by one, then
                self.alone = True
                error = EAGAIN
            if n < TOGETHER - self.knows_age:
                self.crowded = CALM if taken > 1 else self.crowded - 1
                break
        if self.alone or self.buffers == NULL:
            self.crowded = 0
        if not self.crowded:
            free(self.buffers)
            self.buffers = NULL
        if error:
            self._failed_to_read(error)

    def _deliver_held(self):
        """Hand on what has been read, as long as it is wanted."""
        try:
            while self.held and self.reading:
                data, addr, came = self.held.popleft()
                self._deliver(data, addr, came)
        finally:
            if self.held and self.reading:
                self.loop.call_soon(self._deliver_held)

    cdef void _deliver(self, bytes data, addr, int64_t came):
        self.came = came
        self.handing_on = True
        try:
            self.protocol.datagram_received(data, addr)
        except Exception as ex:
            self.loop.call_exception_handler({
                'message': 'datagram_received() failed', 'exception': ex, 'transport': self, 'protocol': self.protocol
            })

        finally:
            self.handing_on = False

    @property
    def waited(self) -> float:
        """For how many seconds the datagram that is being handed on lay in the socket; -1.0 if that is not known.

        Those that were read together, right behind one that had come at once, count as no older than that one.
        """
        cdef int64_t came = self.came
        if not self.handing_on:
            return -1.0
        if came == 0:
            came = er_last_came(self.fd)
        if came == 0:
            return -1.0
        return max(er_clock() - came, 0) * 1e-9  # below 0 if the clock has been set back

    cdef void _failed_to_read(self, int error):
        if not _later(error):
            self._tell(error)

    def _listen_again(self):
        """Ask the loop again to watch the socket: some (libuv) give up one that had an error."""
        if self.reading:
            self.loop.remove_reader(self.fd)
            self.loop.add_reader(self.fd, self._readable)
        if self.waiting and self.sock is not None:
            self.loop.remove_writer(self.fd)
            self.loop.add_writer(self.fd, self._writable)

    cdef void _tell(self, int error):
        """Tell the protocol of an error of the system."""
        self.loop.call_soon(self._listen_again)
        try:
            self.protocol.error_received(OSError(error, os.strerror(error)))
        except Exception as ex:
            self.loop.call_exception_handler({
                'message': 'error_received() failed', 'exception': ex, 'transport': self, 'protocol': self.protocol
            })

    def pause_reading(self) -> None:
        """Leave what comes to the system, which drops it when its buffer is full."""
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
        """Tell whether datagrams are read."""
        return self.reading

    # --- writing ---

    def sendto(self, data, addr=None) -> None:
        """Send a datagram, or keep it until the system takes it.

        Parameters
        ----------
        data : bytes
            The datagram. An empty one is not sent.
        addr : tuple, optional
            The numeric address; none on a connected socket.

        Raises
        ------
        TypeError
            The data are no bytes.
        ValueError
            The address is missing, not numeric, or not the one that the socket is connected to.
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
        if not self.waiting:
            error = self._send(frame, key)
            if error == 0:
                return
            if error == ECONNREFUSED and self.peer is not None:  # of an earlier one; this one has not been sent
                self._tell(error)
                error = self._send(frame, key)
                if error == 0:
                    return
            if not _later(error):
                self._tell(error)
                return
            self.loop.add_writer(self.fd, self._writable)
        self.waiting.append((frame, self._key(addr) if key is None else key))
        self.waiting_size += len(frame)
        self._check_flow()

    cdef int _send(self, bytes frame, bytes key) noexcept:
        """Hand a datagram to the system; the error number, or 0.

        The key is the address as the system writes it, None for the sender of the last datagram.
        """
        cdef Py_ssize_t sent
        cdef const char *data = PyBytes_AS_STRING(frame)
        cdef size_t size = <size_t>PyBytes_GET_SIZE(frame)
        if self.peer is not None:
            sent = c_send(self.fd, data, size, MSG_DONTWAIT)
        elif key is None:
            sent = c_sendto(self.fd, data, size, MSG_DONTWAIT, &self.last.origin.any, self.last.from_size)
        else:
            sent = c_sendto(
                self.fd, data, size, MSG_DONTWAIT, <sockaddr *>PyBytes_AS_STRING(key), <socklen_t>PyBytes_GET_SIZE(key)
            )
        return errno if sent < 0 else 0

    def _writable(self):
        """Called by the loop when the system takes datagrams again."""
        cdef int error
        while self.waiting:
            frame, key = self.waiting[0]
            error = self._send(frame, key)
            if _later(error):
                break
            self.waiting.popleft()
            self.waiting_size -= len(frame)
            if error:
                self._tell(error)
        self._check_flow()
        if not self.waiting and self.sock is not None:
            self.loop.remove_writer(self.fd)
            if self.closing:
                self._lose(None)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        return self.waiting_size

    def get_write_buffer_limits(self) -> tuple:
        """Return the numbers of waiting bytes at which the protocol is asked to go on and to pause."""
        return self.low, self.high

    def set_write_buffer_limits(self, high=None, low=None) -> None:
        """Set the numbers of waiting bytes at which the protocol is asked to pause and to go on.

        Parameters
        ----------
        high, low : int, optional
            As for any transport of asyncio: by default `low` is a quarter of `high`, and `high` 64 KiB.

        Raises
        ------
        ValueError
            Not ``high >= low >= 0``.
        """
        if high is None:
            high = HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f'The limits must be high >= low >= 0, not {high!r} and {low!r}')
        self.high = high
        self.low = low
        self._check_flow()

    cdef _check_flow(self):
        """Ask the protocol to pause or to go on, where that has changed."""
        if not self.paused and self.waiting_size > self.high:
            self.paused = True
            self.protocol.pause_writing()
        elif self.paused and self.waiting_size <= self.low:
            self.paused = False
            self.protocol.resume_writing()

    # --- addresses ---

    cdef object _sender(self, er_datagram *got):
        """Return the address that a datagram came from, as a tuple."""
        cdef bytes key
        if (self.last_addr is None or got.from_size != self.last.from_size
                or memcmp(&got.origin, &self.last.origin, got.from_size) != 0):
            key = PyBytes_FromStringAndSize(<char *>&got.origin, got.from_size)
            addr = self.tuples.get(key)
            if addr is None:
                addr = self._as_tuple(got)
                _remember(self.tuples, key, addr)
                _remember(self.addresses, addr, key)  # it will be answered, but not before others have been read
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
        """Return an address as the system writes it."""
        cdef er_address raw
        cdef bytes key = self.addresses.get(addr) if type(addr) is tuple else None
        cdef bytes host
        if key is None:
            if addr is None:
                raise ValueError('The socket is not connected, so that an address is needed')
            if not (type(addr) is tuple and len(addr) in (2, 4) and isinstance(addr[0], str)
                    and isinstance(addr[1], int) and 0 <= addr[1] <= 65535):
                raise ValueError(f'An address is a tuple of numeric host and port, not {addr!r}')
            family = socket.AF_INET6 if self.six else socket.AF_INET
            try:
                # With AI_NUMERICHOST nobody is asked; it knows scopes such as %eth0.
                found = socket.getaddrinfo(addr[0], addr[1], family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST)[0][4]
            except socket.gaierror as ex:
                raise ValueError(f'{addr!r} is no numeric address for {self!r}: {ex}') from None
            name, port, flow, scope = (*found, 0, 0) if len(found) == 2 else found
            if len(addr) == 4:
                flow, scope = addr[2], addr[3] or scope
            host = socket.inet_pton(family, name.partition('%')[0])
            key = PyBytes_FromStringAndSize(
                <char *>&raw, er_write_address(&raw, PyBytes_AS_STRING(host), self.six, port, flow, scope)
            )
            _remember(self.addresses, addr, key)
        return key

    # --- the rest of the contract ---

    def get_extra_info(self, name, default=None):
        """Return ``socket``, ``sockname`` or ``peername``.

        Parameters
        ----------
        name : str
            What to return.
        default : Any
            What to return if there is no such thing.
        """
        value = self.extra.get(name)
        return default if value is None else value

    def get_protocol(self):
        """Return the protocol."""
        return self.protocol

    def set_protocol(self, protocol) -> None:
        """Set the protocol.

        Parameters
        ----------
        protocol : asyncio.DatagramProtocol
            What is told from now on.
        """
        self.protocol = protocol

    def is_closing(self) -> bool:
        """Tell whether the transport is closed or about to be."""
        return self.closing

    def close(self) -> None:
        """Send what waits, then close the socket; nothing more is read."""
        if not self.closing:
            self._end()
            if not self.waiting:
                self.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        """Close the socket at once; what waits is dropped."""
        if self.sock is not None:
            self._end()
            if self.waiting:
                self.waiting.clear()
                self.waiting_size = 0
                self.loop.remove_writer(self.fd)
            self.loop.call_soon(self._lose, None)

    cdef _end(self):
        self.pause_reading()
        self.closing = True

    def _lose(self, exc):
        """Close the socket and tell the protocol, once."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None
            self.protocol.connection_lost(exc)


cdef inline bint _later(int error) noexcept:
    """Tell whether the system asks to try again."""
    return error == EAGAIN or error == EINTR


cdef _remember(dict table, key, value):
    if len(table) >= REMEMBERED:
        table.clear()
    table[key] = value
