# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""`PeerTable`: the peers by address and by program; who has moved, who was restarted, and who is forgotten."""

from collections import deque

from echorig.delivery._doubts cimport Doubts
from echorig.delivery._output cimport RUNS, Output
from echorig.delivery._peer cimport ECHORIG, UNKNOWN, Peer, Run
from echorig.delivery._send cimport Send
from echorig.delivery._transmitter cimport Transmitter
from echorig.wire._tags cimport Tag, read_answered

cdef Py_ssize_t MANY = 256
cdef double NO_ROOM = 0.01  # seconds before it is looked for again where there was none, which takes a while
cdef Py_ssize_t MAX_FORGOTTEN = 2**20  # runs of which only the number is kept


cdef class PeerTable:
    """All the peers of one exchange."""

    def __init__(self, Output output not None, Transmitter transmitter not None, Doubts doubts not None):
        self.output = output
        self.transmitter = transmitter
        self.doubts = doubts
        self.settled = doubts.settled
        self.limits = output.limits
        self.stream = transmitter.stream
        self.peers = output.peers
        self.moved = {}
        self.runs = {}
        self.former = {}
        self.forgotten = set()
        self.begun = -1.0

    cdef remove(self, Peer peer, addr):
        """Forget a peer whose connection is gone."""
        self.last_addr = self.last_peer = None
        del self.peers[peer.addr]
        peer.gone = True
        for former in [former for former, moved in self.moved.items() if moved is peer]:
            del self.moved[former]
        if peer.run is not None and self.stream:  # the next connection to the same address shows whether it was restarted
            if len(self.former) >= MANY:
                self.former.clear()
            self.former[addr] = peer.run, peer.n_restarts

    # --- inside ---

    cdef Peer find(self, addr):
        """Return the peer at an address, or the one that was there and has moved; None if there is neither."""
        cdef Peer peer
        # Often the same object: shells keep the addresses that they give.
        if addr is self.last_addr and self.last_peer is not None:
            return self.last_peer
        peer = self.peers.get(addr)
        if peer is None and self.moved:
            peer = self.moved.get(addr)
        if peer is not None:
            self.last_addr = addr
            self.last_peer = peer
        return peer

    cdef Peer get_or_add(self, addr, double now):
        """Return the peer at an address, to which something is sent."""
        cdef Peer peer = self.find(addr)
        if peer is None:
            self._has_room(now)  # if not, the program waits for more peers than it may remember
            peer = self._new_peer(addr, now)
        peer.active = now
        return peer

    cdef Peer _new_peer(self, addr, double now):
        cdef Peer peer = Peer()
        self.peers[addr] = peer
        if self.begun < 0.0:
            self.begun = now
        peer.addr = addr
        peer.active = now
        peer.kind_since = self.output.number
        if self.limits.signed:
            peer.kind = ECHORIG
        if self.former:
            before = self.former.pop(addr, None)
            if before is not None:
                peer.run, peer.n_restarts = before
                peer.run.peer = peer
        self.last_addr = addr
        self.last_peer = peer
        return peer

    cdef Peer find_or_admit(self, addr, double now):
        """Return the peer at an address from which something came; None if it is a stranger and there is no room."""
        cdef Peer peer
        if addr is self.last_addr and self.last_peer is not None and self.last_peer.addr == addr:
            return self.last_peer
        peer = self.peers.get(addr)
        if peer is None:
            if not self._has_room(now):
                self.n_turned_away += 1
                return None
            former = self.moved.pop(addr, None)  # another program is there now
            peer = self._new_peer(addr, now)
            peer.former = former
            return peer
        self.last_addr = addr
        self.last_peer = peer
        return peer

    cdef bint _has_room(self, double now) except -1:
        """Tell whether another peer can be remembered, and forget some so that it can."""
        if self.stream or len(self.peers) < self.limits.max_peers:
            return True
        if now < self.full_until:
            return False
        if self._forget_idle():
            return True
        self.full_until = now + NO_ROOM
        return False

    cdef Py_ssize_t _forget_idle(self) except -1:
        """Forget about an eighth of the peers, those first that have confirmed nothing; count them."""
        cdef Py_ssize_t room = max(1, self.limits.max_peers // 8), n_confirmed = 0
        cdef Peer peer
        strangers = []
        confirmed = []
        for addr, peer in self.peers.items():
            if peer.n_confirmed:
                n_confirmed += 1
            if not peer.is_busy():
                (confirmed if peer.n_confirmed else strangers).append((peer.active, len(strangers), addr))
        strangers.sort()
        gone = strangers[:room]
        if n_confirmed > self.limits.max_peers - room:  # strangers need some room too
            confirmed.sort()
            gone += confirmed[:n_confirmed - (self.limits.max_peers - room)]
        for _, _, addr in gone:
            peer = self.peers.pop(addr)
            peer.gone = True
        if gone:
            self.moved = {addr: peer for addr, peer in self.moved.items() if (<Peer>peer).addr in self.peers}
        self.last_addr = self.last_peer = None
        self.n_forgotten += len(gone)
        return len(gone)

    cdef Peer sender_of(self, Tag *tag, addr, double now):
        """Return the peer that a message of another program is from; None if there is no room for a stranger."""
        cdef Peer peer
        cdef Run run
        if self.stream:
            peer = self.find_or_admit(addr, now)
            if peer.run is None or peer.run.run != tag.run:
                self.succeed(peer, self.new_run(tag.run, now))
            self.last_run = peer.run
            self.last_run.latest = tag.number
            return peer
        run = self.last_run
        if run is None or run.run != tag.run:
            run = self.runs.get(tag.run)
        if run is None:
            run = self.new_run(tag.run, now)
            peer = None if run is None else self.find_or_admit(addr, now)
            if peer is None:
                if run is None:
                    self.n_turned_away += 1
                else:
                    del self.runs[tag.run]
                return None
            self.succeed(peer, run)
        elif self.holder(run) is None:
            # Where another program is by now, or was, this is a late message; else its peer was forgotten.
            peer = self.find(addr) if tag.number <= run.latest else None
            if peer is None:
                peer = self.find_or_admit(addr, now)
                if peer is None:
                    return None
            if peer.run is None:
                peer.run = run
                run.peer = peer
        else:
            peer = run.peer
            if peer.addr != addr and tag.number > run.latest:
                self.move(peer, addr, now)
        if tag.number > run.latest:
            run.latest = tag.number
            run.heard_before = self.output.position(self.output.run, self.output.number)
        run.used_at = now
        self.last_run = run
        return peer

    cdef Run new_run(self, unsigned int number, double now):
        """Return a program that was not met before, and forget others if there are too many.

        Of a program whose messages were received the run stays: nobody knows any more which these were, so none is accepted.
        None is returned for such a one, and for any other when so many were forgotten.
        """
        cdef Run run
        cdef Peer peer
        cdef Py_ssize_t limit = 16 * self.limits.max_peers
        if not self.stream and self.forgotten and (number in self.forgotten or len(self.forgotten) >= MAX_FORGOTTEN):
            return None
        run = Run()
        run.run = number
        run.used_at = now
        if self.stream:
            return run
        if len(self.runs) >= limit:
            idle = []
            for one in self.runs.values():
                peer = self.holder(one)
                if peer is None or not peer.n_confirmed:
                    idle.append(one)
            idle.sort(key=_used_at)
            for one in idle[:max(1, limit // 8)]:
                number = (<Run>one).run
                del self.runs[number]
                if (<Run>one).used:
                    self.forgotten.add(number)
                peer = (<Run>one).peer
                if peer is not None and peer.run is one:
                    peer.run = None
            self.last_run = None
        self.runs[run.run] = run
        return run

    cdef Peer holder(self, Run run):
        """Return the peer that a program is; None once that is gone, or another program has taken its place.

        The peer has this run, or one beside it: the numbers of a program come to their end, and its next run begins.
        """
        cdef Peer peer = run.peer
        if peer is not None and (peer.gone or peer.run is None or (peer.run.run - run.run + 1) & RUNS > 2):
            run.peer = peer = None
        return peer

    cdef succeed(self, Peer peer, Run run):
        """Take in that a program is where another was, or none."""
        cdef Run before = peer.run
        if before is not None:
            if before.run == (run.run + 1) & RUNS:  # a late one of those before its numbers came to their end
                return
            before.peer = None
            if run.run != (before.run + 1) & RUNS:  # else the numbers of the same program have come to their end
                peer.n_restarts += 1
        peer.run = run
        run.peer = peer

    cdef identify(self, Peer peer, bytes frame, unsigned long long asked, double now):
        """Take in which program has answered the ping of a position."""
        cdef long long program = read_answered(frame)
        cdef unsigned int number
        cdef Peer holder
        cdef Run run
        if program < 0 or self.output.is_own(<unsigned int>(program >> 32)):
            return
        number = <unsigned int>(program >> 32)
        run = self.runs.get(number)
        if run is None:
            # A late echo says who was there when its ping came.
            if peer.run is None or (peer.run.run != number and asked >= peer.run.heard_before):
                run = self.new_run(number, now)
                if run is not None:
                    run.heard_before = asked + 1
                    self.succeed(peer, run)
            return
        holder = self.holder(run)
        if holder is None:
            if peer.run is None:
                peer.run = run
                run.peer = peer
        elif holder is not peer and asked >= run.heard_before:  # else it may have moved on since
            self.move(holder, peer.addr, now)
        if asked >= run.heard_before:
            run.heard_before = asked + 1

    cdef move(self, Peer peer, addr, double now):
        """Take in that a program has another address; who was there is gone, or the same program."""
        cdef Peer other = self.peers.pop(addr, None)
        before = peer.addr
        del self.peers[before]
        self.moved.pop(addr, None)
        self.last_addr = self.last_peer = None
        self._place(peer, addr)
        peer.quotes = other is not None and other.quotes  # of who is there, since what quotes has no run
        if len(self.moved) >= self.limits.max_peers:
            del self.moved[next(iter(self.moved))]
        self.moved[before] = peer
        if other is not None:
            self._join(peer, other)
            self.transmitter.transmit_waiting(peer, now)

    cdef _place(self, Peer peer, addr):
        cdef Send send
        peer.addr = addr
        self.peers[addr] = peer
        for send in [*peer.flying, *(peer.queue or ())]:
            send.addr = addr

    cdef _join(self, Peer peer, Peer other):
        """Take over what is on its way to a peer that was at the same address."""
        cdef Send send
        other.gone = True
        peer.flying += other.flying
        if other.queue:
            peer.queue = deque(sorted([*(peer.queue or ()), *other.queue], key=_started))
        if other.held:
            peer.held = deque([*(peer.held or ()), *other.held])
        if other.due:
            peer.due = [*(peer.due or ()), *other.due][-self.limits.max_due:]
        if other.doubted:
            peer.doubted = deque([*(peer.doubted or ()), *other.doubted])
            peer.doubted_size += other.doubted_size
            other.doubted = None
            if other in self.settled and peer not in self.settled:
                self.settled.append(peer)
        if other.unechoed_at > peer.unechoed_at:
            peer.unechoed = other.unechoed
            peer.unechoed_at = other.unechoed_at
        if other.last_seen > peer.last_seen:
            peer.last_seen = other.last_seen
            peer.heard = True
            if other.kind != UNKNOWN:
                peer.kind = other.kind
                peer.kind_since = other.kind_since
        if peer.kind == UNKNOWN and other.kind == UNKNOWN:
            peer.kind_since = min(peer.kind_since, other.kind_since)  # the echo of an earlier ping counts, too
        if peer.kind == ECHORIG and peer.probes is not None:
            peer.probes = None
        if peer.srtt == 0.0:
            peer.srtt = other.srtt
            peer.rttvar = other.rttvar
        peer.min_rtt = min(peer.min_rtt, other.min_rtt)
        peer.n_sent += other.n_sent
        peer.n_confirmed += other.n_confirmed
        peer.n_failed += other.n_failed
        peer.n_retransmitted += other.n_retransmitted
        peer.n_duplicates += other.n_duplicates
        peer.n_strays += other.n_strays
        peer.n_malformed += other.n_malformed
        peer.n_restarts += other.n_restarts
        peer.n_damaged += other.n_damaged
        peer.n_expired += other.n_expired
        if other.run is not None:
            if (other.run.run - peer.run.run + 1) & RUNS > 2:  # of another program, which this one has replaced
                peer.n_restarts += 1
            else:
                other.run.peer = peer
        for addr, moved in self.moved.items():
            if moved is other:
                self.moved[addr] = peer


def _used_at(Run run):
    return run.used_at


def _started(Send send):
    return send.started
