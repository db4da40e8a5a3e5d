"""The rules that the event logs must obey, whatever was stopped, killed, lost, duplicated or delayed.

A stall of the machine breaks no rule about time: the rules allow for the stalls that the programs detected, and stalls
that they cannot detect are shorter than `SLACK`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from .event_log import STALL
from .history import NEVER, History, Message, Record, Run

SLACK = 0.05 + 2 * STALL
"""float: Seconds that cannot be measured: the rounding of a lifetime to ms and the path through the kernel (50 ms), and
stalls of the two programs that are too short to be logged."""

_MARGIN = 0.05  # seconds between an action and its record
_ENDS = {'ok', 'EchoTimeoutError', 'PeerUnreachableError', 'ConnectionClosedError', 'cancelled', 'refused'}
_TIMED = {'confirmed', 'answer', 'call', 'last'}  # the kinds of messages whose sender waits


@dataclass(frozen=True)
class Violation:
    """A violated rule, with the records about it."""

    rule: str
    text: str
    records: list[Record]

    def __str__(self) -> str:
        return '\n      '.join([f'{self.rule}: {self.text}', *map(str, self.records)])


def check(records: Iterable[Record]) -> list[Violation]:
    """Return all violations."""
    history = History(records)
    return [violation for rule in RULES for violation in rule(history)]


def _violation(rule: str, text: str, message: Message, *more: Record) -> Violation:
    return Violation(
        rule, f'{message.sent["id"]} from {message.sender} to {message.receiver} {text}', [*message.records(), *more]
    )


def outcomes(history: History) -> Iterator[Violation]:
    """A message is confirmed or fails with a documented error; no exception reaches an event loop."""
    for record in history.escaped:
        yield Violation('outcome', f'{record["by"]}: an uncaught exception', [record])
    for message in history.messages.values():
        if message.end is None:
            if message.kind in _TIMED and history.runs[message.sender].killed == NEVER:
                yield _violation('outcome', 'did not end', message)
        elif message.outcome not in _ENDS:
            yield _violation('outcome', f'ended with {message.outcome}', message)
        if message.kind == 'last' and message.outcome != 'ok':
            yield _violation('outcome', 'failed, though only the network was faulty', message)


def known(history: History) -> Iterator[Violation]:
    """No program is delivered a message that was not sent to it, above all not its own message."""
    for record in history.unsent:
        yield Violation('known', f'{record["id"]} was delivered to {record["by"]}, and was not sent there', [record])


def once(history: History) -> Iterator[Violation]:
    """A run is delivered a message once; the next run only if the run before may not have confirmed it."""
    for message in history.messages.values():
        runs = [record['by'] for record in message.delivered]
        for run in sorted(set(runs)):
            if runs.count(run) > 1:
                yield _violation('once', f'was delivered {runs.count(run)} times to {run}', message)
        for first, second in pairwise(dict.fromkeys(runs)):
            if not _may_be_new_to(message, history.runs[first], history.runs[second]):
                yield _violation('once', f'was delivered to {first}, and again to {second}', message)


def _may_be_new_to(message: Message, old: Run, new: Run) -> bool:
    """Return whether a run may be delivered a message that a run before was delivered.

    Either that run was killed before its echo reached the sender, which continued to send; or the network had a copy
    when it was killed, which the new run cannot know. Over TCP nothing is sent a second time.
    """
    goes_on = message.kind in _TIMED and message.ended > old.killed - _MARGIN
    on_way = any(came < old.killed + _MARGIN and left > new.began - _MARGIN for came, left in message.copies)
    return message.is_udp and (goes_on or on_way)


def confirmed(history: History) -> Iterator[Violation]:
    """A confirmed message was delivered, unless its receiver was killed between the two."""
    for message in history.messages.values():
        if message.outcome != 'ok' or message.delivered:
            continue
        # A message is confirmed before any callback runs: a receiver that is killed in between runs no other callback.
        if not any(
            message.sent['t'] < run.killed < NEVER and run.last < message.ended + SLACK
            for run in history.runs_of(message.receiver)
        ):
            yield _violation('confirmed', 'was confirmed, and not delivered', message)


def refused(history: History) -> Iterator[Violation]:
    """A message that ``send()`` rejected is not sent."""
    for message in history.messages.values():
        if message.outcome == 'refused' and message.delivered:
            yield _violation('refused', 'was delivered, though send() raised', message)


def late(history: History) -> Iterator[Violation]:
    """A failed message is not delivered afterwards, except for its delay in the network.

    A message carries its remaining lifetime at the time of sending. Its receiver may accept it later by at most

    1. the delay in the network, which the link measures; the first copy may be the late one;
    2. the stalls of the sender between reading the clock and sending;
    3. the stalls of the receiver between reading the clock and the callback; such a stall began after the arrival.

    Answers are not checked: they are accepted as long as the caller waits.
    """
    for message in history.messages.values():
        if message.kind not in _TIMED - {'answer'}:
            continue
        failed = max(message.deadline, message.ended if message.end is not None else 0.0)
        for record in message.delivered:
            copies = [copy for copy in message.copies if copy[1] <= record['t'] + _MARGIN]
            if not message.is_udp:
                copies = [(message.sent['t'], message.sent['t'])]
            allowed = SLACK + max((_excuse(history, message, copy, record) for copy in copies), default=0.0)
            if record['t'] > failed + allowed:
                text = f'was delivered {record["t"] - failed:.3f} s after it had failed; {allowed:.3f} s are allowed'
                yield _violation('late', text, message)


def _excuse(history: History, message: Message, copy: tuple[float, float], delivery: Record) -> float:
    came, left = copy
    sender, receiver = history.runs[message.sender], history.runs[delivery['by']]
    return left - came + sender.stood_before(came, SLACK) + receiver.stood_after(left, delivery['t'])


def answers(history: History) -> Iterator[Violation]:
    """A call returns for each rig the answer of this rig to this call."""
    for message in history.messages.values():
        if message.kind == 'call' and message.end is not None and message.outcome == 'ok':
            answer = message.end['answer']
            if (answer.get('answers'), answer.get('rig')) != (message.sent['id'], message.receiver):
                yield _violation('answers', f'was given the answer to {answer.get("answers")}', message)


def order(history: History) -> Iterator[Violation]:
    """Confirmed messages between two programs are delivered in the order of the calls."""
    conversations: dict[tuple[str, str], list[Message]] = defaultdict(list)
    for message in history.messages.values():
        if message.kind == 'confirmed' and message.outcome == 'ok' and message.delivered:
            conversations[message.sender, message.receiver].append(message)
    for messages in conversations.values():
        for first, second in pairwise(messages):
            if first.delivered[0]['t'] > second.delivered[0]['t']:
                yield _violation('order', 'was overtaken', first, *second.records())


def timeouts(history: History) -> Iterator[Violation]:
    """A send or call does not time out if the echo or answer arrived in time, however long the program was stalled.

    Over UDP the link knows when the echo and the answer arrived. Over TCP the echo is sent before the callback logs the
    delivery, if the program does not stall in between. Answers of a call are checked in the same way.
    """
    replies = {
        (message.sent['answers'], message.rig): message
        for message in history.messages.values()
        if message.kind == 'answer'
    }
    for message in history.messages.values():
        if message.outcome not in ('EchoTimeoutError', 'PeerUnreachableError') or _was_dropped(history, message):
            continue
        echoed = _echo(history, message)
        if message.kind == 'call':
            reply = replies.get((message.sent['id'], message.receiver))
            if reply is None:
                continue
            heard = min(
                [*(left for _, left in reply.copies), *(record['t'] for record in reply.delivered)], default=NEVER
            )
            if max(echoed, heard) + SLACK < min(message.deadline, message.sent['t'] + message.sent['patience']):
                yield _violation('timeouts', 'was confirmed and answered in time', message, *reply.records())
        elif echoed + SLACK < message.deadline:
            yield _violation(
                'timeouts', f'was confirmed {message.deadline - echoed:.3f} s before its time was up', message
            )


def _echo(history: History, message: Message) -> float:
    """Return the time at which the first echo was in the socket of the sender, if it is known."""
    if message.is_udp:
        return min((left for _, left in message.echoes), default=NEVER)
    return min(
        (
            record['t']
            for record in message.delivered
            if history.runs[record['by']].was_at_work(record['t'] - _MARGIN, record['t'] + SLACK)
        ),
        default=NEVER,
    )


def _was_dropped(history: History, message: Message) -> bool:
    """Return whether the kernel may have dropped the echo because the receive buffer was full."""
    return any(
        history.ports.get(record['port']) == message.rig
        and record['since'] < message.ended
        and record['until'] > message.sent['t']
        for record in history.dropped
    )


RULES = (outcomes, known, once, confirmed, refused, late, answers, order, timeouts)


def report(violations: list[Violation], each: int = 3) -> str:
    """Show some violations of each rule."""
    shown: dict[str, list[Violation]] = defaultdict(list)
    for violation in violations:
        shown[violation.rule].append(violation)
    return '\n'.join(
        f'\n{rule}: {len(found)} violations, among them\n' + '\n'.join(map(str, found[:each]))
        for rule, found in shown.items()
    )


def summary(records: Iterable[Record]) -> dict[str, int]:
    """Count the messages by outcome, and the disturbances."""
    history = History(records)
    count: dict[str, int] = defaultdict(int)
    for message in history.messages.values():
        count[f'{message.kind}: {message.outcome}'] += 1
        count['delivered'] += len(message.delivered)
        count['delivered to two runs'] += len({record['by'] for record in message.delivered}) > 1
        count['datagrams'] += len(message.copies) + len(message.echoes)
    for run in history.runs.values():
        count['stopped'] += len(run.stops)
        count['killed'] += run.killed < NEVER
    return dict(sorted(count.items()))
