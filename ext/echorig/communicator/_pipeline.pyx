# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""What happens for every message: from the exchange to the transport, and from the transport to who waits.

1. Every call into the exchange is followed by `flush`, which sends what it wants sent and wakes whose send has ended.
2. What is new is confirmed before anybody is told of it.
3. There is one timer for each communicator, armed only while something is waited for. The clock is the system's
   monotonic one: that of uvloop stands still during a turn and counts milliseconds. Before anything expires, the loop
   reads its sockets once more: it may have been this program that stood still.
4. With a key, everything is signed just before it is sent, and checked before anything else looks at it.
5. A message that lay here for longer than its sender waits for its echo is not delivered. For datagrams the transport
   knows how long that was; for others, the loop is asked whether it stood still, and then the sender whether it waits.
6. Errors are left to the `SendObserver`, which knows words for them.
"""

import logging
from asyncio import Future, InvalidStateError, get_running_loop
from time import monotonic


from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.contextvars cimport get_value

from echorig.wire._codec cimport is_raw
from echorig.events._dispatch cimport Dispatcher
from echorig.events._reply_context cimport Origin, Question
from echorig.events._reply_context import asking as _asking
from echorig.events._reply_context import current as _current
from echorig.security._signature import OVERHEAD as _OVERHEAD
from echorig.wire._framing cimport FrameSplitter
from echorig.delivery._exchange cimport Exchange
from echorig.delivery._send cimport Send
from echorig.delivery._verdicts cimport (
    V_CONFIRMED, V_DAMAGED, V_DELIVER, V_ECHO, V_EXPIRED, V_NOTICE, V_REFUSED, V_STORM,
)
from echorig.security._signing cimport F_HANDSHAKE, Signer
from echorig.wire._tags cimport TAG_SIZE, read_answered
from echorig.checks import seconds as _checked_seconds
from echorig.errors import EchoError, MessageTooLongError
from echorig.security.redaction import LazyFrame, redact_frame
from echorig.stall import StallMonitor, after_poll
from echorig.uri import address_text

cdef extern from *:
    """
    #ifdef __linux__
    #include <time.h>
    /* What time.monotonic() returns on Linux; elsewhere it goes by other clocks, so there it is asked. */
    static double er_monotonic(PyObject *monotonic)
    {
        struct timespec now;
        (void)monotonic;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    }
    #else
    static double er_monotonic(PyObject *monotonic)
    {
        PyObject *now = PyObject_CallNoArgs(monotonic);
        double seconds = now ? PyFloat_AsDouble(now) : -1.0;
        Py_XDECREF(now);
        return seconds;
    }
    #endif
    """
    Py_ssize_t PY_SSIZE_T_MAX
    double er_monotonic(object monotonic) except -1.0

cdef object _monotonic = monotonic
cdef object _running_loop = get_running_loop
cdef object INFO = logging.INFO
cdef int EXPINTERRUPT = 16
cdef double NEVER = float('inf')
cdef double LONGEST_SLEEP = 3600.0  # seconds; a timeout may be infinite, a timer may not
cdef double LATE = 0.05  # seconds; a timer that comes so late says that this program stood still
cdef Py_ssize_t LONG_PIECE = 4096  # bytes; after a shorter one the socket is empty
cdef double RECENT = 0.02  # seconds
cdef double SHORTEST_SLEEP = 0.001  # seconds; uvloop would round less down to nothing and call again and again


cdef inline double _now() except -1.0:
    return er_monotonic(_monotonic)


cdef _check_whole(bytes frame):
    """Refuse text or bytes that would be joined with, or cut from, the messages around them on a stream."""
    if FrameSplitter(len(frame)).feed(frame) != [frame]:
        raise ValueError(f'Over TCP, text that starts with [ must be one whole JSON array, not {redact_frame(frame)!r}')


cdef class MessagePipeline:
    """Carries the frames of one communicator.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The loop that it all runs on.
    exchange : Exchange
        The rules.
    dispatcher : Dispatcher
        Takes new messages.
    receiver : FrameReceiver
        The communicator; its documented method ``_receive`` takes each frame, and leads back to `handle_frame`.
    labels : Labels
        The names and the words of errors.
    logger : logging.Logger
        The logger of the program.
    log : SafeLog
        The same one, whose methods raise nothing.
    log_limit : LogLimit
        Limits how much peers can have logged.
    connected : bool
        Whether the transport has but one peer.
    longest : int
        The largest frame, in bytes.
    datagrams : bool
        Whether the transport sends datagrams.
    signer : Signer, optional
        The signatures, if there is a key.

    Attributes
    ----------
    transport : asyncio.BaseTransport or None
        Takes everything that is sent, except by a server over TCP.
    connections : dict
        The connections of a server over TCP, by address.
    observer : SendObserver
        Takes sends that did not end in the ordinary way.
    on_refused, on_unsigned, on_write, source_of : callable
        Take a refused message, a frame without a right signature, and how many bytes were written while a peer does not
        read; return the address of a datagram as the communicator writes it.
    max_message_size : callable
        Returns the buffer size of peers, in bytes.
    closed, lost_transport : bool
        Whether the communicator was closed, and whether its only transport is gone.
    lost_because : BaseException or None
        Why it is gone, or cannot be made again.
    reconnects : bool
        Whether a lost transport is made again.
    busy_poll : float
        For how long the loop does not sleep after a client's send or a server's receipt, in seconds.
    n_paused : int
        How many connections do not take what is written.
    awake : bool
        Whether the loop is kept from sleeping at this moment.
    current_send : Send or None
        What is being sent for the first time at this moment: an error that the system reports is of an earlier datagram.
    current_addr : tuple or None
        Where a datagram is being sent to at this moment; the loops report an error of the system without it.
    exposed_futures : dict
        The futures of sends that a program has looked up.
    legacy_sends : dict
        The pairs of message and future that a program has put into ``_last_sent``.
    """

    cdef readonly object loop
    cdef readonly Exchange exchange
    cdef readonly Signer signer     # None without a key
    cdef readonly object log
    cdef public object transport, observer, on_refused, on_unsigned, on_write, source_of, max_message_size
    cdef public bint closed, lost_transport, reconnects
    cdef public object lost_because
    cdef public double busy_poll
    cdef public int n_paused
    cdef readonly object current_addr
    cdef readonly Send current_send
    cdef readonly dict exposed_futures
    cdef readonly dict legacy_sends
    cdef readonly dict connections
    cdef object given, source       # the sender of the last datagram, as the transport and as the communicator writes it
    cdef Dispatcher dispatcher
    cdef object receiver, labels, log_limit, identity
    cdef object future
    cdef dict levels
    cdef bint datagrams, connected
    cdef Py_ssize_t longest
    cdef object timer
    cdef double armed               # when the timer goes off
    cdef readonly bint awake        # the loop is kept from sleeping,
    cdef double awake_until         # until then
    cdef object polling             # what expires when the sockets have been read once more
    cdef object stalls              # tells how long the loop stood still, where the transport does not know
    cdef double fresh_at            # when a message came that was read at once
    cdef bint arriving              # what is being received has just come from the transport
    cdef bint releasing             # what was doubted is being received
    cdef object timing              # the transport, if it knows how long each datagram lay in the socket

    def __init__(
        self, loop, Exchange exchange not None, Dispatcher dispatcher not None, receiver, labels, logger, log, log_limit,
        *, bint connected, Py_ssize_t longest, bint datagrams, Signer signer=None,
    ):
        self.loop = loop
        self.exchange = exchange
        self.dispatcher = dispatcher
        self.identity = dispatcher.receiver
        self.receiver = receiver
        self.labels = labels
        self.log = log
        self.log_limit = log_limit
        self.connected = connected
        self.longest = longest if signer is None else longest - _OVERHEAD
        self.datagrams = datagrams
        self.signer = signer
        self.armed = NEVER
        # Where a logger keeps what isEnabledFor() has found; it empties the table when a level is set.
        self.levels = getattr(logger, '_cache', None) if type(logger) is logging.Logger else None
        self.connections = {}
        self.exposed_futures = {}
        self.legacy_sends = {}
        # A future of asyncio, made without naming its loop, costs half as much; other loops have other futures.
        self.future = Future if type(loop.create_future()) is Future else None

    def start_send(self, data, bytes frame not None, addr, timeout) -> Send:
        """Send a message.

        Parameters
        ----------
        data : Any
            The message.
        frame : bytes
            The message as bytes.
        addr : tuple of (str, int)
            The peer.
        timeout : float
            How long to wait for its echo, in seconds.

        Returns
        -------
        Send
            The send, whose `waiter` is a future: done when the echo has come, or with what went wrong.

        Raises
        ------
        ValueError, TypeError, ConnectionClosedError, MessageTooLongError
            The message cannot be sent; see `EchoProtocol.confirmed_send`.
        """
        cdef Send send
        cdef double seconds = self.checked_timeout(addr, timeout)
        cdef Question question = get_value(_asking, None)
        cdef bint asks = question is not None and question.send is None
        send = self.exchange.begin(
            self.checked_frame(data, frame), addr, self._future(), _now(), seconds, not is_raw(data),
            self.reply_number(data, addr), asks,
        )
        if asks:
            question.send = send
        if send.flying:
            self.current_send = send
            try:
                self._seal_and_send(send.frame, send.addr)
            except (EchoError, OSError) as ex:
                self.observer.not_sent(send.addr, ex)
            except BaseException:
                self.exchange.cancel(send, _now())
                self.flush()
                raise
            finally:
                self.current_send = None
        if self.exchange.outbox or self.exchange.finished or self.exchange.output.alarm < self.armed:
            self.flush()
        self.stay_awake()
        return send

    cdef _future(self):
        if _running_loop() is not self.loop:
            raise RuntimeError(f'{self.labels.name} belongs to another event loop than the one that runs here')
        return self.loop.create_future() if self.future is None else self.future()

    cpdef double checked_timeout(self, addr, timeout) except -1.0:
        """Check whether a peer can be waited for now, and for how long."""
        cdef double seconds
        if type(timeout) is not float:  # a default may have been set on the class, where nobody checks it
            timeout = _checked_seconds(timeout, 'default_echo_timeout')
        seconds = timeout
        if not seconds > 0:
            raise ValueError(f'Timeout must be non-zero number of seconds, not {timeout!r}')
        if self.closed or self.lost_transport:
            self.check_open()
        if not self.datagrams and not self.connected and addr not in self.connections:
            raise self.observer.not_connected(addr)
        return seconds

    def check_open(self) -> None:
        """Raise `ConnectionClosedError` if the communicator is closed, or has lost its connection."""
        if self.closed:
            raise self.labels.closed()
        if self.lost_transport and self.connected:
            raise self.labels.lost_connection(self.reconnects, self.lost_because) from self.lost_because

    cpdef bytes checked_frame(self, data, bytes frame):
        """Check whether the transport can carry the bytes of a message."""
        if not frame:
            raise ValueError('Cannot send an empty message')
        if self.signer is not None and (is_raw(data) or frame[0] != 91):
            raise ValueError(f'With key=, only messages can be sent, which are arrays: {redact_frame(frame)!r} cannot be signed')
        if len(frame) > self.longest:
            if self.datagrams:
                where = f'a datagram carries at most {self.longest}: use a tcp:// URI'
            else:
                where = f'with its signature {self.longest} are the limit (Tuning.max_stream_message)'
            raise MessageTooLongError(f'The message has {len(frame)} bytes and {where}')
        if not self.datagrams and is_raw(data):
            _check_whole(frame)
        return frame

    cpdef long long reply_number(self, data, addr) except -2:
        """Return which message this is the answer to, or -1.

        An answer goes back to the address from which the message came that is being dealt with, and is of the same
        event, or says that it failed: the notice of a callback, or EXPINTERRUPT. There may be several, of which the asker
        takes the first. An answer is not answered.
        """
        cdef Origin origin = get_value(_current, None)
        if origin is None or origin.receiver is not self.identity or origin.answers != -1 or origin.addr != addr:
            return -1
        if isinstance(data, (tuple, list)) and data and isinstance(data[0], int):
            if data[0] == origin.event or data[0] == 0 or data[0] == EXPINTERRUPT:  # the last two say that it failed
                return origin.number
        return -1

    def send_unconfirmed(self, bytes frame not None, addr, bint taggable, long long answered=-1) -> None:
        """Send a message whose echo nobody waits for.

        Parameters
        ----------
        frame : bytes
            The message, from :meth:`checked_frame`.
        addr : tuple of (str, int)
            The peer.
        taggable : bool
            Whether it is an array that was encoded here.
        answered : int
            What :meth:`reply_number` says.

        Raises
        ------
        OSError, ConnectionClosedError
            The transport did not take it, or too many messages wait for this peer.
        """
        frame = self.exchange.sent(frame, addr, _now(), taggable, answered)
        if frame is not None:
            self._seal_and_send(frame, self.exchange.place(addr))
        else:
            self.flush()

    # --- receiving; nothing gets out of here into the event loop ---

    cpdef datagram_received(self, data, addr):
        """Take a datagram.

        Parameters
        ----------
        data : bytes
            The datagram.
        addr : tuple
            Where it came from, as the transport writes it.
        """
        if addr is not self.given:  # a transport that can gives the same object for the same sender
            source = self.source_of(addr, data)
            if source is None:
                return
            self.given = addr
            self.source = source
        self.arriving = self.timing is not None or self.stalls is not None
        self._receive(data, self.source, True)

    cpdef bint stream_received(self, FrameSplitter splitter, data, addr) except -1:
        """Take a piece of a stream.

        Parameters
        ----------
        splitter : FrameSplitter
            That of the connection.
        data : bytes
            The piece.
        addr : tuple of (str, int)
            Where it came from.

        Returns
        -------
        bool
            Whether the connection needs attention: a message is too large, or not complete, or the piece was long.
        """
        cdef bytes piece = data if type(data) is bytes else bytes(data)
        for frame in splitter.feed(piece):
            self.arriving = self.stalls is not None
            self._receive(frame, addr, True)
        return splitter.overflow or splitter.depth != 0 or PyBytes_GET_SIZE(piece) >= LONG_PIECE

    cpdef replay(self, bytes frame, addr):
        """Take a frame that was held back, and has no signature any more."""
        self._receive(frame, addr, False)

    cdef _receive(self, frame, addr, bint sealed):
        if self.closed:
            return
        try:
            if self.signer is not None and sealed:
                frame = self.opened(frame, addr)
                if frame is None:
                    return
            self.receiver._receive(frame, addr)
        except RuntimeWarning as ex:  # warnings turned into errors by the program; it has been logged
            self.log.debug('%s', ex)
        except Exception:
            self.log.exception('A message from %s:%s could not be processed', addr[0], addr[1])

    cpdef handle_frame(self, bytes frame, addr):
        """Confirm a new message and give it to its listeners, or wake the send that a frame is the echo of.

        Parameters
        ----------
        frame : bytes
            The frame.
        addr : tuple of (str, int)
            Where it came from.
        """
        cdef Exchange exchange = self.exchange
        cdef Py_ssize_t n = PyBytes_GET_SIZE(frame)
        cdef double now = _now(), waited = 0.0 if self.arriving else -1.0
        cdef long long identity
        cdef int kind
        if self.legacy_sends and self.observer.match_legacy_echo(frame, addr):
            return
        if n < 2 or frame[n - 1] != 93 or frame[n - 2] > 32:  # no tag before a bracket: it may have been cut short
            exchange.set_max_size(self.max_message_size())
        elif self.arriving and n > TAG_SIZE + 1 and (frame[n - 1 - TAG_SIZE] != 9 or exchange.doubts.n_doubted):  # no mere echo
            # What is read so soon behind a message that had just come has just come, too: nothing overtakes in a socket.
            if now - self.fresh_at > RECENT:
                waited = self.timing.waited if self.timing is not None else self.stalls.stood_still()
                if waited < RECENT:
                    self.fresh_at = now - waited
        self.arriving = False
        if not self.connected:
            self.stay_awake()
        kind = exchange.sort(frame, addr, now, waited, self.timing is not None)
        identity = exchange.identity
        if exchange.ended is not None:
            send = exchange.ended
            exchange.ended = None
            self._wake(send)
        if (kind == V_DELIVER or kind == V_ECHO) and exchange.reply is not None:
            try:
                self._seal_and_send(exchange.reply, addr)
            except Exception as ex:
                if self.log_limit.allows('echoes that were not sent', addr):
                    self.log.warning('No echo sent to %s:%s: %s', addr[0], addr[1], ex)
        if exchange.finished or exchange.outbox or exchange.output.alarm < self.armed:
            self.flush()
        if kind == V_DELIVER or kind == V_NOTICE:
            if self._logs_info():
                self.log.info('Received %r from %s', LazyFrame(frame), address_text(self.labels.protocol, addr))
            self.dispatcher.deliver(frame, addr, identity, -1 if identity < 0 else self._answers(frame))
        elif kind == V_REFUSED:
            self.on_refused(frame, addr)
        elif kind == V_STORM:
            if self.log_limit.allows('frames that keep coming back', addr):
                self.log.warning('Dropped %d bytes from %s:%s that keep coming back', n, addr[0], addr[1])
        elif kind == V_DAMAGED:
            if self.log_limit.allows('frames that were damaged on their way', addr):
                self.log.warning('Dropped %d bytes from %s:%s that were damaged on their way', n, addr[0], addr[1])
        elif kind == V_EXPIRED:
            if self.log_limit.allows('messages that came too late', addr):
                self.log.warning(
                    'Dropped %s from %s:%s: this program read it after %.3f s, when its sender no longer waited',
                    LazyFrame(frame), addr[0], addr[1], waited,
                )
        if exchange.settled and not self.releasing:
            self._release()

    cdef _release(self):
        """Take in the messages of which it was in doubt whether they are still wanted."""
        self.releasing = True
        try:
            while (wanted := self.exchange.doubts.next_wanted(_now())) is not None:
                self.handle_frame(wanted[0], wanted[1])
        finally:
            self.releasing = False
        self.flush()

    cdef long long _answers(self, bytes frame) except -2:
        """Return which message of ours a message answers: -1 if it names none, 0 if one of another program."""
        cdef long long answered = read_answered(frame)
        if answered < 0:
            return -1
        return answered if self.exchange.output.is_own(<unsigned int>(answered >> 32)) else 0

    cpdef flush(self):
        """Send what is to be sent and wake those whose send has ended."""
        cdef Exchange exchange = self.exchange
        while exchange.outbox or exchange.finished:
            if exchange.outbox:
                frame, addr = exchange.outbox.pop(0)
                self._send(frame, addr)
            else:
                self._wake(exchange.finished.pop(0))
        if exchange.output.alarm < self.armed:
            self._arm(exchange.output.alarm)

    cdef _send(self, bytes frame, addr):
        try:
            self._seal_and_send(frame, addr)
        except Exception as ex:
            self.observer.not_sent(addr, ex)

    # --- signatures ---

    cdef bytes opened(self, bytes frame, addr):
        """Take the signature off a frame; None if it is not for the exchange."""
        cdef Signer signer = self.signer
        frame = signer.open(frame, addr, _now())
        if signer.outbox:
            self._flush_signer()
        if frame is None and signer.verdict != F_HANDSHAKE:
            self.on_unsigned(addr, signer.verdict)
        return frame

    cdef _flush_signer(self):
        """Send what waited for a session, and what begins one."""
        while self.signer.outbox:
            frame, addr = self.signer.outbox.pop(0)
            try:
                self._transmit(frame, addr)
            except Exception as ex:
                self.observer.not_sent(addr, ex)

    cdef _seal_and_send(self, bytes frame, addr):
        """Sign a frame, if there is a key, and give it to the transport."""
        if self.signer is not None:
            frame = self.signer.seal(frame, addr, _now())
            if self.signer.outbox:
                self._flush_signer()
            if frame is None:
                return
        self._transmit(frame, addr)

    cdef _transmit(self, bytes frame, addr):
        """Give a frame to the transport."""
        transport = self.transport
        if not self.datagrams:
            if not self.connected:
                connection = self.connections.get(addr)
                transport = None if connection is None else connection.transport
            if transport is None or transport.is_closing() is True:
                raise self.observer.not_connected(addr)
            transport.write(frame)
            if self.n_paused:
                self.on_write(PyBytes_GET_SIZE(frame))
        elif transport is None:
            raise self.observer.not_connected(addr)
        elif self.connected:
            transport.sendto(frame)
        else:
            self.current_addr = addr
            try:
                transport.sendto(frame, addr)
            finally:
                self.current_addr = None

    cdef bint _logs_info(self) except -1:
        """Tell whether what is of level INFO is logged."""
        if self.levels is not None:
            if self.levels.get(INFO) is False:
                return False
        return self.log.isEnabledFor(INFO)

    def write_all(self) -> None:
        """Write what waits for streams that are about to be closed."""
        self.exchange.write_all()
        self.flush()

    cdef _wake(self, Send send):
        if self.signer is not None and self.signer.holding:
            self.signer.drop(send.frame, send.addr)  # it has ended, and must not be sent later
        if send.outcome == V_CONFIRMED and not send.truncated and not self.exposed_futures:
            try:
                send.waiter.set_result(True)
            except InvalidStateError:  # it was cancelled, and its task has not run yet
                pass
            if self._logs_info():
                self.log.info('Confirmation received')
        else:
            self.observer.complete(send)

    # --- the timer ---

    cdef _arm(self, double when):
        self._disarm()
        self.armed = when
        delay = min(max(when - _now(), SHORTEST_SLEEP), LONGEST_SLEEP)
        self.timer = self.loop.call_later(delay, self._tick)

    cdef _disarm(self):
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.polling is not None:
            self.polling.cancel()
            self.polling = None
        self.armed = NEVER

    def _tick(self):
        cdef double late = _now() - self.armed
        self.timer = None
        self.armed = -NEVER  # there is no need of a timer until then
        self.polling = after_poll(self.loop, self._expire, self._count_received if late > LATE else None)

    def _count_received(self):
        return self.exchange.n_received

    def _expire(self):
        self.polling = None
        self.armed = NEVER
        self.exchange.expire(_now())
        self.flush()
        if self.exchange.settled and not self.releasing:
            self._release()

    def watch_stalls(self, wanted=True) -> None:
        """Begin or cease to look whether the loop stands still, where the transport does not time what comes.

        Parameters
        ----------
        wanted : bool
            Whether to begin.
        """
        transport = self.transport if wanted else None
        self.timing = transport if getattr(transport, 'knows_age', None) is True else None
        if wanted and self.timing is None and self.stalls is None:
            self.stalls = StallMonitor.of(self.loop)
            self.stalls.subscribe(self._count_received)
        elif not wanted and self.stalls is not None:
            self.stalls.unsubscribe(self._count_received)
            self.stalls = None

    # --- busy polling ---
    # Waking a process that sleeps takes the system several times as long as a round trip. A loop that has something
    # to do in its next turn does not sleep, so for a while there is always something.

    cpdef stay_awake(self):
        """Keep the loop from sleeping for `busy_poll` seconds."""
        if self.busy_poll <= 0.0:
            return
        self.awake_until = _now() + self.busy_poll
        if not self.awake:
            self.awake = True
            self.loop.call_soon(self._turn)

    def _turn(self):
        # A client has nothing to wait for once everything is confirmed; a server never knows.
        if self.closed or _now() >= self.awake_until or (self.connected and not self.exchange.transmitter.waiting):
            self.awake = False
        else:
            self.loop.call_soon(self._turn)

    def close(self) -> None:
        """End every send."""
        self._disarm()
        self.watch_stalls(False)
        if self.exchange.n_held:
            self.log.warning('%d messages were not sent: an earlier one was still to be confirmed', self.exchange.n_held)
        if self.signer is not None and self.signer.holding:
            self.log.warning(
                '%d messages were not sent: the other end had not proven yet that it has the key', self.signer.holding
            )
        self.exchange.lose_all(_now())
        self.flush()
