# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""A stream transport on the loop's ``add_reader``: one system call for each piece received and each one sent.

1. It implements the contract of ``asyncio.Transport``, for a connected TCP socket of IPv4 or IPv6.
2. It reads at most `MOST_PIECES` pieces of `ROOM` bytes in one turn of the loop, so that no connection delays the others.
3. It sends at once. What the system does not accept is kept, and sent when the loop reports that there is room.
4. A system error closes the connection and is the reason given to ``connection_lost``. An exception of the protocol goes
   to the loop's exception handler and closes it too. `KeyboardInterrupt` and `SystemExit` propagate.
"""

cimport cython

import asyncio
import os
import socket
import warnings
from collections import deque

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno

cdef extern from "_stream.h":
    int ER_SEND_FLAGS
    int MSG_DONTWAIT
    Py_ssize_t c_recv "recv"(int fd, void *data, size_t size, int flags)
    Py_ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)

cdef enum:
    ROOM = 65536         # bytes read with one system call
    MOST_PIECES = 4      # of so many bytes in one turn of the loop, as asyncio reads
    MOST_JOINED = 65536  # bytes of several short unsent pieces that are sent with one system call
    SHORT = 4096         # bytes
    HIGH_WATER = 65536   # unsent bytes above which the protocol is paused, by default


@cython.final
cdef class StreamTransport:
    """The transport of a non-blocking, connected TCP socket.

    It owns the socket and calls ``connection_made`` at once. If that raises, or if the loop has no ``add_reader``
    (NotImplementedError), the caller keeps the socket.
    """

    cdef object loop, protocol, sock
    cdef dict extra
    cdef int fd
    cdef bint closing, reading, paused
    cdef bint peer_ended                # the peer has closed its side
    cdef bint ended                     # the program has closed this side, as soon as all bytes are sent
    cdef bint is_lost                   # `connection_lost` is scheduled
    cdef object receive, check          # see `bypass`
    cdef object splitter, addr
    cdef object unsent                  # pieces that the system has not accepted yet
    cdef Py_ssize_t n_sent              # bytes of the first of them that it has accepted
    cdef object __weakref__
    cdef Py_ssize_t unsent_size, high, low

    def __init__(self, loop, sock, protocol):
        self.loop = loop
        self.fd = sock.fileno()
        self.unsent = deque()
        self.high = HIGH_WATER
        self.low = HIGH_WATER // 4
        self.extra = {'socket': asyncio.trsock.TransportSocket(sock)}
        for name, address in (('sockname', sock.getsockname), ('peername', sock.getpeername)):
            try:
                self.extra[name] = address()
            except OSError:  # the peer has closed the connection already
                self.extra[name] = None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass
        self.protocol = protocol
        self.resume_reading()  # the loop polls the socket in its next iteration at the earliest
        self.sock = sock
        try:
            protocol.connection_made(self)
        except BaseException:
            self.pause_reading()
            self._drop_unsent()
            self.closing = self.is_lost = True
            self.sock = None
            raise

    def __del__(self):
        if self.sock is not None:
            warnings.warn(f'unclosed transport {self!r}', ResourceWarning, source=self)
            self.sock.close()

    def __repr__(self):
        state = 'closed' if self.sock is None else 'closing' if self.closing else 'open'
        return f'<{type(self).__name__} {state} {self.extra["sockname"]} - {self.extra["peername"]}>'

    # --- reading ---

    def _readable(self):
        """Called by the loop when data, the end of the stream, or an error waits."""
        cdef bytes data
        cdef Py_ssize_t n = ROOM
        cdef int i
        for i in range(MOST_PIECES):
            if n < ROOM or not self.reading:
                break
            data = self._fetch(&n)
            if n > 0:
                try:
                    check = self.check
                    if self.receive is None:
                        self.protocol.data_received(data)
                    elif self.receive(self.splitter, data, self.addr):
                        check(n)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as ex:
                    self._fail('data_received', ex)
            elif n == 0:
                self._on_end()
            elif n != -EAGAIN and n != -EINTR:
                self._lose(OSError(-n, os.strerror(-n)))

    def bypass(self, receive, splitter, addr, check) -> None:
        """Call ``receive(splitter, data, addr)`` with each piece from now on, not the protocol's ``data_received``.

        If it returns true, ``check`` is called with the number of bytes. A new protocol ends this.
        """
        self.receive, self.splitter, self.addr, self.check = receive, splitter, addr, check

    cdef bytes _fetch(self, Py_ssize_t *n):
        # A separate function, so that the buffer is off the stack before the protocol is called.
        cdef char[ROOM] buffer
        n[0] = c_recv(self.fd, buffer, ROOM, MSG_DONTWAIT)
        if n[0] < 0:
            n[0] = -errno
            return None
        return PyBytes_FromStringAndSize(buffer, n[0])

    cdef _on_end(self):
        """Close the connection, unless the protocol wants to send more."""
        self.pause_reading()
        self.peer_ended = True
        try:
            stays_open = self.protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as ex:
            self._fail('eof_received', ex)
            return
        if not stays_open:
            self.close()

    def pause_reading(self) -> None:
        """Stop reading; the peer is stopped when the buffers of the system are full."""
        if self.reading:
            self.reading = False
            self.loop.remove_reader(self.fd)

    def resume_reading(self) -> None:
        """Read again, after `pause_reading`."""
        if not self.closing and not self.reading and not self.peer_ended:
            self.loop.add_reader(self.fd, self._readable)
            self.reading = True

    def is_reading(self) -> bool:
        """Return whether data is read."""
        return self.reading

    # --- writing ---

    cpdef write(self, data):
        """Send bytes, or keep those that the system does not accept now.

        Raises TypeError unless they are bytes, and RuntimeError after `write_eof`.
        """
        cdef bytes piece
        cdef Py_ssize_t n
        if type(data) is bytes:
            piece = data
        elif isinstance(data, (bytes, bytearray, memoryview)):
            piece = bytes(data)
        else:
            raise TypeError(f'A stream carries bytes, not {type(data).__name__}')
        if self.ended:
            raise RuntimeError('Cannot write after write_eof()')
        if not piece or self.is_lost:
            return
        n = 0
        if not self.unsent:
            n = self._send(piece, 0)
            if n == PyBytes_GET_SIZE(piece) or self.is_lost:
                return
            self.n_sent = n
            self.loop.add_writer(self.fd, self._writable)
        self.unsent.append(piece)
        self.unsent_size += len(piece) - n
        self._check_flow()

    def writelines(self, pieces) -> None:
        """Send several pieces."""
        self.write(b''.join(pieces))

    cdef Py_ssize_t _send(self, bytes piece, Py_ssize_t start) except -1:
        """Give bytes to the system; return the number that it accepted. An error closes the connection."""
        cdef Py_ssize_t n = c_send(
            self.fd, PyBytes_AS_STRING(piece) + start, PyBytes_GET_SIZE(piece) - start, ER_SEND_FLAGS
        )
        cdef int error = errno if n < 0 else 0
        if error and error != EAGAIN and error != EINTR:
            self._lose(OSError(error, os.strerror(error)))
        return max(n, 0)

    def _writable(self):
        """Called by the loop when the system accepts bytes again."""
        cdef bytes piece
        cdef Py_ssize_t n
        if not self.unsent:
            return
        if len(self.unsent) > 1 and len(self.unsent[0]) <= SHORT:
            self._join()
        piece = self.unsent[0]
        n = self._send(piece, self.n_sent)
        if self.is_lost:
            return
        self.unsent_size -= n
        self.n_sent += n
        if self.n_sent == len(piece):
            self.unsent.popleft()
            self.n_sent = 0
        if not self.unsent:
            self.loop.remove_writer(self.fd)
        self._check_flow()
        if not self.unsent:
            if self.closing:
                self._schedule_loss(None)
            elif self.ended:
                self._shut_down()

    cdef _join(self):
        """Make one piece of the first short ones; a long one is not copied."""
        parts = [self.unsent.popleft()[self.n_sent:]]
        size = len(parts[0])
        while self.unsent and len(self.unsent[0]) <= SHORT and size < MOST_JOINED:
            parts.append(self.unsent.popleft())
            size += len(parts[-1])
        self.unsent.appendleft(b''.join(parts))
        self.n_sent = 0

    cdef _drop_unsent(self):
        if self.unsent:
            self.unsent.clear()
            self.unsent_size = self.n_sent = 0
            self.loop.remove_writer(self.fd)

    def can_write_eof(self) -> bool:
        """Return True: this side of the stream can be closed alone."""
        return True

    def write_eof(self) -> None:
        """Close this side of the stream after the unsent bytes were sent; the peer may still send."""
        if not self.closing and not self.ended:
            self.ended = True
            if not self.unsent:
                self._shut_down()

    cdef _shut_down(self):
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as ex:
            self._lose(ex)

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
        try:
            if not self.paused and self.unsent_size > self.high:
                self.paused = True
                self.protocol.pause_writing()
            elif self.paused and self.unsent_size <= self.low:
                self.paused = False
                self.protocol.resume_writing()
        except Exception as ex:
            self._report('pause_writing' if self.paused else 'resume_writing', ex)

    # --- closing ---

    def is_closing(self) -> bool:
        """Return whether the transport is closed or closing."""
        return self.closing

    def close(self) -> None:
        """Stop reading, send the unsent bytes, then close the socket."""
        if not self.closing:
            self.pause_reading()
            self.closing = True
            if not self.unsent:
                self._schedule_loss(None)

    def abort(self) -> None:
        """Close the socket at once, without sending the unsent bytes."""
        if self.sock is not None and self.loop.is_closed():
            self.closing = self.is_lost = True
            self.reading = False
            self.sock.close()
            self.sock = None
        else:
            self._lose(None)

    cdef _lose(self, error):
        """Close the socket at once."""
        if self.is_lost or self.sock is None:
            return
        self.pause_reading()
        self.closing = True
        self._drop_unsent()
        self._schedule_loss(error)

    cdef _schedule_loss(self, error):
        if not self.is_lost:
            self.is_lost = True
            self.loop.call_soon(self._close_socket, error)

    def _close_socket(self, error):
        if self.sock is not None:
            try:
                self.protocol.connection_lost(error)
            except Exception as ex:
                self._report('connection_lost', ex)
            finally:
                self.sock.close()
                self.sock = None
                self.receive = self.check = self.splitter = None  # they refer to this object

    cdef _fail(self, method, error):
        """Report an exception of the protocol, which cannot go on."""
        self._report(method, error)
        self._lose(error)

    cdef _report(self, method, error):
        self.loop.call_exception_handler({
            'message': f'{method}() failed', 'exception': error, 'transport': self, 'protocol': self.protocol
        })

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
        self.receive = self.check = self.splitter = self.addr = None
