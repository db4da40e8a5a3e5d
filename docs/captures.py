"""The recorded exchanges in protocol.md: ``python docs/captures.py`` prints them as they stand on the page.

The rules are the real ones, of `echorig.delivery._exchange`. The network and the clock are simulated, so that each
recording is the same every time. A test compares the page with what is printed here.
"""

from __future__ import annotations

import heapq
import itertools
import sys
from collections.abc import Callable, Iterable, Mapping

from echorig.delivery._exchange import Exchange
from echorig.delivery.verdicts import Outcome, Verdict
from echorig.tuning import InternalTuning
from echorig.wire._codec import encode, peek
from echorig.wire._tags import add_tag, is_ping, read_reply_number, read_tag, strip_tag

LATENCY = 0.001  # seconds, each way
INDENT = f'\n{"":29}'
VERDICTS = {
    Verdict.CONFIRMED: 'confirmed',
    Verdict.DELIVER: 'echoed and delivered',
    Verdict.ECHO: 'echoed, not delivered',
    Verdict.STRAY_ECHO: 'dropped',
    Verdict.MISMATCH: 'mismatch',
    Verdict.ERROR_NOTICE: 'delivered, not echoed',
    Verdict.IGNORED: 'neither echoed nor delivered',
    Verdict.RATE_LIMITED: 'dropped, storm guard',
    Verdict.DAMAGED: 'dropped, damaged',
    Verdict.EXPIRED: 'dropped, expired',
    Verdict.MAYBE_EXPIRED: 'kept until the sender has answered',
}
START = [2, '2026-01-31_1_mouse7', None]
RUNS = {0x2F6E1B03: 'A', 0x51C0A7E4: 'B', 0x0D93F2B8: 'C'}  # of the main PC; of the rig; of the rig, started again
A, B, C = RUNS


def drawn(frame: bytes) -> str:
    """Return a frame as text, with its blanks drawn."""
    found = read_tag(frame)
    text = strip_tag(frame).decode()
    if found is None:
        return text
    ack, run, number, lifetime = found
    field, answered = '', read_reply_number(frame)
    if answered >= 0:
        field = f'⟨{RUNS[answered >> 32]} {answered & 0xFFFFFFFF}⟩'
    return f'{text[:-1]}{field}⟦{"ACK " if ack else ""}{RUNS[run]} {number}{f", {lifetime} ms" if lifetime else ""}⟧]'


class Tagging:
    """An end that is echorig."""

    def __init__(self, run: int, number: int = 1, stream: bool = False) -> None:
        self.stream = stream
        self.exchange = Exchange(InternalTuning(), stream=stream, max_size=65535, run=run, number=number)

    def take(self, frame: bytes, source: str, now: float, waited: float) -> tuple[str, list[bytes]]:
        """Receive a frame that lay in the socket for a time; return what is done with it, and the replies."""
        exchange = self.exchange
        kind, restarts, expired = self.known(source)
        known_at = exchange.addresses()
        verdict = exchange.classify(frame, source, now, waited, not self.stream)
        text = 'echoed' if verdict == Verdict.ECHO and is_ping(frame) else VERDICTS[verdict]
        kind_now, restarts_now, expired_now = self.known(source)
        for addr in known_at:
            if addr not in exchange.addresses():
                text += f'; {addr} is now {exchange.current_addr(addr)}'
                kind, restarts = kind_now, restarts_now
        if expired_now > expired and verdict != Verdict.EXPIRED:
            text += '; what was kept is dropped, expired'
        if kind_now != kind:
            text += f'; {source} is {kind_now}'
        if restarts_now > restarts:
            text += f'; {source} was restarted'
        return text, [exchange.reply] if verdict in (
            Verdict.DELIVER,
            Verdict.ECHO,
        ) and exchange.reply is not None else []

    def known(self, addr: str) -> tuple[str, int, int]:
        """Return the kind of a peer, how often it was restarted, and how many messages of it have expired."""
        statistics = self.exchange.statistics(addr)
        return ('unknown', 0, 0) if statistics is None else (statistics[0], statistics[11], statistics[13])


class Plain:
    """An end that is iblutil or MATLAB: it sends the same bytes back and knows no tags."""

    exchange = None

    def take(self, frame: bytes, source: str, now: float, waited: float) -> tuple[str, list[bytes]]:
        return ('echoed and delivered' if peek(frame) > 0 else 'echoed; it is no message'), [frame]


class Recording:
    """Two ends, the network between them, and what was seen on it.

    Parameters
    ----------
    rig : Tagging or Plain
        The other end.
    met : bool
        Whether the two have spoken before.
    stream : bool
        Whether they are connected over TCP.
    lost : iterable of int
        Which datagrams are lost, counted from 0.
    again : mapping of int to list of float
        Which datagrams the network delivers again, and how much later, in seconds.
    changed : mapping of int to (bytes, bytes)
        In which datagrams the network replaces bytes, and by what.
    """

    def __init__(
        self,
        rig: Tagging | Plain | None = None,
        met: bool = True,
        stream: bool = False,
        lost: Iterable[int] = (),
        again: Mapping[int, list[float]] | None = None,
        changed: Mapping[int, tuple[bytes, bytes]] | None = None,
    ) -> None:
        self.ends: dict[str, Tagging | Plain] = {
            'main': Tagging(A, 1233 if met else 1234, stream),
            'rig': rig or Tagging(B, 1 if met else 2, stream),
        }
        self.main_at = 'main'
        self.lost: frozenset[int] = frozenset()
        self.again: Mapping[int, list[float]] = {}
        self.changed: Mapping[int, tuple[bytes, bytes]] = {}
        self.lines: list[str] = []
        self.sent = itertools.count()
        self.order = itertools.count()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.resumes_at = float('-inf')  # until then the program of the rig stands still
        self.beginning = 1.0 if stream else 0.0  # before that, two ends may have met
        self.now = self.beginning - 1.0
        if met:
            for name, other in (('main', 'rig'), ('rig', 'main')):
                end = self.ends[name]
                assert isinstance(end, Tagging)
                end.exchange.ping(other, None, self.now, 1.0)
            self.run()
            self.lines.clear()
        self.lost, self.again, self.changed = frozenset(lost), again or {}, changed or {}
        self.sent = itertools.count()
        self.now = self.beginning

    # --- what happens ---

    def send(self, who: str, message: object, timeout: float = 1.0) -> None:
        """Let one end begin a confirmed send."""
        self._exchange(who).send(encode(message), 'rig' if who == 'main' else 'main', None, self.now, timeout)

    def post_many(self, n: int) -> None:
        """Let the main PC send many messages with `send()`; the rig receives all of them."""
        exchange, rig = self._exchange('main'), self.ends['rig']
        for _ in range(n):
            frame = exchange.send_unconfirmed(encode([64, 20, None]), 'rig', self.now)
            assert frame is not None
            text, replies = rig.take(frame, 'main', self.now, 0.0)
            assert text == VERDICTS[Verdict.DELIVER]
            exchange.classify(replies[0], 'rig', self.now)
        self.note(f'main: sends {n:,} messages with send(); each is echoed and delivered')

    def restart_rig(self) -> None:
        """Start the program of the rig again."""
        self.ends['rig'] = Tagging(C)
        self.note('rig: its program is started again')

    def stop_rig(self, seconds: float) -> None:
        """Let the program of the rig stand still for a time; what comes meanwhile lies in its socket."""
        self.resumes_at = self.now + seconds

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something later, at so many seconds after the beginning."""
        self._later(self.beginning + when, action)

    def _later(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.events, (when, next(self.order), action))

    def note(self, text: str) -> None:
        """Record something that does not travel."""
        self.lines.append(f'{self.clock()}  {text}')

    def clock(self) -> str:
        """Return the time since the beginning as text."""
        now = self.now - self.beginning
        return f'{1000 * now:6.1f} ms' if now < 10.0 else f'{now / 3600:6.1f} h '

    def _exchange(self, who: str) -> Exchange:
        end = self.ends[who]
        assert isinstance(end, Tagging)
        return end.exchange

    # --- the network ---

    def post(self, source: str, frame: bytes, addr: str) -> None:
        """Put a datagram on the network."""
        number = next(self.sent)
        if number in self.changed:
            frame = frame.replace(*self.changed[number])
        arrow = f'{self.main_at} ──▶ rig' if source == 'main' else f'{addr} ◀── rig'
        line = f'{self.clock()}  {arrow}  {drawn(frame)}'
        self.lines.append(line)
        place = len(self.lines) - 1
        if number in self.lost:
            self.lines[place] += f'{INDENT}lost'
            return
        sender = self.main_at if source == 'main' else 'rig'
        self._later(self.now + LATENCY, lambda: self.arrive(source, sender, frame, place, self.now))
        for delay in self.again.get(number, ()):
            self._later(self.now + delay, lambda: self.arrive_again(source, sender, frame, line))

    def arrive_again(self, source: str, sender: str, frame: bytes, line: str) -> None:
        """Deliver a copy."""
        self.lines.append(self.clock() + line[len(self.clock()) :])
        self.arrive(source, sender, frame, len(self.lines) - 1, self.now)

    def arrive(self, source: str, sender: str, frame: bytes, place: int, arrived: float) -> None:
        """Let an end read a datagram, once its program runs."""
        whom = 'rig' if source == 'main' else 'main'
        if whom == 'rig' and self.now < self.resumes_at:
            self._later(self.resumes_at, lambda: self.arrive(source, sender, frame, place, arrived))
            return
        end = self.ends[whom]
        waited = self.now - arrived
        if waited > 0 and isinstance(end, Tagging) and end.stream:
            waited = self.resumes_at - self.beginning  # only for how long the program stood still is known
        text, replies = end.take(frame, sender, self.now, waited)
        self.lines[place] += f'{INDENT}{whom}: {text}'
        for reply in replies:
            self.post(whom, reply, sender)
        if not isinstance(end, Tagging):
            return
        while (wanted := end.exchange.next_verified(self.now)) is not None:
            text, replies = end.take(*wanted, self.now, -1.0)
            self.lines.append(f'{self.clock()}  {whom}: {drawn(wanted[0])}{INDENT}{whom}: {text}')
            for reply in replies:
                self.post(whom, reply, sender)

    def run(self) -> str:
        """Let time pass until nothing more happens; return what was seen."""
        while True:
            exchanges = {name: end.exchange for name, end in self.ends.items() if isinstance(end, Tagging)}
            for name, exchange in exchanges.items():
                if name == 'rig' and self.now < self.resumes_at:
                    continue
                out = list(exchange.outbox)
                exchange.outbox.clear()
                for frame, addr in out:
                    self.post(name, frame, addr)
                for send in exchange.finished:
                    if send.outcome == Outcome.TIMED_OUT:
                        self.note(f'{name}: EchoTimeoutError')
                exchange.finished.clear()
            alarms = [exchange.alarm for exchange in exchanges.values() if exchange.n_waiting]
            arrival = self.events[0][0] if self.events else float('inf')
            if arrival == min([arrival, *alarms]) == float('inf'):
                return '\n'.join(self.lines)
            if arrival <= min(alarms, default=float('inf')):
                self.now, _, arrive = heapq.heappop(self.events)
                arrive()
            else:
                self.now = min(alarms)
                for exchange in exchanges.values():
                    exchange.expire(self.now)


# --- the recordings ---


def ordinary() -> str:
    """A message and its echo, between two that know each other."""
    recording = Recording()
    recording.send('main', START)
    return recording.run()


def loss() -> str:
    """The message is lost, then its echo."""
    recording = Recording(lost=[0, 2])
    recording.send('main', START)
    return recording.run()


def unknown() -> str:
    """The first message to a peer; the first ping is lost."""
    recording = Recording(met=False, lost=[0])
    recording.send('main', START)
    return recording.run()


def duplicate() -> str:
    """The network doubles the message."""
    recording = Recording(again={0: [0.0015]})
    recording.send('main', START)
    return recording.run()


def late_duplicate() -> str:
    """Copies of a message arrive hours later."""
    recording = Recording(again={0: [3 * 3600.0, 4 * 3600.0]})
    recording.send('main', START)
    recording.at(3.5 * 3600.0, lambda: recording.post_many(2000))
    return recording.run()


def crossing() -> str:
    """Both ends say the same at the same time."""
    recording = Recording()
    recording.send('main', [32, 20])
    recording.send('rig', [32, 20])
    return recording.run()


def plain() -> str:
    """The first message to a legacy peer."""
    recording = Recording(Plain(), met=False)
    recording.send('main', START)
    return recording.run()


def plain_loss() -> str:
    """The echo of a legacy peer is lost."""
    recording = Recording(Plain(), met=False, lost=[3])
    recording.send('main', START)
    return recording.run()


def restart() -> str:
    """The program of the rig is started again after it has delivered the message, and before its echo arrives."""
    recording = Recording(lost=[1])
    recording.send('main', START)
    recording.at(0.005, recording.restart_rig)
    recording.at(0.020, lambda: recording.send('rig', [32, 0]))
    return recording.run()


def changed_address() -> str:
    """The main PC gets another address while a message of it is on its way."""
    recording = Recording(lost=[1])

    def change_address() -> None:
        recording.main_at = 'main-2'
        recording.note('main: its address is now main-2')

    recording.send('main', START)
    recording.at(0.005, change_address)
    recording.at(0.020, lambda: recording.send('main', [32, 20]))
    recording.at(0.030, lambda: recording.send('rig', [4, None]))
    return recording.run()


def expired() -> str:
    """The program of the rig stands still for longer than the sender waits."""
    recording = Recording()
    recording.stop_rig(0.3)
    recording.send('main', START, 0.125)
    return recording.run()


def asked() -> str:
    """The same over TCP, where nobody knows when a message came."""
    recording = Recording(stream=True)
    recording.stop_rig(1.5)
    recording.send('main', START)
    recording.at(1.4, lambda: recording.send('main', [32, 20]))
    return recording.run()


def damaged() -> str:
    """The network changes a byte of the message."""
    recording = Recording(changed={0: (b'mouse7', b'mouse5')})
    recording.send('main', START)
    return recording.run()


def layout() -> str:
    """The bytes of a tagged message."""
    frame = add_tag(b'[1, null]', A, 1234, 1000)
    ack, run, number, lifetime = read_tag(frame)
    words = [int(frame[8 + 32 * i : 40 + 32 * i].replace(b' ', b'0').replace(b'\t', b'1'), 2) for i in range(4)]
    assert words[:3] == [ack << 31 | run, number, lifetime]
    notes = ['flag and run', 'number', 'lifetime', 'check']
    lines = [f'{frame[:8].hex(" "):<47}   [1, null']
    for i, (word, note) in enumerate(zip(words, notes, strict=True)):
        start = 8 + 32 * i
        lines.append(f'{frame[start : start + 16].hex(" ")}   {note}: 0x{word:08x}')
        lines.append(f'{frame[start + 16 : start + 32].hex(" ")}')
    lines.append(f'{frame[136:].hex(" "):<47}   ]')
    return '\n'.join(lines)


CAPTURES = {
    function.__name__.replace('_', '-'): function
    for function in (
        layout,
        ordinary,
        plain,
        restart,
        changed_address,
        loss,
        unknown,
        plain_loss,
        duplicate,
        late_duplicate,
        crossing,
        damaged,
        expired,
        asked,
    )
}


def block(name: str) -> str:
    """Return a recording as it stands on the page."""
    return f'<!-- capture: {name} -->\n```text\n{CAPTURES[name]()}\n```\n'


def page_with_captures(page: str) -> str:
    """Return the text of the page with each recording in its place."""
    for name in CAPTURES:
        start = page.index(f'<!-- capture: {name} -->\n')
        end = page.index('\n```\n', start) + len('\n```\n')
        page = page[:start] + block(name) + page[end:]
    return page


if __name__ == '__main__':
    sys.stdout.reconfigure(encoding='utf-8')  # type: ignore[union-attr]
    print('\n'.join(block(name) for name in sys.argv[1:] or CAPTURES), end='')
