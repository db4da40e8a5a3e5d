"""The oracle itself: events that obey every rule, and events that violate one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .event_log import EventLog, read
from .oracle import check, report

Events = list[dict[str, Any]]
LONG = 3.0


def record(t: float, by: str, what: str, **details: Any) -> dict[str, Any]:
    return {'t': t, 'by': by, 'what': what, **details}


def sent(t: float, ident: str, to: str = 'udp0', kind: str = 'confirmed', timeout: float = 1.0, **more: Any) -> Any:
    more |= {} if kind == 'unconfirmed' else {'timeout': timeout}
    return record(t, ident[1:].rpartition('.')[0], 'send', id=ident, to=to, kind=kind, **more)


def ended(t: float, ident: str, outcome: str = 'ok', to: str = 'udp0', **more: Any) -> Any:
    return record(t, ident[1:].rpartition('.')[0], 'end', id=ident, to=to, outcome=outcome, **more)


def delivered(t: float, ident: str, by: str = 'udp0.1') -> Any:
    return record(t, by, 'delivered', id=ident)


def copied(came: float, left: float, ident: str, way: str = 'there', rig: str = 'udp0') -> Any:
    return record(left, 'link', 'copy', id=ident, rig=rig, way=way, came=came, left=left)


def stopped(name: str, since: float, until: float) -> Events:
    return [
        record(since + 0.001, 'driver', 'stopped', run=name, since=since),
        record(until, 'driver', 'goes on', run=name),
    ]


def restarted(killed: float, again: float) -> Events:
    return [
        record(killed, 'driver', 'killed', run='udp0.1'),
        record(again, 'driver', 'start', run='udp0.2', port=5),
    ]


def exchanged(t: float, ident: str) -> Events:
    """A confirmed message of the main program to a rig over UDP."""
    return [
        sent(t, ident),
        copied(t + 0.001, t + 0.002, ident),
        delivered(t + 0.003, ident),
        copied(t + 0.003, t + 0.004, ident, 'back'),
        ended(t + 0.005, ident),
    ]


def called(t: float, question: str, answer: str) -> Events:
    """A call of the main program, answered by the rig."""
    return [
        sent(t, question, kind='call', patience=2.0),
        *exchanged(t, question)[1:4],
        sent(t + 0.01, answer, 'main', 'answer', answers=question, rig='udp0'),
        copied(t + 0.011, t + 0.012, answer, 'back'),
        delivered(t + 0.013, answer, 'main'),
        ended(t + 0.014, question, answer={'id': answer, 'answers': question, 'rig': 'udp0'}),
        copied(t + 0.015, t + 0.016, answer, 'there'),
        ended(t + 0.017, answer, to='main'),
    ]


def failing(t: float, ident: str, outcome: str = 'EchoTimeoutError') -> Events:
    """A message that arrives late, and whose send failed."""
    return [sent(t, ident, timeout=0.3), copied(t, t + 0.001, ident), ended(t + 0.3, ident, outcome)]


VALID = [
    record(0.0, 'driver', 'start', run='udp0.1', port=5),
    record(0.0, 'driver', 'start', run='tcp0.1', port=6),
    record(0.0, 'main', 'port', rig='udp0', port=7),
    *exchanged(1.0, '#main.1'),
    *exchanged(2.0, '#main.2'),
    sent(3.0, '#main.3', kind='unconfirmed'),
    copied(3.0, 3.001, '#main.3'),
    delivered(3.002, '#main.3'),
    *called(4.0, '#main.4', '#udp0.1.1'),
    *called(5.0, '#main.5', '#udp0.1.2'),
    sent(6.0, '#main.6', 'tcp0'),
    delivered(6.001, '#main.6', 'tcp0.1'),
    ended(6.002, '#main.6', to='tcp0'),
]


def test_all_is_well():
    assert check(VALID) == []


WRONG: dict[str, tuple[str, Events]] = {
    'a rig that takes a duplicate for new': ('once', [delivered(1.5, '#main.1')]),
    'a rig that takes a duplicate of a send() for new': ('once', [delivered(9.0, '#main.3')]),
    'a main program that takes a duplicate for new': ('once', [delivered(4.5, '#udp0.1.1', 'main')]),
    'told again after the confirmation, by a sender who should know': (
        'once',
        [*restarted(2.5, 2.6), copied(2.7, 2.701, '#main.2'), delivered(2.702, '#main.2', 'udp0.2')],
    ),
    'a send() twice to two runs, and no copy was late': (
        'once',
        [*restarted(3.5, 3.6), copied(3.7, 3.701, '#main.3'), delivered(3.702, '#main.3', 'udp0.2')],
    ),
    'sent again on a new TCP connection': (
        'once',
        [
            record(6.001, 'driver', 'killed', run='tcp0.1'),
            record(6.1, 'driver', 'start', run='tcp0.2', port=6),
            delivered(6.5, '#main.6', 'tcp0.2'),
        ],
    ),
    'confirmed, and delivered to nobody': ('confirmed', [sent(8.0, '#main.9'), ended(8.1, '#main.9')]),
    'confirmed by a rig that goes on and does not deliver it': (
        'confirmed',
        [sent(8.0, '#main.9'), ended(8.1, '#main.9'), *exchanged(9.0, '#main.8'), *restarted(9.1, 9.2)],
    ),
    'its own message heard as that of the rig': ('known', [delivered(1.01, '#main.1', 'main')]),
    'a message to another rig': ('known', [delivered(1.01, '#main.1', 'tcp0.1')]),
    'a rig that was stopped runs what has failed': (
        'late',
        [*stopped('udp0.1', 7.0, 9.0), *failing(7.5, '#main.9'), delivered(9.001, '#main.9')],
    ),
    'a main program that was stopped runs what has failed': (
        'late',
        [
            *stopped('main', 7.0, 9.0),
            sent(7.5, '#udp0.1.9', 'main', timeout=0.3),
            copied(7.5, 7.501, '#udp0.1.9', 'back'),
            ended(7.8, '#udp0.1.9', 'EchoTimeoutError', 'main'),
            delivered(9.001, '#udp0.1.9', 'main'),
        ],
    ),
    'a rig that is busy runs what has failed': (
        'late',
        [
            record(9.0, 'udp0.1', 'blocked', since=7.4, until=9.0),
            *failing(7.5, '#main.9'),
            delivered(9.001, '#main.9'),
        ],
    ),
    'the same over TCP': (
        'late',
        [
            *stopped('tcp0.1', 7.0, 9.0),
            sent(7.5, '#main.9', 'tcp0', timeout=0.3),
            ended(7.8, '#main.9', 'EchoTimeoutError', 'tcp0'),
            delivered(9.001, '#main.9', 'tcp0.1'),
        ],
    ),
    'later than the network was': (
        'late',
        [*failing(7.0, '#main.9'), copied(7.1, 8.6, '#main.9'), delivered(9.2, '#main.9')],
    ),
    'a confirmation that lay in the socket while the program was stopped': (
        'timeouts',
        [
            *stopped('main', 7.002, 9.0),
            *exchanged(7.0, '#main.9')[:4],
            ended(9.001, '#main.9', 'EchoTimeoutError'),
        ],
    ),
    'the same over TCP, of a busy program': (
        'timeouts',
        [
            record(9.0, 'main', 'blocked', since=7.0, until=9.0),
            sent(7.0, '#main.9', 'tcp0'),
            delivered(7.001, '#main.9', 'tcp0.1'),
            ended(9.001, '#main.9', 'EchoTimeoutError', 'tcp0'),
        ],
    ),
    'an answer that lay in the socket while the program was stopped': (
        'timeouts',
        [
            *stopped('main', 7.002, 9.5),
            *called(7.0, '#main.9', '#udp0.1.9')[:6],
            ended(9.501, '#main.9', 'EchoTimeoutError', answer=None),
            ended(9.501, '#udp0.1.9', to='main'),
            delivered(9.502, '#udp0.1.9', 'main'),
        ],
    ),
    'the later of two calls before the earlier': (
        'order',
        [sent(8.0, '#main.8'), *exchanged(8.1, '#main.9'), delivered(8.2, '#main.8'), ended(8.3, '#main.8')],
    ),
    'a mismatch': ('outcome', failing(7.0, '#main.9', 'EchoMismatchError')),
    'a send that never ends': ('outcome', [sent(7.0, '#main.9')]),
    'an exception in the event loop': ('outcome', [record(7.0, 'udp0.1', 'escaped', text='ValueError')]),
    'not well at the end': (
        'outcome',
        [sent(8.0, '#main.9', kind='last'), ended(9.0, '#main.9', 'EchoTimeoutError')],
    ),
    'refused, and sent all the same': (
        'refused',
        [sent(7.0, '#main.9', kind='unconfirmed'), ended(7.0, '#main.9', 'refused'), delivered(7.1, '#main.9')],
    ),
}


@pytest.mark.parametrize('what', WRONG)
def test_what_is_wrong(what: str):
    rule, more = WRONG[what]
    found = check(sorted(VALID + more, key=lambda record: record['t']))
    assert [violation.rule for violation in found] == [rule], report(found)
    assert report(found).startswith(f'\n{rule}: 1 violations')


def test_an_answer_to_another_call():
    events = [dict(record) for record in VALID]
    for found in events:
        if found['what'] == 'end' and found['id'] == '#main.5':
            found['answer'] = {'id': '#udp0.1.1', 'answers': '#main.4', 'rig': 'udp0'}
    assert [violation.rule for violation in check(events)] == ['answers']


EXCUSED: dict[str, Events] = {
    'killed before its confirmation reached the sender, who went on': [
        sent(7.0, '#main.9'),
        delivered(7.01, '#main.9'),
        *restarted(7.02, 7.1),
        copied(7.2, 7.201, '#main.9'),
        delivered(7.202, '#main.9', 'udp0.2'),
        ended(7.3, '#main.9'),
    ],
    'a copy that was on its way while the rig began anew': [
        copied(2.001, 4.9, '#main.2'),
        *restarted(4.5, 4.6),
        delivered(4.901, '#main.2', 'udp0.2'),
    ],
    'killed between the confirmation and the callback': [
        sent(8.0, '#main.9'),
        ended(8.1, '#main.9'),
        *restarted(8.2, 8.3),
    ],
    'a first copy that was late': [
        *failing(7.0, '#main.9'),
        copied(7.1, 7.1 + LONG, '#main.9'),
        delivered(7.101 + LONG, '#main.9'),
    ],
    'stopped between the reading and the callback': [
        *failing(7.0, '#main.9'),
        *stopped('udp0.1', 7.001, 9.0),
        delivered(9.001, '#main.9'),
    ],
    'stopped between the look at the clock and the sending': [
        sent(7.0, '#main.9', timeout=0.3),
        *stopped('main', 7.0001, 9.0),
        copied(9.001, 9.002, '#main.9'),
        ended(9.001, '#main.9', 'EchoTimeoutError'),
        *stopped('udp0.1', 8.5, 9.3),
        delivered(9.301, '#main.9'),
    ],
    'a machine that stood still': [
        *failing(7.0, '#main.9'),
        record(9.0, 'udp0.1', 'stood', since=7.0, until=9.0),
        delivered(9.001, '#main.9'),
    ],
    'a confirmation that came too late': [
        *exchanged(7.0, '#main.9')[:3],
        copied(7.003, 7.9, '#main.9', 'back'),
        ended(8.0, '#main.9', 'EchoTimeoutError'),
    ],
    'a confirmation for which the socket had no room': [
        *exchanged(7.0, '#main.9')[:4],
        record(8.0, 'driver', 'dropped', port=7, since=6.5, until=7.5),
        ended(8.0, '#main.9', 'EchoTimeoutError'),
    ],
    'a TCP rig that was stopped before it had confirmed': [
        sent(7.0, '#main.9', 'tcp0'),
        delivered(7.001, '#main.9', 'tcp0.1'),
        *stopped('tcp0.1', 7.002, 9.0),
        ended(8.0, '#main.9', 'EchoTimeoutError', 'tcp0'),
    ],
    'a rig that was killed while it waited': [
        sent(7.0, '#udp0.1.9', 'main'),
        *restarted(7.2, 7.3),
    ],
}


@pytest.mark.parametrize('what', EXCUSED)
def test_what_is_excused(what: str):
    found = check(sorted(VALID + EXCUSED[what], key=lambda record: record['t']))
    assert found == [], report(found)


@pytest.fixture
def written(tmp_path) -> Callable[[Events], Events]:
    """Write a events as the programs do, and read it again."""

    def write(events: Events) -> Events:
        for by in {record['by'] for record in events}:
            log = EventLog(tmp_path, by)
            for found in events:
                if found['by'] == by:
                    log(**{name: value for name, value in found.items() if name not in ('t', 'by')})
        return read(tmp_path)

    return write


def test_notes_are_read_as_they_were_written(written, tmp_path):
    (tmp_path / 'udp9.1.log').write_text('{"t": 1.0, "by": "udp9.1", "what": "began"}\n{"t": 2')  # killed there
    found = written(VALID)
    assert len(found) == len(VALID) + 1
    for by in ('main', 'udp0.1'):
        assert [record['what'] for record in found if record['by'] == by] == [n['what'] for n in VALID if n['by'] == by]
