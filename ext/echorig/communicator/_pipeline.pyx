# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""`MessagePipeline`: carries frames between the exchange, the transport and the listeners.

1. After every call into the exchange, `flush` sends what the exchange has to send and completes the sends that ended.
2. A new message is confirmed before its listeners are called.
3. Each communicator has one timer, armed only while a send is waiting. The clock is the system's monotonic one: that of
   uvloop stands still during a loop iteration and counts milliseconds. Before anything expires, the loop reads its
   sockets once more, because this program itself may have stood still.
4. With a key, a frame is signed just before it is sent, and verified before anything else looks at it.
5. A message that lay here for longer than its sender waits for the echo is not delivered. The transport knows that time
   for datagrams. For streams, the loop is asked whether it stood still, and then the sender whether it still waits.
6. A message for a certain time is confirmed at once, and delivered by `ScheduledMessages`.
7. Errors are reported by the `SendObserver`.
"""

cimport cython

import logging
from asyncio import Future, InvalidStateError, get_running_loop

from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.contextvars cimport get_value
from cpython.method cimport PyMethod_Check, PyMethod_GET_FUNCTION
from cpython.object cimport PyObject_Call
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.time cimport monotonic

from echorig.wire._codec cimport is_raw
from echorig.events._dispatch cimport Dispatcher
from echorig.events._reply_context cimport OutgoingRequest, RequestContext
from echorig.events._reply_context import outgoing_request as _outgoing_request
from echorig.events._reply_context import current_request as _current_request
from echorig.security._signature import OVERHEAD as _OVERHEAD
from echorig.wire._framing cimport FrameSplitter
from echorig.delivery._exchange cimport Exchange
from echorig.delivery._peer cimport Send
from echorig.delivery._verdicts cimport (
    O_CONFIRMED, O_WAITING, V_DAMAGED, V_DELIVER, V_ECHO, V_ERROR_NOTICE, V_EXPIRED, V_NO_CAPACITY, V_RATE_LIMITED,
)
from echorig.journal._records cimport Recorder
from echorig.security._signing cimport F_HANDSHAKE, Signer
from echorig.wire._tags cimport FIELD_SIZE, TAG_SIZE, add_time, read_reply_number, read_time
from echorig.errors import EchoError, MessageTooLongError
from echorig.security.redaction import LazyFrame, redact_frame
from echorig.stall import READER_TURNS as _READER_TURNS
from echorig.stall import StallMonitor, after_poll
from echorig.uri import address_text

cdef object _running_loop = get_running_loop
cdef object INFO = logging.INFO
cdef int EXPINTERRUPT = 16
cdef double NEVER = float('inf')
cdef double LONGEST_SLEEP = 3600.0  # seconds; a time-out may be infinite, a timer may not
cdef double LATE = 0.05  # seconds; a timer that fires so late shows that this program stood still
cdef Py_ssize_t LONG_PIECE = 4096  # bytes; after a shorter piece the socket is empty
cdef double RECENT = 0.02  # seconds
cdef int MOST_FLUSHING = 20
cdef double SHORTEST_SLEEP = 0.001  # seconds; uvloop rounds less down to 0 and calls again and again


cdef _check_one_frame(bytes frame):
    """Refuse bytes that the receiver of a stream would join with, or cut from, the messages around them."""
    if FrameSplitter(len(frame)).feed(frame) != [frame]:
        raise ValueError(f'Over TCP, text that starts with [ must be one whole JSON array, not {redact_frame(frame)!r}')


cdef _first(list items):
    """Remove and return the first item, mostly the only one; this is faster than `pop`."""
    item = items[0]
    if len(items) == 1:
        items.clear()
    else:
        del items[0]
    return item


@cython.final
cdef class PreparedSend:
    """A send of one of several communicators, made by `MessagePipeline.prepare_send`."""

    cdef readonly Send send
    cdef MessagePipeline pipeline


def send_prepared(list prepared not None) -> None:
    """Give the frames of several communicators to the system, one right after the other, then do everything else."""
    cdef PreparedSend one
    for item in prepared:
        if type(item) is not PreparedSend or (<PreparedSend>item).pipeline is None:
            raise TypeError(f'Only sends of prepare_send can be sent, not {item!r}')
    for one in prepared:
        try:
            one.pipeline.send_first(one.send)
        except Exception as ex:  # of one transport; the others are sent to
            if not one.send.future.done():
                one.send.future.set_exception(ex)
    for one in prepared:
        one.pipeline.after_send()


cdef class MessagePipeline:
    """Carries the frames of one communicator."""

    cdef readonly object loop
    cdef readonly Exchange exchange         # the rules
    cdef readonly Signer signer             # None without a key
    cdef readonly object log                # a logger whose methods raise nothing
    cdef public object transport            # sends everything, except over the connections of a TCP server
    cdef readonly dict connections          # by address, over TCP
    cdef public Recorder journal            # notes every message, unless None
    cdef public object observer             # SendObserver: completes sends that did not end in the ordinary way
    cdef public object on_refused           # called with each refused message and its address
    cdef public object on_unsigned          # called with the address and the verdict of a frame without a valid signature
    cdef public object on_write             # called with the number of bytes written while a connection is paused
    cdef public object on_activity          # called after a client's send and before a server's receipt, unless None
    cdef public object on_alarm             # called when a send has waited for long or has timed out, unless None
    cdef public object route                # sends a frame to an address while a client looks for its server, unless None
    cdef public object source_of            # returns the address of a datagram as the communicator writes it
    cdef public object max_message_size     # returns the buffer size of peers, in bytes
    cdef public object scheduled            # ScheduledMessages: delivers messages at a certain time
    cdef public bint closed                 # the communicator was closed
    cdef public bint lost_transport         # the only transport is gone
    cdef public object disconnect_error     # why it is gone, or cannot be made again
    cdef public bint reconnects             # a lost transport is made again
    cdef public int n_paused                # connections that do not accept writes
    cdef readonly Send current_send         # sent for the first time now: an error of the system is of an earlier datagram
    cdef readonly bytes current_frame       # being given to the transport: an error of the system means that it was not sent
    cdef readonly object current_addr       # the loops report an error of the system without its address
    cdef readonly dict exposed_futures      # the futures of sends that a program has looked up in `_last_sent`
    cdef readonly dict legacy_sends         # the pairs of message and future that a program has put into `_last_sent`
    cdef object raw_source, source          # the sender of the last datagram, as the transport and the communicator write it
    cdef Dispatcher dispatcher              # takes new messages
    cdef object receiver                    # FrameReceiver: its documented hook `_receive` calls `handle_frame`
    cdef object plain_receive               # the function of that hook, unless a program has replaced it
    cdef object receiver_id, labels, log_limit
    cdef unsigned long thread               # that of the loop
    cdef dict loop_option                   # of a future, if that of asyncio can be used; this is faster than the loop
    cdef dict levels                        # where the logger caches which levels are enabled
    cdef bint datagrams, connected          # a transport of datagrams; a transport with one peer
    cdef Py_ssize_t longest                 # bytes of the largest frame
    cdef object timer, expiring             # the timer; after it fired, what waits for the sockets to be read
    cdef double armed                       # when the timer fires
    cdef double fired_at                    # when it has fired; frames that arrived before are read before `_expire`
    cdef object stall_monitor               # measures how long the loop stood still, where the transport does not
    cdef object timed_transport             # the transport, if it knows how long each frame lay in the socket, or was on its way
    cdef bint estimates                     # it only estimates that; frames of several senders arrive in any order
    cdef double fresh_at                    # when a message arrived that was read at once
    cdef unsigned long long n_pieces        # of streams that were received
    cdef bint arriving                      # the frame being received has just come from the transport
    cdef int n_flushing                     # calls of `flush` inside of each other
    cdef bint releasing                     # doubted messages are being received

    def __init__(
        self, loop, Exchange exchange not None, Dispatcher dispatcher not None, receiver, labels, logger, log, log_limit,
        *, plain_receive, bint connected, Py_ssize_t longest, bint datagrams, Signer signer=None,
    ):
        self.loop = loop
        self.thread = PyThread_get_thread_ident()
        self.exchange = exchange
        self.dispatcher = dispatcher
        self.receiver_id = dispatcher.receiver_id
        self.receiver = receiver
        self.plain_receive = plain_receive
        self.labels = labels
        self.log = log
        self.log_limit = log_limit
        self.connected = connected
        self.longest = longest if signer is None else longest - _OVERHEAD
        self.datagrams = datagrams
        self.signer = signer
        self.armed = NEVER
        # Where a logger caches the results of isEnabledFor(); it clears the cache when a level is set.
        self.levels = getattr(logger, '_cache', None) if type(logger) is logging.Logger else None
        self.connections = {}
        self.exposed_futures = {}
        self.legacy_sends = {}
        self.loop_option = {'loop': loop} if type(loop.create_future()) is Future else None

    # --- sending ---

    def start_send(self, data, bytes frame not None, addr, double timeout) -> Send:
        """Send a message, given as object and as bytes; the `waiter` of the send is done when the echo arrives."""
        cdef Send send = self._register(data, frame, addr, timeout, get_value(_outgoing_request, None))
        self.send_first(send)
        self.after_send()
        return send

    cdef Send _register(self, data, bytes frame, addr, double timeout, OutgoingRequest request):
        """Start a send, whose frame is still to be sent if it is `in_flight`."""
        cdef Send send
        cdef bint asks = request is not None and request.send is None
        cdef long long answered
        self.check_can_send(addr)
        frame = self.checked_frame(data, frame)
        answered = self.reply_number(data, addr)
        if answered >= 0:
            frame = self._timed_answer(frame)
        send = self.exchange.start_send(
            frame, addr, self._future(), monotonic(), timeout, not is_raw(data), answered, asks
        )
        if asks:
            request.send = send
        if self.journal is not None:  # the frame of a send that waits for its turn has no number yet
            sent = send.frame if send.in_flight else send
            self.journal.message('sent' if answered < 0 else 'answered', sent, PyBytes_GET_SIZE(frame), addr)
        return send

    cdef send_first(self, Send send):
        """Send the frame of a new send, if its turn has come."""
        if send.in_flight and send.outcome == O_WAITING:
            self.current_send = send
            try:
                self._seal_and_send(send.frame, send.addr)
            except (EchoError, OSError) as ex:
                self.observer.not_sent(send.addr, ex)
            except BaseException:
                self.exchange.cancel(send, monotonic())
                self.flush()
                raise
            finally:
                self.current_send = None

    cdef after_send(self):
        if self.exchange.outbox or self.exchange.finished or self.exchange.transmitter.alarm < self.armed:
            self.flush()
        if self.on_activity is not None:
            self.on_activity()

    def prepare_send(self, data, bytes frame not None, addr, double timeout, OutgoingRequest request) -> PreparedSend:
        """Start a send as `start_send` does, whose frame `send_prepared` will send."""
        cdef PreparedSend prepared = PreparedSend.__new__(PreparedSend)
        prepared.send = self._register(data, frame, addr, timeout, request)
        prepared.pipeline = self
        return prepared

    cdef _future(self):
        # Not `get_running_loop`, which makes a system call before Python 3.12, as does a future made without its loop.
        if PyThread_get_thread_ident() != self.thread or not self.loop.is_running():
            if _running_loop() is not self.loop:
                raise RuntimeError(f'{self.labels.name} belongs to another event loop than the one that runs here')
            self.thread = PyThread_get_thread_ident()  # the loop runs in another thread now
        return PyObject_Call(Future, (), self.loop_option) if self.loop_option is not None else self.loop.create_future()

    cpdef check_can_send(self, addr):
        """Raise an error if no message can be sent to a peer now."""
        if self.closed or self.lost_transport:
            self.check_open()
        if not self.datagrams and not self.connected and addr not in self.connections:
            raise self.observer.not_connected(addr)

    def check_open(self) -> None:
        """Raise `ConnectionClosedError` if the communicator is closed, or has lost its connection."""
        if self.closed:
            raise self.labels.closed()
        if self.lost_transport and self.connected:
            raise self.labels.lost_connection(self.reconnects, self.disconnect_error) from self.disconnect_error

    cpdef bytes checked_frame(self, data, bytes frame):
        """Check whether the transport can carry the bytes of a message."""
        if not frame:
            raise ValueError('Cannot send an empty message')
        if self.signer is not None and (is_raw(data) or frame[0] != 91):
            raise ValueError(f'With key=, only messages can be sent, which are arrays: {redact_frame(frame)!r} cannot be signed')
        if len(frame) > self.longest:
            if self.datagrams:
                where = f'a datagram carries at most {self.longest}: use a tcp:// URI'
                if self.estimates:
                    where = f'the broker accepts at most {self.longest} (its max_payload)'
            else:
                where = f'with its signature {self.longest} are the limit (Tuning.max_stream_message)'
            raise MessageTooLongError(f'The message has {len(frame)} bytes and {where}')
        if not self.datagrams and is_raw(data):
            _check_one_frame(frame)
        return frame

    cpdef long long reply_number(self, data, addr) except -2:
        """Return the number of the message that this one answers, or -1.

        An answer goes back to the sender of the message that is being processed, and has the same event or reports a
        failure: the notice of a callback, or EXPINTERRUPT. There may be several; the requester uses the first. An answer
        is not answered.
        """
        cdef RequestContext context = get_value(_current_request, None)
        if context is None or context.receiver_id is not self.receiver_id:
            return -1
        if context.in_reply_to != -1 or context.addr != addr:
            return -1
        if isinstance(data, (tuple, list)) and data and isinstance(data[0], int):
            if data[0] == context.event or data[0] == 0 or data[0] == EXPINTERRUPT:
                return context.message_id
        return -1

    cdef bytes _timed_answer(self, bytes frame):
        """Return an answer, with the time at which the callbacks ran if they were to run at a certain time."""
        cdef RequestContext context = get_value(_current_request, None)
        if context is None or not context.time or len(frame) + FIELD_SIZE > self.longest:
            return frame
        return add_time(frame, context.time)

    def send_unconfirmed(self, bytes frame not None, addr, bint taggable, long long answered=-1) -> None:
        """Send a frame from `checked_frame` whose echo nobody waits for; only an array encoded here is taggable."""
        cdef bytes given
        if answered >= 0:
            frame = self._timed_answer(frame)
        given = frame
        frame = self.exchange.send_unconfirmed(frame, addr, monotonic(), taggable, answered)
        if self.journal is not None:
            if frame is None and answered >= 0:  # it will get its number later
                self.journal.note('answered', given, addr, reply_to=f'{answered >> 32}:{answered & 0xFFFFFFFF}')
            else:
                sent = given if frame is None else frame
                self.journal.message('sent' if answered < 0 else 'answered', sent, PyBytes_GET_SIZE(given), addr)
        if frame is not None:
            self._seal_and_send(frame, self.exchange.current_addr(addr))
        else:
            self.flush()

    def set_longest(self, Py_ssize_t n_bytes) -> None:
        """Set the bytes of the largest frame that the transport carries."""
        # Each message is tagged, may answer another one, and may tell the time at which that one was run.
        n_bytes -= TAG_SIZE + 2 * FIELD_SIZE
        self.longest = n_bytes if self.signer is None else n_bytes - _OVERHEAD

    # --- receiving; no error gets from here into the event loop ---

    cpdef datagram_received(self, data, addr):
        """Receive a datagram."""
        if addr is not self.raw_source:  # a transport that can gives the same object for the same sender
            source = self.source_of(addr, data)
            if source is None:
                return
            self.raw_source = addr
            self.source = source
        self.arriving = self.timed_transport is not None or self.stall_monitor is not None
        self._receive(data, self.source, True)

    def receive_from(self, transport, data, addr) -> bool:
        """Receive a datagram by another transport of a client; return whether it is an echo of ours."""
        cdef unsigned long long n_echoes = self.exchange.n_echoes
        timed_transport = self.timed_transport
        if timed_transport is not None:
            self.timed_transport = transport
        self.arriving = timed_transport is not None or self.stall_monitor is not None
        try:
            self._receive(data, addr, True)
        finally:
            self.timed_transport = timed_transport
        return self.exchange.n_echoes != n_echoes

    cpdef bint stream_received(self, FrameSplitter splitter, data, addr) except -1:
        """Receive a piece of a stream; return whether the connection needs attention.

        It does if a message is too large or incomplete, or if the piece was long.
        """
        cdef bytes piece = data if type(data) is bytes else bytes(data)
        self.n_pieces += 1
        for frame in splitter.feed(piece):
            self.arriving = self.stall_monitor is not None
            self._receive(frame, addr, True)
        return splitter.overflow or splitter.depth != 0 or PyBytes_GET_SIZE(piece) >= LONG_PIECE

    cpdef receive_verified(self, bytes frame, addr):
        """Receive a frame that was held back, whose signature was verified and removed before."""
        self._receive(frame, addr, False)

    cdef _receive(self, frame, addr, bint sealed):
        if self.closed:
            return
        try:
            if self.signer is not None and sealed:
                frame = self._unseal(frame, addr)
                if frame is None:
                    return
            hook = self.receiver._receive
            if PyMethod_Check(hook) and <object>PyMethod_GET_FUNCTION(hook) is self.plain_receive:
                self.handle_frame(frame, addr)  # as that function does
            else:
                hook(frame, addr)
        except RuntimeWarning as ex:  # a warning that the program turns into an error; it is already logged
            self.log.debug('%s', ex)
        except Exception:
            self.log.exception('A message from %s:%s could not be processed', addr[0], addr[1])

    cpdef handle_frame(self, bytes frame, addr):
        """Confirm a new message and deliver it, or complete the send that the frame is the echo of."""
        cdef Exchange exchange = self.exchange
        cdef Py_ssize_t n = PyBytes_GET_SIZE(frame)
        cdef double now = monotonic(), waited = 0.0 if self.arriving else -1.0
        cdef long long identity, answered, time
        cdef int kind
        if self.legacy_sends and self.observer.match_legacy_echo(frame, addr):
            return
        if n < 2 or frame[n - 1] != 93 or frame[n - 2] > 32:  # no tag before a bracket: maybe truncated
            exchange.set_max_size(self.max_message_size())
        elif self.arriving and n > TAG_SIZE + 1 and (frame[n - 1 - TAG_SIZE] != 9 or exchange.expiry_checks.n_unverified):  # not just an echo
            # A frame read so soon after one that had just arrived has just arrived, too: a socket keeps the order.
            if self.estimates:
                waited = self.timed_transport.waited
            elif now - self.fresh_at > RECENT:
                waited = self.timed_transport.waited if self.timed_transport is not None else self.stall_monitor.stall_time()
                if waited < RECENT:
                    self.fresh_at = now - waited
        self.arriving = False
        if self.on_activity is not None and not self.connected:
            self.on_activity()
        kind = exchange.classify(frame, addr, now, waited, self.timed_transport is not None and not self.estimates)
        identity = exchange.identity
        if (kind == V_DELIVER or kind == V_ECHO or kind == V_ERROR_NOTICE) and exchange.reply is not None:
            try:
                self._seal_and_send(exchange.reply, addr)
            except Exception as ex:
                if self.log_limit.should_log('echoes that were not sent', addr):
                    self.log.warning('No echo sent to %s:%s: %s', addr[0], addr[1], ex)
        if exchange.finished or exchange.outbox or exchange.transmitter.alarm < self.armed:
            self.flush()
        if kind == V_DELIVER or kind == V_ERROR_NOTICE:
            if self.journal is not None:
                self.journal.message('received' if kind == V_DELIVER else 'notice', frame, n, addr)
            if self._logs_info():
                self.log.info('Received %r from %s', LazyFrame(frame), address_text(self.labels.protocol, addr))
            answered = -1 if identity < 0 else self._answers(frame)
            time = 0 if identity < 0 else read_time(frame)
            if self.scheduled is not None and (self.scheduled.waiting or (time and answered < 0)):
                self.scheduled.add(frame, addr, identity, answered, time)
            else:
                self.dispatcher.deliver(frame, addr, identity, answered, time)
        elif kind == V_NO_CAPACITY:
            self.on_refused(frame, addr)
        elif kind == V_RATE_LIMITED or kind == V_DAMAGED or kind == V_EXPIRED:
            self._log_dropped(kind, frame, addr, waited)
        if exchange.expiry_checks.answered_peers and not self.releasing:
            self._release()

    cdef _log_dropped(self, int kind, bytes frame, addr, double waited):
        if kind == V_RATE_LIMITED:
            what, reason = 'frames that keep coming back', 'they keep coming back'
        elif kind == V_DAMAGED:
            what, reason = 'frames that were damaged on their way', 'they were damaged on their way'
        else:
            what = 'messages that came too late'
            reason = f'this program read the message after {waited:.3f} s, when its sender no longer waited'
        if self.log_limit.should_log(what, addr):
            shown = LazyFrame(frame) if kind == V_EXPIRED else f'{len(frame)} bytes'
            self.log.warning('Dropped %s from %s:%s: %s', shown, addr[0], addr[1], reason)

    cdef _release(self):
        """Deliver the doubted messages whose senders still wait."""
        self.releasing = True
        try:
            while (wanted := self.exchange.expiry_checks.next_verified(monotonic())) is not None:
                self.handle_frame(wanted[0], wanted[1])
        finally:
            self.releasing = False
        self.flush()

    cdef long long _answers(self, bytes frame) except -2:
        """Return the number of our message that a frame answers: -1 if none, 0 if it is of another program."""
        cdef long long answered = read_reply_number(frame)
        if answered < 0:
            return -1
        return answered if self.exchange.transmitter.is_own(<unsigned int>(answered >> 32)) else 0

    cpdef flush(self):
        """Send the frames in the outbox and complete the sends that ended."""
        cdef Exchange exchange = self.exchange
        if self.n_flushing >= MOST_FLUSHING:  # frames to many peers that are gone: the calls above go on
            return
        self.n_flushing += 1
        try:
            while exchange.outbox or exchange.finished:
                if exchange.outbox:
                    frame, addr = _first(exchange.outbox)
                    self._send(frame, addr)
                else:
                    self._wake(_first(exchange.finished))
        finally:
            self.n_flushing -= 1
        if exchange.transmitter.alarm < self.armed:
            self._arm(exchange.transmitter.alarm)

    cdef _send(self, bytes frame, addr):
        try:
            self._seal_and_send(frame, addr)
        except Exception as ex:
            self.observer.not_sent(addr, ex)

    # --- signatures ---

    cdef bytes _unseal(self, bytes frame, addr):
        """Verify and remove the signature of a frame; return None if the frame is not for the exchange."""
        cdef Signer signer = self.signer
        frame = signer.open(frame, addr, monotonic())
        if signer.outbox:
            self._flush_signer()
        if frame is None and signer.verdict != F_HANDSHAKE:
            self.on_unsigned(addr, signer.verdict)
        return frame

    cdef _flush_signer(self):
        """Send handshakes, and the frames that waited for a session."""
        while self.signer.outbox:
            frame, addr = self.signer.outbox.pop(0)
            try:
                self._transmit(frame, addr)
            except Exception as ex:
                self.observer.not_sent(addr, ex)

    cdef _seal_and_send(self, bytes frame, addr):
        """Sign a frame, if there is a key, and give it to the transport."""
        cdef bytes sealed = frame
        if self.signer is not None:
            sealed = self.signer.seal(frame, addr, monotonic())
            if self.signer.outbox:
                self._flush_signer()
            if sealed is None:
                return
        self.current_frame = frame
        try:
            self._transmit(sealed, addr)
        finally:
            self.current_frame = None

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
            if self.route is None:
                transport.sendto(frame)
            else:
                self.route(frame, addr)
        else:
            self.current_addr = addr
            try:
                transport.sendto(frame, addr)
            finally:
                self.current_addr = None

    cdef bint _logs_info(self) except -1:
        """Return whether messages of level INFO are logged."""
        if self.levels is not None:
            if self.levels.get(INFO) is False:
                return False
        return self.log.isEnabledFor(INFO)

    def write_all(self) -> None:
        """Write the messages that wait for streams, before these close."""
        self.exchange.release_paced()
        self.flush()

    cdef _wake(self, Send send):
        if self.signer is not None and self.signer.n_held:
            self.signer.drop(send.frame, send.addr)  # it must not be sent after its end
        if self.journal is not None and send.outcome == O_CONFIRMED and send.pings is None:
            self.journal.message(
                'confirmed', send.frame, PyBytes_GET_SIZE(send.frame), send.addr, send.round_trip,
                1 + send.n_retransmissions,
            )
        if send.outcome == O_CONFIRMED and not send.truncated and not self.exposed_futures:
            try:
                send.future.set_result(True)
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
        delay = min(max(when - monotonic(), SHORTEST_SLEEP), LONGEST_SLEEP)
        self.timer = self.loop.call_later(delay, self._tick)

    cdef _disarm(self):
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.expiring is not None:
            self.expiring.cancel()
            self.expiring = None
        self.armed = NEVER

    def _tick(self):
        self.fired_at = monotonic()
        cdef double late = self.fired_at - self.armed, due = self.exchange.next_due()
        self.timer = None
        if due > self.fired_at:
            self.exchange.transmitter.alarm = due
            self.armed = NEVER
            if due < NEVER:
                self._arm(due)
            return
        self.armed = -NEVER  # no timer is needed until `_expire`
        progress = self.count_received if late > LATE else None
        # A frame from a broker passes through several tasks.
        self.expiring = after_poll(self.loop, self._expire, progress, _READER_TURNS if self.estimates else 0)

    def count_received(self):
        """Return a number that grows as long as there is more to read, also within a long message."""
        return self.exchange.n_received + self.n_pieces

    def _expire(self):
        self.expiring = None
        self.armed = NEVER
        self.exchange.expire(monotonic(), self.fired_at)  # the program may have stood still since then
        self.flush()
        if self.on_alarm is not None:
            self.on_alarm()
        if self.exchange.expiry_checks.answered_peers and not self.releasing:
            self._release()

    def watch_stalls(self, wanted=True) -> None:
        """Start or stop measuring how long the loop stands still, where the transport does not measure it."""
        transport = self.transport if wanted else None
        self.estimates = getattr(transport, 'estimates_age', None) is True
        self.timed_transport = transport if self.estimates or getattr(transport, 'knows_age', None) is True else None
        if wanted and self.timed_transport is None and self.stall_monitor is None:
            self.stall_monitor = StallMonitor.of(self.loop)
            self.stall_monitor.subscribe(self.count_received)
        elif not wanted and self.stall_monitor is not None:
            self.stall_monitor.unsubscribe(self.count_received)
            self.stall_monitor = None

    def close(self) -> None:
        """Fail every send that is not confirmed."""
        self._disarm()
        self.watch_stalls(False)
        if self.scheduled is not None:
            self.scheduled.close()
        if self.exchange.n_deferred:
            self.log.warning('%d messages were not sent: an earlier one was still to be confirmed', self.exchange.n_deferred)
        if self.signer is not None and self.signer.n_held:
            self.log.warning(
                '%d messages were not sent: the other end had not proven yet that it has the key', self.signer.n_held
            )
        self.exchange.disconnect_all(monotonic())
        self.flush()
