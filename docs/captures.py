"""The recorded exchanges in protocol.md: ``python docs/captures.py`` prints them as they stand on the page.

The rules are the real ones, `echorig._exchange`; the network and the clock are simulated, so that each recording is
the same every time. A test compares the page with what is printed here.
"""

from __future__ import annotations

import heapq
import itertools
import sys
from collections.abc import Callable, Iterable

from echorig import Tuning
from echorig._codec import encode, peek, read_tag, tag, untagged
from echorig._exchange import (
    CONFIRMED,
    DELIVER,
    ECHO,
    IGNORED,
    MISMATCH,
    NOTICE,
    STORM,
    SWALLOWED,
    TIMED_OUT,
    Exchange,
)

LATENCY = 0.001  # seconds, each way
SAID = {
    CONFIRMED: 'confirmed',
    DELIVER: 'echoed and delivered',
    ECHO: 'echoed, not delivered',
    SWALLOWED: 'swallowed',
    MISMATCH: 'mismatch',
    NOTICE: 'delivered, not echoed',
    IGNORED: 'ignored',
    STORM: 'dropped',
}
START = [2, '2026-01-31_1_mouse7', None]


def drawn(frame: bytes) -> str:
    """Return a frame as text, with its tag drawn."""
    value = read_tag(frame)
    text = untagged(frame).decode()
    return text if value < 0 else f'{text[:-1]}⟦ACK {value >> 31} · {value & 0x7FFFFFFF}⟧]'


class Tagging:
    """An end that is echorig."""

    def __init__(self, number: int) -> None:
        self.exchange = Exchange(Tuning(), stream=False, max_size=65535, number=number)

    def take(self, frame: bytes, source: str, now: float) -> tuple[str, list[bytes]]:
        kind = self.exchange.receive(frame, source, now)
        return SAID[kind], [self.exchange.reply] if kind in (DELIVER, ECHO) else []


class Plain:
    """An end that is iblutil or MATLAB: it sends the same bytes back and knows no tags."""

    exchange = None

    def take(self, frame: bytes, source: str, now: float) -> tuple[str, list[bytes]]:
        return ('echoed and delivered' if peek(frame) > 0 else 'echoed; no message to it'), [frame]


class Recording:
    """Two ends, the network between them, and what was seen on it.

    Parameters
    ----------
    rig : Tagging or Plain
        The other end.
    met : bool
        Whether the two have spoken before.
    lost, twice : iterable of int
        Which datagrams are lost, and which arrive twice, counted from 0.
    """

    def __init__(
        self, rig: Tagging | Plain | None = None, met: bool = True, lost: Iterable[int] = (), twice: Iterable[int] = ()
    ) -> None:
        self.ends = {'main': Tagging(1233 if met else 1234), 'rig': rig or Tagging(50000)}
        self.lost = self.twice = frozenset[int]()
        self.lines: list[str] = []
        self.sent = itertools.count()
        self.order = itertools.count()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.now = -1.0
        if met:
            self.ends['main'].exchange.ping('rig', None, self.now, 1.0)
            self.run()
            self.lines.clear()
        self.lost, self.twice = frozenset(lost), frozenset(twice)
        self.sent = itertools.count()
        self.now = 0.0

    def send(self, who: str, message: object) -> None:
        whom = 'rig' if who == 'main' else 'main'
        self.ends[who].exchange.send(encode(message), whom, None, self.now, 1.0)

    def post(self, source: str, frame: bytes) -> None:
        """Put a datagram on the network."""
        number = next(self.sent)
        place = len(self.lines)
        self.lines.append('')
        for copy in range(1 + (number in self.twice)):
            line = f'{1000 * self.now:5.1f} ms  main {"──▶" if source == "main" else "◀──"} rig  {drawn(frame)}'
            if copy:
                place = len(self.lines)
                self.lines.append('')
            if number in self.lost:
                self.lines[place] = f'{line}\n{"":27}lost'
                return
            when = self.now + LATENCY * (1 + copy / 2)
            heapq.heappush(self.events, (when, next(self.order), self.arrival(source, frame, place, line)))

    def arrival(self, source: str, frame: bytes, place: int, line: str) -> Callable[[], None]:
        def arrive() -> None:
            whom = 'rig' if source == 'main' else 'main'
            said, replies = self.ends[whom].take(frame, source, self.now)
            self.lines[place] = f'{line}\n{"":27}{whom}: {said}'
            for reply in replies:
                self.post(whom, reply)

        return arrive

    def run(self) -> str:
        """Let time pass until nothing more happens; return what was seen."""
        exchanges = {name: end.exchange for name, end in self.ends.items() if end.exchange is not None}
        while True:
            for name, exchange in exchanges.items():
                out = list(exchange.outbox)
                exchange.outbox.clear()
                for frame, _ in out:
                    self.post(name, frame)
                for send in exchange.finished:
                    if send.outcome == TIMED_OUT:
                        self.lines.append(f'{1000 * self.now:5.0f} ms  {name}: EchoTimeoutError')
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
    """The first message to a peer is lost."""
    recording = Recording(met=False, lost=[0])
    recording.send('main', START)
    return recording.run()


def duplicate() -> str:
    """The network doubles the message."""
    recording = Recording(twice=[0])
    recording.send('main', START)
    return recording.run()


def crossing() -> str:
    """Both ends say the same at the same time."""
    recording = Recording()
    recording.send('main', [32, 20])
    recording.send('rig', [32, 20])
    return recording.run()


def plain() -> str:
    """A message to a plain peer."""
    recording = Recording(Plain(), met=False)
    recording.send('main', START)
    return recording.run()


def plain_loss() -> str:
    """The echo of a plain peer is lost."""
    recording = Recording(Plain(), met=False, lost=[1])
    recording.send('main', START)
    return recording.run()


def layout() -> str:
    """The bytes of a tagged message."""
    frame = tag(b'[1, null]', 1234)
    rows = [frame[:8], *(frame[i : i + 8] for i in range(8, 40, 8)), frame[40:]]
    notes = ['[1, null', 'ACK flag, then the number,', 'most significant bit first', '', '1234 = 0b100_11010010', ']']
    return '\n'.join(f'{row.hex(" "):<23}   {note}'.rstrip() for row, note in zip(rows, notes, strict=True))


CAPTURES = {
    name.replace('_', '-'): function
    for name, function in (
        ('layout', layout),
        ('ordinary', ordinary),
        ('loss', loss),
        ('duplicate', duplicate),
        ('unknown', unknown),
        ('crossing', crossing),
        ('plain', plain),
        ('plain_loss', plain_loss),
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
