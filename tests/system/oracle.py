"""What must not be in the notes, whatever was stopped, killed, lost, copied or late.

What the rules say of time is such that a machine that stands still breaks none of them: what the programs themselves
found of it is allowed for, and what they cannot find is shorter than `SLACK`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from .facts import NEVER, Facts, Message, Note, Run
from .notes import STALL

SLACK = 0.05 + 2 * STALL
"""float: What nobody can measure, in seconds: a life in whole ms and the way through the system (50 ms), and stalls of
the two programs that are just too short to be noted."""

_MARGIN = 0.05  # seconds between what the driver notes and what it does, or a program does and notes
_ENDS = {'ok', 'EchoTimeoutError', 'PeerUnreachableError', 'ConnectionClosedError', 'cancelled', 'refused'}
_TIMED = {'confirmed', 'answer', 'call', 'last'}  # the kinds of messages that somebody waits for


@dataclass(frozen=True)
class Violation:
    """A rule that is broken, and what the notes say about it."""

    rule: str
    text: str
    notes: list[Note]

    def __str__(self) -> str:
        return '\n      '.join([f'{self.rule}: {self.text}', *map(str, self.notes)])


def check(notes: Iterable[Note]) -> list[Violation]:
    """Return everything that is wrong."""
    facts = Facts(notes)
    return [violation for rule in RULES for violation in rule(facts)]


def _violation(rule: str, text: str, message: Message, *more: Note) -> Violation:
    return Violation(
        rule, f'{message.sent["id"]} from {message.sender} to {message.receiver} {text}', [*message.notes(), *more]
    )


def outcomes(facts: Facts) -> Iterator[Violation]:
    """A message is confirmed or fails in a way that is documented; nothing reaches an event loop."""
    for note in facts.escaped:
        yield Violation('outcome', f'{note["by"]}: an exception that nobody caught', [note])
    for message in facts.messages.values():
        if message.end is None:
            if message.kind in _TIMED and facts.runs[message.sender].killed == NEVER:
                yield _violation('outcome', 'did not end', message)
        elif message.outcome not in _ENDS:
            yield _violation('outcome', f'ended with {message.outcome}', message)
        if message.kind == 'last' and message.outcome != 'ok':
            yield _violation('outcome', 'failed, when nothing but the network was in its way', message)


def known(facts: Facts) -> Iterator[Violation]:
    """Nothing is delivered that nobody sent there; above all nothing to the program that sent it."""
    for note in facts.unsent:
        yield Violation('known', f'{note["id"]} was delivered to {note["by"]}, and was not sent there', [note])


def once(facts: Facts) -> Iterator[Violation]:
    """One run of a program is delivered a message once; the next run only what the one before cannot have confirmed."""
    for message in facts.messages.values():
        runs = [note['by'] for note in message.delivered]
        for run in sorted(set(runs)):
            if runs.count(run) > 1:
                yield _violation('once', f'was delivered {runs.count(run)} times to {run}', message)
        for first, second in pairwise(dict.fromkeys(runs)):
            if not _may_be_new_to(message, facts.runs[first], facts.runs[second]):
                yield _violation('once', f'was delivered to {first}, and again to {second}', message)


def _may_be_new_to(message: Message, old: Run, new: Run) -> bool:
    """Tell whether a run may be delivered what one before was.

    Either that one was killed before its echo reached the sender, who went on; or the network had a copy when it was
    killed, which the new one cannot know. Over TCP nothing is sent a second time.
    """
    goes_on = message.kind in _TIMED and message.ended > old.killed - _MARGIN
    on_way = any(came < old.killed + _MARGIN and left > new.began - _MARGIN for came, left in message.copies)
    return message.is_udp and (goes_on or on_way)


def confirmed(facts: Facts) -> Iterator[Violation]:
    """What is confirmed was delivered, unless its receiver was killed between the two."""
    for message in facts.messages.values():
        if message.outcome != 'ok' or message.delivered:
            continue
        # A message is confirmed before any callback runs: one who is killed between the two runs no other one before.
        if not any(
            message.sent['t'] < run.killed < NEVER and run.last < message.ended + SLACK
            for run in facts.runs_of(message.receiver)
        ):
            yield _violation('confirmed', 'was confirmed, and delivered to nobody', message)


def refused(facts: Facts) -> Iterator[Violation]:
    """What ``send()`` refused is not sent."""
    for message in facts.messages.values():
        if message.outcome == 'refused' and message.delivered:
            yield _violation('refused', 'was delivered, though send() raised', message)


def late(facts: Facts) -> Iterator[Violation]:
    """What has failed is not delivered afterwards, but for the time that the network had it.

    A message says for how long it is wanted when it leaves its sender. So its receiver takes it later by at most

    1. the time on the way, which the link measures; what is late there may be the first copy;
    2. the time for which the sender stood still between its look at the clock and its sending;
    3. the time for which the receiver stood still between its look at the clock and its callback: such a stop began
       after the message had arrived.

    An answer is wanted as long as its caller waits, who need not ask.
    """
    for message in facts.messages.values():
        if message.kind not in _TIMED - {'answer'}:
            continue
        failed = max(message.deadline, message.ended if message.end is not None else 0.0)
        for note in message.delivered:
            copies = [copy for copy in message.copies if copy[1] <= note['t'] + _MARGIN]
            if not message.is_udp:
                copies = [(message.sent['t'], message.sent['t'])]
            allowed = SLACK + max((_excuse(facts, message, copy, note) for copy in copies), default=0.0)
            if note['t'] > failed + allowed:
                text = f'was delivered {note["t"] - failed:.3f} s after it had failed; {allowed:.3f} s can be explained'
                yield _violation('late', text, message)


def _excuse(facts: Facts, message: Message, copy: tuple[float, float], delivery: Note) -> float:
    came, left = copy
    sender, receiver = facts.runs[message.sender], facts.runs[delivery['by']]
    return left - came + sender.stood_before(came, SLACK) + receiver.stood_after(left, delivery['t'])


def answers(facts: Facts) -> Iterator[Violation]:
    """What a call returns for a rig is what this rig answered to this call."""
    for message in facts.messages.values():
        if message.kind == 'call' and message.end is not None and message.outcome == 'ok':
            answer = message.end['answer']
            if (answer.get('answers'), answer.get('rig')) != (message.sent['id'], message.receiver):
                yield _violation('answers', f'was given the answer to {answer.get("answers")}', message)


def order(facts: Facts) -> Iterator[Violation]:
    """What one program tells another, and is confirmed, is heard in the order of the calls."""
    conversations: dict[tuple[str, str], list[Message]] = defaultdict(list)
    for message in facts.messages.values():
        if message.kind == 'confirmed' and message.outcome == 'ok' and message.delivered:
            conversations[message.sender, message.receiver].append(message)
    for messages in conversations.values():
        for first, second in pairwise(messages):
            if first.delivered[0]['t'] > second.delivered[0]['t']:
                yield _violation('order', 'was overtaken', first, *second.notes())


def blamed(facts: Facts) -> Iterator[Violation]:
    """Nobody is blamed for silence whose words lay here in time, however long this program stood still meanwhile.

    Over UDP the link knows when the echo, and the answer, arrived. Over TCP the echo is sent before the callback notes
    the delivery, if nothing stops the program right there. The answers of a call are looked for in the same way.
    """
    replies = {
        (message.sent['answers'], message.rig): message
        for message in facts.messages.values()
        if message.kind == 'answer'
    }
    for message in facts.messages.values():
        if message.outcome not in ('EchoTimeoutError', 'PeerUnreachableError') or _was_dropped(facts, message):
            continue
        echoed = _echo(facts, message)
        if message.kind == 'call':
            reply = replies.get((message.sent['id'], message.receiver))
            if reply is None:
                continue
            heard = min([*(left for _, left in reply.copies), *(note['t'] for note in reply.delivered)], default=NEVER)
            if max(echoed, heard) + SLACK < min(message.deadline, message.sent['t'] + message.sent['patience']):
                yield _violation('blamed', 'was confirmed and answered in time', message, *reply.notes())
        elif echoed + SLACK < message.deadline:
            yield _violation(
                'blamed', f'was confirmed {message.deadline - echoed:.3f} s before its time was up', message
            )


def _echo(facts: Facts, message: Message) -> float:
    """Return when the first echo lay in the sender's socket, if that is known."""
    if message.is_udp:
        return min((left for _, left in message.echoes), default=NEVER)
    return min(
        (
            note['t']
            for note in message.delivered
            if facts.runs[note['by']].was_at_work(note['t'] - _MARGIN, note['t'] + SLACK)
        ),
        default=NEVER,
    )


def _was_dropped(facts: Facts, message: Message) -> bool:
    """Tell whether the system may have dropped the echo, because the socket of its receiver was full."""
    return any(
        facts.ports.get(note['port']) == message.rig
        and note['since'] < message.ended
        and note['until'] > message.sent['t']
        for note in facts.dropped
    )


RULES = (outcomes, known, once, confirmed, refused, late, answers, order, blamed)


def report(violations: list[Violation], each: int = 3) -> str:
    """Show some violations of each rule."""
    shown: dict[str, list[Violation]] = defaultdict(list)
    for violation in violations:
        shown[violation.rule].append(violation)
    return '\n'.join(
        f'\n{rule}: {len(found)} violations, among them\n' + '\n'.join(map(str, found[:each]))
        for rule, found in shown.items()
    )


def summary(notes: Iterable[Note]) -> dict[str, int]:
    """Count what happened."""
    facts = Facts(notes)
    count: dict[str, int] = defaultdict(int)
    for message in facts.messages.values():
        count[f'{message.kind}: {message.outcome}'] += 1
        count['delivered'] += len(message.delivered)
        count['delivered to two runs'] += len({note['by'] for note in message.delivered}) > 1
        count['datagrams'] += len(message.copies) + len(message.echoes)
    for run in facts.runs.values():
        count['stopped'] += len(run.stops)
        count['killed'] += run.killed < NEVER
    return dict(sorted(count.items()))
