# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""`PeerTable`: the peers by address and by program. It detects new addresses and restarts, and forgets idle peers."""

from collections import deque

from echorig.delivery._expiry cimport ExpiryChecks
from echorig.delivery._peer cimport ECHORIG, UNKNOWN, Peer, Run, Send
from echorig.delivery._transmitter cimport RUNS, Transmitter
from echorig.wire._tags cimport Tag, read_reply_number

cdef Py_ssize_t MAX_CLOSED_RUNS = 256
cdef double NO_ROOM = 0.01  # back-off after a failed eviction, in seconds
cdef Py_ssize_t MAX_FORGOTTEN_RUNS = 2**20  # of which only the number is kept


cdef class PeerTable:
    """All the peers of one exchange."""

    def __init__(self, Transmitter transmitter not None, ExpiryChecks expiry_checks not None):
        self.transmitter = transmitter
        self.expiry_checks = expiry_checks
        self.limits = transmitter.limits
        self.stream = transmitter.stream
        self.peers = transmitter.peers
        self.moved = {}
        self.runs = {}
        self.closed_runs = {}
        self.forgotten_runs = set()
        self.first_used_at = -1.0

    cdef remove(self, Peer peer, addr):
        """Forget a peer whose connection is closed."""
        self.last_addr = self.last_peer = None
        del self.peers[peer.addr]
        peer.removed = True
        self.moved = {former: moved for former, moved in self.moved.items() if moved is not peer}
        if peer.run is not None and self.stream:  # the next connection to the same address shows whether it was restarted
            if len(self.closed_runs) >= MAX_CLOSED_RUNS:
                self.closed_runs.clear()
            self.closed_runs[addr] = peer.run, peer.n_restarts

    cdef inherit(self, former, addr):
        """Let the next connection to an address count as one to the former address of the same server."""
        if former in self.closed_runs:
            self.closed_runs[addr] = self.closed_runs.pop(former)

    cdef Peer find(self, addr):
        """Return the peer at an address, or the one that has moved from there, or None."""
        cdef Peer peer
        # Often the same object: transports reuse address objects.
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
        """Return the peer at an address to which something is sent."""
        cdef Peer peer = self.find(addr)
        if peer is None:
            self._has_room(now)  # if not, sends to all peers are waiting
            peer = self._add(addr, now)
        peer.active_at = now
        return peer

    cdef Peer _add(self, addr, double now):
        """Add a peer."""
        cdef Peer peer = Peer()
        self.peers[addr] = peer
        if self.first_used_at < 0.0:
            self.first_used_at = now
        peer.addr = addr
        peer.active_at = now
        peer.kind_since = self.transmitter.number
        if self.limits.signed:
            peer.kind = ECHORIG
        if self.closed_runs:
            before = self.closed_runs.pop(addr, None)
            if before is not None:
                peer.run, peer.n_restarts = before
                peer.run.peer = peer
        self.last_addr = addr
        self.last_peer = peer
        return peer

    cdef Peer find_or_admit(self, addr, double now):
        """Return the peer at an address from which a frame was received; None if there is no room for a new one."""
        cdef Peer peer
        if addr is self.last_addr and self.last_peer is not None and self.last_peer.addr == addr:
            return self.last_peer
        peer = self.peers.get(addr)
        if peer is None:
            if not self._has_room(now):
                self.n_turned_away += 1
                return None
            predecessor = self.moved.pop(addr, None)  # another program is there now
            peer = self._add(addr, now)
            peer.predecessor = predecessor
            return peer
        self.last_addr = addr
        self.last_peer = peer
        return peer

    cdef bint _has_room(self, double now) except -1:
        """Return whether there is room for another peer; forget some if necessary."""
        if self.stream or len(self.peers) < self.limits.max_peers:
            return True
        if now < self.full_until:
            return False
        if self._forget_idle_peers():
            return True
        self.full_until = now + NO_ROOM
        return False

    cdef Py_ssize_t _forget_idle_peers(self) except -1:
        """Forget an eighth of the peers, unconfirmed ones first; return how many."""
        cdef Py_ssize_t room = max(1, self.limits.max_peers // 8), n_confirmed = 0
        cdef Peer peer
        unconfirmed = []
        confirmed = []
        for addr, peer in self.peers.items():
            if peer.n_confirmed:
                n_confirmed += 1
            if not peer.is_busy():
                (confirmed if peer.n_confirmed else unconfirmed).append((peer.active_at, len(unconfirmed), addr))
        unconfirmed.sort()
        evicted = unconfirmed[:room]
        if n_confirmed > self.limits.max_peers - room:  # unconfirmed peers need some room too
            confirmed.sort()
            evicted += confirmed[:n_confirmed - (self.limits.max_peers - room)]
        for _, _, addr in evicted:
            peer = self.peers.pop(addr)
            peer.removed = True
        if evicted:
            self.moved = {addr: peer for addr, peer in self.moved.items() if (<Peer>peer).addr in self.peers}
        self.last_addr = self.last_peer = None
        self.n_forgotten += len(evicted)
        return len(evicted)

    cdef Peer find_sender(self, Tag *tag, addr, double now):
        """Return the peer that sent a message with a tag; None if there is no room for a new one."""
        cdef Peer peer
        cdef Run run
        if self.stream:
            peer = self.find_or_admit(addr, now)
            if peer.run is None or peer.run.run != tag.run:
                self._set_run(peer, self._add_run(tag.run, now))
            self.last_run = peer.run
            self.last_run.latest = tag.number
            return peer
        run = self.last_run
        if run is None or run.run != tag.run:
            run = self.runs.get(tag.run)
        if run is None:
            run = self._add_run(tag.run, now)
            peer = None if run is None else self.find_or_admit(addr, now)
            if peer is None:
                if run is None:
                    self.n_turned_away += 1
                else:
                    del self.runs[tag.run]
                return None
            self._set_run(peer, run)
        elif self._peer_of(run) is None:
            # The message is a late one of a program that was replaced, or its peer was forgotten.
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
                self._move(peer, addr, now)
        if tag.number > run.latest:
            run.latest = tag.number
            run.our_position = self.transmitter.position(self.transmitter.run, self.transmitter.number)
        run.used_at = now
        self.last_run = run
        return peer

    cdef Run _add_run(self, unsigned int number, double now):
        """Add a program that was not seen before; None if it was forgotten, or too many were.

        A program whose messages were received is remembered by its number after it was forgotten. Which messages these
        were is not known any more, so none is accepted.
        """
        cdef Run run
        if not self.stream and self.forgotten_runs:
            if number in self.forgotten_runs or len(self.forgotten_runs) >= MAX_FORGOTTEN_RUNS:
                return None
        run = Run()
        run.run = number
        run.used_at = now
        if not self.stream:
            if len(self.runs) >= 16 * self.limits.max_peers:
                self._forget_idle_runs()
            self.runs[number] = run
        return run

    cdef Py_ssize_t _forget_idle_runs(self) except -1:
        """Forget an eighth of the programs, the longest idle, but none of a confirmed peer; return how many."""
        cdef Peer peer
        cdef Run run
        idle = []
        for run in self.runs.values():
            peer = self._peer_of(run)
            if peer is None or not peer.n_confirmed:
                idle.append(run)
        idle.sort(key=_used_at)
        idle = idle[:2 * self.limits.max_peers]
        for run in idle:
            del self.runs[run.run]
            if run.has_accepted:
                self.forgotten_runs.add(run.run)
            if run.peer is not None and run.peer.run is run:
                run.peer.run = None
        self.last_run = None
        return len(idle)

    cdef Peer _peer_of(self, Run run):
        """Return the peer of a program; None if it was removed, or another program is there now.

        The peer has this run or an adjacent one: after its last number, a program goes on with the next run.
        """
        cdef Peer peer = run.peer
        if peer is not None and (peer.removed or peer.run is None or (peer.run.run - run.run + 1) & RUNS > 2):
            run.peer = peer = None
        return peer

    cdef _set_run(self, Peer peer, Run run):
        """Record which program a peer is."""
        cdef Run before = peer.run
        if before is not None:
            if before.run == (run.run + 1) & RUNS:  # a late message of the run before
                return
            before.peer = None
            if run.run != (before.run + 1) & RUNS:  # else it is the next run of the same program
                peer.n_restarts += 1
        peer.run = run
        run.peer = peer

    cdef on_ping_echo(self, Peer peer, bytes frame, unsigned long long position, double now):
        """Record which program has echoed our ping of a position."""
        cdef long long program = read_reply_number(frame)
        cdef unsigned int number
        cdef Peer holder
        cdef Run run
        if program < 0 or self.transmitter.is_own(<unsigned int>(program >> 32)):
            return
        number = <unsigned int>(program >> 32)
        run = self.runs.get(number)
        if run is None:
            # A late echo shows which program was there when it received the ping.
            if peer.run is None or (peer.run.run != number and position >= peer.run.our_position):
                run = self._add_run(number, now)
                if run is not None:
                    run.our_position = position + 1
                    self._set_run(peer, run)
            return
        holder = self._peer_of(run)
        if holder is None:
            if peer.run is None:
                peer.run = run
                run.peer = peer
        elif holder is not peer and position >= run.our_position:  # else it may have moved since
            self._move(holder, peer.addr, now)
        if position >= run.our_position:
            run.our_position = position + 1

    cdef forget_former(self, addr):
        """Forget which peer was at an address before it moved."""
        self.moved.pop(addr, None)
        self.last_addr = self.last_peer = None

    cdef relocate(self, before, addr, double now):
        """Change the address of a peer to one from which a ping was echoed, perhaps by another program."""
        cdef Peer peer = self.find(before), other = self.peers.get(addr)
        cdef Run run = None
        if peer is not None and peer is not other:
            if other is not None:
                run, other.run = other.run, None
            self._move(peer, addr, now)
            if run is not None:
                self._set_run(peer, run)
            if peer.kind != UNKNOWN:
                peer.probes = None
                self.transmitter.transmit_waiting(peer, now)

    cdef _move(self, Peer peer, addr, double now):
        """Change the address of a peer; another peer there was replaced, or is the same program."""
        cdef Peer other = self.peers.pop(addr, None)
        cdef Send send
        before = peer.addr
        del self.peers[before]
        self.moved.pop(addr, None)
        self.last_addr = self.last_peer = None
        peer.addr = addr
        self.peers[addr] = peer
        for send in [*peer.in_flight, *(peer.queue or ())]:
            send.addr = addr
        peer.quotes_messages = other is not None and other.quotes_messages  # that of the address: MATLAB has no run
        if len(self.moved) >= self.limits.max_peers:
            del self.moved[next(iter(self.moved))]
        self.moved[before] = peer
        if other is not None:
            self._merge(peer, other)
            self.transmitter.transmit_waiting(peer, now)

    cdef _merge(self, Peer peer, Peer other):
        """Take over the messages, the state and the counters of another peer that was at the same address."""
        other.removed = True
        peer.in_flight += other.in_flight
        if other.queue:
            peer.queue = deque(sorted([*(peer.queue or ()), *other.queue], key=_started))
        if other.deferred:
            peer.deferred = deque([*(peer.deferred or ()), *other.deferred])
        if other.expected_echoes:
            peer.expected_echoes = [*(peer.expected_echoes or ()), *other.expected_echoes][-self.limits.max_expected_echoes:]
        self.expiry_checks.merge(peer, other)
        if other.unechoed_at > peer.unechoed_at:
            peer.unechoed = other.unechoed
            peer.unechoed_at = other.unechoed_at
        if other.last_seen > peer.last_seen:
            peer.last_seen = other.last_seen
            peer.seen = True
            if other.kind != UNKNOWN:
                peer.kind = other.kind
                peer.kind_since = other.kind_since
        if peer.kind == UNKNOWN and other.kind == UNKNOWN:
            peer.kind_since = min(peer.kind_since, other.kind_since)  # the echo of an earlier ping counts too
        if peer.kind == ECHORIG:
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
