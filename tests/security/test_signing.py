"""Signatures without sockets: which frames are accepted, with an attacker who can receive and send everything."""

from __future__ import annotations

import codecs
import itertools
import json
import random
import secrets
from hashlib import blake2s

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echorig.delivery._exchange import Exchange
from echorig.delivery.verdicts import Verdict
from echorig.security._signature import OVERHEAD, as_key
from echorig.security._signing import GENUINE, HANDSHAKE, REPLAYED, UNSIGNED, Signer
from echorig.tuning import InternalTuning
from echorig.wire._tags import read_tag as read_all
from reference_tags import slow_tag
from tagging import is_ping, read_tag, set_ack, strip_tag, tag, tag_answer

KEY = b'0123456789abcdef'
MESSAGE = b'[2, "2022-01-01_1_subject", null]'


class Program:
    """One program: its signer, an exchange that recognizes duplicates, and the accepted messages."""

    runs = itertools.count(1)

    def __init__(self, name: str, key: bytes | str = KEY, **kwargs) -> None:
        self.name = name
        self.run = next(self.runs)
        self.signer = Signer(key, **kwargs)
        self.exchange = Exchange(InternalTuning(), kwargs.get('stream', False), 65535, self.run, signed=True)
        self.accepted: list[bytes] = []
        self.sent: list[tuple[bytes, str]] = []  # all frames that an attacker may have recorded

    def tag(self, frame: bytes, number: int, **kwargs: int) -> bytes:
        """Return a tagged message of this program."""
        return tag(frame, number, run=self.run, **kwargs)

    def tag_answer(self, frame: bytes, number: int, answered: int) -> bytes:
        """Return a tagged answer of this program."""
        return tag_answer(frame, number, answered, run=self.run)

    def say(self, frame: bytes, to: Program, now: float = 0.0) -> None:
        """Send a message, with the handshake that it needs."""
        self._out(self.signer.seal(frame, to.name, now), to.name)
        exchange([self, to], now)

    def _out(self, frame: bytes | None, addr: str) -> None:
        self.flush()
        if frame is not None:
            self.sent.append((frame, addr))

    def flush(self) -> None:
        self.sent += self.signer.outbox
        self.signer.outbox.clear()

    def hear(self, frame: bytes, source: str, now: float = 0.0) -> bytes | None:
        """Process a frame as a communicator does."""
        plain = self.signer.open(frame, source, now)
        self.flush()
        if plain is not None and self.exchange.classify(plain, source, now) == Verdict.DELIVER:
            self.accepted.append(plain)
        return plain


def exchange(programs: list[Program], now: float = 0.0) -> list[bytes]:
    """Deliver all frames that programs have sent to each other; return them."""
    carried = []
    by_name = {program.name: program for program in programs}
    done = False
    while not done:
        done = True
        for program in programs:
            batch, program.sent = program.sent, []
            for frame, addr in batch:
                done = False
                carried.append(frame)
                by_name[addr].hear(frame, program.name, now)
    return carried


def pair(**kwargs) -> tuple[Program, Program]:
    """Return two programs with a session for the messages of the first."""
    a, b = Program('a', **kwargs), Program('b', **kwargs)
    a.say(a.tag(b'[1, null]', 1), b)
    assert b.accepted == [a.tag(b'[1, null]', 1)]
    assert a.hear(b.signer.seal(set_ack(a.tag(b'[1, null]', 1)), 'a', 0.0), 'b') is not None
    return a, b


# --- signed messages ---


@pytest.mark.parametrize(
    ('message', 'number', 'answered'),
    [(MESSAGE, 7, -1), (MESSAGE, 7, 5), (b'[]', 7, -1), (b'[0, "x", 1]', 2**29 - 1, -1), (MESSAGE, 8, 2**63 - 1)],
)
def test_every_json_parser_reads_a_signed_message(message, number, answered):
    a, b = pair()
    frame = a.tag(message, number, lifetime=1000) if answered < 0 else a.tag_answer(message, number, answered)
    signed = a.signer.seal(frame, 'b', 0.0)
    assert json.loads(signed) == json.loads(frame)
    assert len(signed) == len(message) + OVERHEAD
    assert read_all(signed) == read_all(frame)
    assert set(signed[len(message) - 1 : -1]) <= set(b' \t')
    assert strip_tag(signed) == strip_tag(frame) == message
    assert is_ping(signed) == is_ping(frame)
    assert b.hear(signed, 'a') == frame


def test_the_first_message_takes_one_more_round_trip():
    a, b = Program('a'), Program('b')
    assert a.signer.seal(a.tag(MESSAGE, 1), 'b', 0.0) is None
    ((hello, to),) = a.signer.outbox
    assert to == 'b'
    assert json.loads(hello) == []
    assert is_ping(hello)
    a.signer.outbox.clear()
    assert b.signer.open(hello, 'a', 0.0) is None
    assert b.signer.verdict == HANDSHAKE
    ((welcome, _),) = b.signer.outbox
    assert len(welcome) == len(hello)  # no amplification
    assert a.signer.open(welcome, 'b', 0.001) is None
    ((signed, _),) = a.signer.outbox
    assert b.signer.open(signed, 'a', 0.001) == a.tag(MESSAGE, 1)
    echo = set_ack(a.tag(MESSAGE, 1))
    assert a.signer.open(b.signer.seal(echo, 'a', 0.002), 'b', 0.002) == echo


def test_held_messages_are_sent_in_order_and_once():
    a, b = Program('a'), Program('b')
    for number in (1, 2, 2, 3, 1):
        a.signer.seal(a.tag(MESSAGE, number), 'b', 0.0)
    a.flush()
    exchange([a, b])
    assert b.accepted == [a.tag(MESSAGE, number) for number in (1, 2, 3)]


def test_messages_held_for_too_long_are_not_sent():
    a, b = Program('a', hold_time=1.0), Program('b')
    a.signer.seal(a.tag(b'[2, "old"]', 1), 'b', 0.0)
    a.signer.outbox.clear()
    a.say(a.tag(b'[4, "new"]', 2), b, now=1.5)
    assert b.accepted == [a.tag(b'[4, "new"]', 2)]


def test_on_a_stream_all_messages_are_held():
    a, b = Program('a', stream=True), Program('b', stream=True)
    a.signer.seal(a.tag(b'[2, "old"]', 1), 'b', 0.0)
    a.say(a.tag(b'[4, "new"]', 2), b, now=100.0)
    assert b.accepted == [a.tag(b'[2, "old"]', 1), a.tag(b'[4, "new"]', 2)]


# --- the key ---


@pytest.mark.parametrize(
    ('key', 'error'),
    [
        (b'', ValueError),
        (b'secret-15-bytes', ValueError),
        ('short', ValueError),
        (' ' * 40, ValueError),
        (7, TypeError),
        (None, TypeError),
    ],
)
def test_an_invalid_key_is_refused_and_not_shown(key, error):
    with pytest.raises(error) as raised:
        Signer(key)
    if key and isinstance(key, (str, bytes)) and key.strip():
        text = key if isinstance(key, str) else key.decode()
        assert text not in str(raised.value)
        assert 'secrets.token_hex(32)' in str(raised.value)


def test_text_and_a_final_line_feed_give_the_same_key():
    assert as_key(KEY) == as_key(KEY.decode()) == as_key(KEY + b'\r\n') == as_key(bytearray(KEY))
    assert as_key(KEY) != as_key(KEY + b'x')


@pytest.mark.parametrize('end', ['', '\n', '\r\n', ' \n\n'])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be'])
def test_a_key_is_the_same_in_a_file_of_windows(encoding, end):
    text = secrets.token_hex(32)
    assert as_key((text + end).encode(encoding)) == as_key(text) == as_key(f'\ufeff{text}{end}')
    assert as_key(codecs.BOM_UTF16_BE + (text + end).encode('utf-16-be')) == as_key(text)


def test_a_key_of_random_bytes_is_used_as_it_is():
    for key in (codecs.BOM_UTF16_LE + secrets.token_bytes(31), codecs.BOM_UTF8 + bytes(range(200, 240)), b'\0' * 32):
        assert len({as_key(key), as_key(key + b'x'), as_key(b'x' + key)}) == 3
    with pytest.raises(ValueError, match='at least 16 bytes, not 5'):
        as_key(codecs.BOM_UTF8 + b'short')


def test_a_different_key_is_rejected():
    a, b = Program('a'), Program('b', key=b'another key of the lab')
    a.say(a.tag(MESSAGE, 1), b)
    assert b.accepted == []
    assert b.signer.verdict == UNSIGNED
    assert not any(b.signer.sizes.values())


def test_nothing_shows_the_key():
    signer = Signer(KEY)
    assert KEY.decode() not in repr(signer)
    assert not hasattr(signer, '__dict__')


# --- what an attacker cannot do ---


@pytest.mark.parametrize(
    'frame', [b'', b'[', b']', b'[]', MESSAGE, tag(MESSAGE, 3), b'text', tag(b'[]', 1), b' ' * 500 + b']']
)
def test_frames_without_a_signature_are_rejected(frame):
    a, b = pair()
    assert b.hear(frame, 'a') is None
    assert b.hear(set_ack(frame) if read_tag(frame) >= 0 else frame, 'a') is None
    assert b.signer.verdict == UNSIGNED
    assert b.sent == []


def test_no_byte_of_a_signed_message_can_be_modified():
    a, b = pair()
    signed = a.signer.seal(a.tag_answer(MESSAGE, 9, 8), 'b', 0.0)
    for place in range(len(signed)):
        for byte in b' \t\n]2"':
            changed = signed[:place] + bytes([byte]) + signed[place + 1 :]
            assert changed == signed or b.signer.open(changed, 'a', 0.0) is None
    assert b.hear(signed, 'a') is not None


@given(st.binary(min_size=0, max_size=500))
def test_any_bytes(frame):
    a, b = pair()
    assert b.hear(frame, 'a') is None
    assert a.hear(frame, 'b') is None


@given(st.data())
def test_a_handshake_with_a_modified_byte_starts_no_session(data):
    a, b = Program('a'), Program('b')
    a.signer.seal(a.tag(MESSAGE, 1), 'b', 0.0)
    ((hello, _),) = a.signer.outbox
    a.signer.outbox.clear()
    place = data.draw(st.integers(0, len(hello) - 1))
    flipped = bytes([hello[place] ^ 0x29 if hello[place] in b' \t' else 32])
    assert b.hear(hello[:place] + flipped + hello[place + 1 :], 'a') is None
    assert b.sent == []
    b.hear(hello, 'a')
    ((welcome, _),) = b.sent
    flipped = bytes([welcome[place] ^ 0x29 if welcome[place] in b' \t' else 32])
    a.hear(welcome[:place] + flipped + welcome[place + 1 :], 'b')
    assert a.sent == []
    a.hear(welcome, 'b')
    assert len(a.sent) == 1


def test_a_message_is_accepted_once_however_late_it_is_repeated():
    """A message of an earlier session is recognized by its signed run and number."""
    a, b = pair()
    signed = a.signer.seal(a.tag(MESSAGE, 2), 'b', 0.0)
    for now in (0.0, 30.0, 59.0):
        # Its echo may have been lost, so it is echoed again; the signer does not know duplicates.
        assert b.hear(signed, 'a', now) == a.tag(MESSAGE, 2)
    assert b.accepted.count(a.tag(MESSAGE, 2)) == 1
    for number in range(3, 1100):
        b.hear(a.signer.seal(a.tag(MESSAGE, number), 'b', 0.0), 'a')
    assert b.hear(signed, 'a') == a.tag(MESSAGE, 2)
    assert b.accepted == [a.tag(b'[1, null]', 1), *(a.tag(MESSAGE, number) for number in range(2, 1100))]


def test_a_message_is_not_accepted_by_another_program():
    a, b = pair()
    c = Program('c')
    a.say(a.tag(b'[1, null]', 2), c)
    signed = a.signer.seal(a.tag(MESSAGE, 3), 'b', 0.0)
    assert c.hear(signed, 'a') is None


def test_a_program_can_change_its_address():
    """It is identified by its signed run; a message is no new one if it is repeated from another address."""
    a, b = pair()
    first, second = (a.signer.seal(a.tag(MESSAGE, number), 'b', 0.0) for number in (2, 3))
    assert b.hear(first, 'a') == a.tag(MESSAGE, 2)
    assert b.hear(second, 'elsewhere') == a.tag(MESSAGE, 3)
    assert b.hear(first, 'elsewhere') == a.tag(MESSAGE, 2)
    echo = b.signer.seal(set_ack(a.tag(MESSAGE, 3)), 'elsewhere', 0.0)
    assert a.hear(echo, 'b') == set_ack(a.tag(MESSAGE, 3))
    assert b.accepted == [a.tag(b'[1, null]', 1), a.tag(MESSAGE, 2), a.tag(MESSAGE, 3)]


def test_nothing_recorded_is_accepted_after_a_restart():
    """Neither alone nor after the hello that was recorded with it."""
    a, b = Program('a'), Program('b')
    a.signer.seal(a.tag(b'[1, null]', 1), 'b', 0.0)
    a.flush()
    recorded = exchange([a, b])
    recorded.append(a.signer.seal(a.tag(MESSAGE, 2), 'b', 0.0))
    assert b.hear(recorded[-1], 'a') is not None
    restarted = Program('b')
    for _ in range(3):
        for frame in recorded:
            restarted.hear(frame, 'a')
    assert restarted.accepted == []
    assert restarted.signer.sizes == {'outgoing': 0, 'sessions': 0, 'pending': 1, 'addresses': 0}


def test_a_program_does_not_become_its_own_peer():
    """A man in the middle sends all frames back, with the address of the peer."""
    a = Program('a')
    a.signer.seal(a.tag(MESSAGE, 1), 'b', 0.0)
    a.flush()
    for _ in range(10):
        for frame, _addr in a.sent.copy():
            a.hear(frame, 'b')
    assert a.accepted == []
    assert len(a.sent) == 1
    # The same with the echo of a peer without a key, which sets the flag.
    assert a.hear(set_ack(a.sent[0][0]), 'b') is None


def test_messages_are_not_accepted_as_echoes_nor_echoes_as_messages():
    a, b = pair()
    signed = a.signer.seal(a.tag(MESSAGE, 2), 'b', 0.0)
    assert a.hear(signed, 'b') is None  # what a peer without a key would send back
    assert a.hear(set_ack(signed), 'b') is None
    assert b.hear(signed, 'a') is not None
    echo = b.signer.seal(set_ack(a.tag(MESSAGE, 2)), 'a', 0.0)
    assert b.hear(echo, 'a') is None
    assert a.hear(echo, 'b') is not None


def test_a_recorded_hello_does_not_end_a_session():
    a, b = Program('a'), Program('b')
    a.signer.seal(a.tag(b'[1, null]', 1), 'b', 0.0)
    a.flush()
    hello = a.sent[0][0]
    exchange([a, b])
    stranger = Program('a')
    stranger.signer.seal(a.tag(b'[1, null]', 1), 'b', 0.0)
    stranger.flush()
    for frame in (hello, stranger.sent[0][0]):
        b.hear(frame, 'a')
        signed = a.signer.seal(a.tag(MESSAGE, 2), 'b', 0.0)
        assert b.hear(signed, 'a') == a.tag(MESSAGE, 2)


def test_a_flood_of_hellos_ends_no_session_and_fills_no_table():
    a, b = pair(max_peers=8)
    hellos = []
    for _ in range(20):
        recorder = Program('x')
        recorder.signer.seal(recorder.tag(MESSAGE, 1), 'b', 0.0)
        hellos += recorder.signer.outbox
    for port in range(1000):
        b.hear(hellos[0][0], f'spoofed:{port}')
    assert b.signer.sizes == {'outgoing': 0, 'sessions': 1, 'pending': 1, 'addresses': 1}
    assert len({frame for frame, _ in b.sent}) == 1  # all get the same answer
    for port in range(1000):
        b.hear(hellos[port % 20][0], f'spoofed:{port}')
    assert b.signer.sizes == {'outgoing': 0, 'sessions': 1, 'pending': 8, 'addresses': 1}
    assert b.hear(a.signer.seal(a.tag(MESSAGE, 2), 'b', 0.0), 'a') is not None


def test_tables_are_bounded_for_peers_with_the_key():
    b = Program('b', max_peers=8)
    for i in range(50):
        a = Program(f'a{i}')
        a.say(a.tag(MESSAGE, 1), b)
        b.say(b.tag(MESSAGE, i + 1), a)
        assert a.accepted == [b.tag(MESSAGE, i + 1)]
    assert len(b.accepted) == 50
    assert max(size for name, size in b.signer.sizes.items() if name != 'addresses') <= 8
    assert b.signer.sizes['addresses'] <= 16


def test_a_failed_message_is_not_accepted_after_the_next_one():
    """An attacker delays a message until its send has failed."""
    a, b = pair()
    held_back = a.signer.seal(a.tag(b'[2, "start"]', 2), 'b', 0.0)
    a.signer.send_failed(a.tag(b'[2, "start"]', 2), 'b')
    assert (
        b.hear(a.signer.seal(a.tag(b'[1, "again"]', 3), 'b', 0.0) or b'', 'a') is None
    )  # it waits for another session
    a.say(a.tag(b'[1, "again"]', 3), b)
    assert b.accepted[-1] == a.tag(b'[1, "again"]', 3)
    assert b.hear(held_back, 'a') is None


# --- faults without an attacker ---


def test_a_restart_of_the_receiver_is_detected():
    a, b = pair()
    b = Program('b')
    a.say(a.tag(MESSAGE, 2), b, now=1.0)
    assert b.accepted == []
    a.say(a.tag(MESSAGE, 2), b, now=1.03)  # repeated, because no echo was received
    assert b.accepted == [a.tag(MESSAGE, 2)]


def test_a_restarted_sender_is_accepted():
    a, b = pair()
    a = Program('a')
    a.say(a.tag(MESSAGE, 9), b)
    assert b.accepted[-1] == a.tag(MESSAGE, 9)


def test_a_lost_hello_and_a_lost_welcome_are_repeated():
    a, b = Program('a'), Program('b')
    a.signer.seal(a.tag(MESSAGE, 1), 'b', 0.0)
    a.signer.outbox.clear()  # lost
    a.signer.seal(a.tag(MESSAGE, 1), 'b', 0.01)
    assert a.signer.outbox == []  # not yet
    a.signer.seal(a.tag(MESSAGE, 1), 'b', 0.02)
    a.flush()
    b.hear(a.sent.pop()[0], 'a')
    welcome = b.sent.pop()  # lost
    a.signer.seal(a.tag(MESSAGE, 1), 'b', 0.05)
    a.flush()
    b.hear(a.sent.pop()[0], 'a')
    assert b.sent == [welcome]
    exchange([a, b])
    assert b.accepted == [a.tag(MESSAGE, 1)]


def test_an_echo_of_the_previous_session_is_accepted():
    a, b = pair()
    signed = a.signer.seal(a.tag(MESSAGE, 2), 'b', 0.0)
    b.hear(signed, 'a')
    echo = b.signer.seal(set_ack(a.tag(MESSAGE, 2)), 'a', 0.0)
    a.signer.send_failed(a.tag(MESSAGE, 2), 'b')
    a.say(a.tag(MESSAGE, 3), b)
    assert a.hear(echo, 'b') == set_ack(a.tag(MESSAGE, 2))


def test_a_session_ends_before_its_numbers_repeat():
    a, b = pair(lifetime=10)
    hellos = 0
    for number in range(2, 100):
        a.signer.seal(a.tag(MESSAGE, number), 'b', 0.0)
        hellos += len(a.signer.outbox)
        a.say(a.tag(MESSAGE, number), b)
    assert [read_tag(frame) for frame in b.accepted] == list(range(1, 100))
    assert hellos == 9


def test_a_session_ends_with_the_run_of_a_program():
    """The next run of the same program replaces it."""
    a, b = Program('a'), Program('b')
    for run, number in ((a.run, 2**32 - 2), (a.run, 2**32 - 1), (a.run + 2**20, 1), (a.run + 2**20, 2)):
        a.say(tag(MESSAGE, number, run=run), b)
        assert b.accepted[-1] == tag(MESSAGE, number, run=run)
    assert len(b.accepted) == 4
    assert b.signer.sizes['sessions'] == 1


@settings(max_examples=200)
@given(st.lists(st.integers(1, 2**29), max_size=60))
def test_numbers_on_a_stream_only_increase(numbers):
    a, b = Program('a', stream=True), Program('b', stream=True)
    a.say(a.tag(MESSAGE, 1), b)
    newest = 1
    for number in numbers:
        plain = b.signer.open(a.signer.seal(a.tag(MESSAGE, number), 'b', 0.0), 'a', 0.0)
        assert (plain is not None) is (number > newest)
        assert b.signer.verdict == (GENUINE if number > newest else REPLAYED)
        newest = max(newest, number)


def test_a_message_that_was_refused_may_be_repeated():
    """The receiver had no capacity for it."""
    a, b = pair()
    signed = a.signer.seal(a.tag(MESSAGE, 2), 'b', 0.0)
    for _ in range(3):
        assert b.signer.open(signed, 'a', 0.0) == a.tag(MESSAGE, 2)
        assert b.signer.verdict == GENUINE
    assert b.hear(signed, 'a') is not None
    assert b.accepted.count(a.tag(MESSAGE, 2)) == 1


def test_a_message_without_a_number_cannot_be_signed():
    with pytest.raises(ValueError, match='tag'):
        Signer(KEY).seal(MESSAGE, 'b', 0.0)


def test_the_signature_is_that_of_the_documentation():
    """Implemented again from docs/security.md, with hashlib only."""
    numbers = random.Random(1)
    made: list[bytes] = []

    def known(n: int) -> bytes:
        made.append(numbers.randbytes(n))
        return made[-1]

    def bits(data: bytes) -> bytes:
        return ''.join(f'{byte:08b}' for byte in data).replace('0', ' ').replace('1', '\t').encode()

    def mac(secret: bytes, person: bytes, data: bytes) -> bytes:
        return bits(blake2s(data, key=secret, person=person, digest_size=16).digest())

    def signed(plain: bytes, signature: bytes, answered: bytes = b' ' * 64) -> bytes:
        return plain[:-129] + signature + answered + plain[-129:]

    a, b = Program('a', random=known), Program('b', random=known)
    a.signer.seal(a.tag(MESSAGE, 1), 'b', 0.0)
    a.flush()
    hello, welcome, first = exchange([a, b])
    asked, answered = made
    key = blake2s(KEY, person=b'er-key').digest()
    number = int.from_bytes(asked[12:], 'big')
    plain = slow_tag(b'[' + bits(asked) + b']', a.run, number, 0)
    assert hello == signed(plain, mac(key, b'er-hello', plain))
    plain = slow_tag(b'[' + bits(answered) + b']', a.run, number, 0, ack=True)
    assert welcome == signed(plain, mac(key, b'er-welcm', asked + plain))
    session = blake2s(asked + answered, key=key, person=b'er-sessn').digest()
    plain = slow_tag(MESSAGE, a.run, 1, 0)
    assert first == signed(plain, mac(session, b'er-frame', plain))
    plain = slow_tag(MESSAGE, a.run, 2, 1500, 5 << 32 | 6)
    named = b'\t' + bits((5 << 32 | 6).to_bytes(8, 'big'))[1:]
    with_answer = a.signer.seal(plain, 'b', 0.0)
    assert with_answer == plain[:-193] + mac(session, b'er-frame', plain) + named + plain[-129:]


# --- held messages ---


def test_dropped_messages_are_not_sent():
    a, b = Program('a'), Program('b')
    for number in (1, 2, 3):
        a.signer.seal(a.tag(MESSAGE, number), 'b', 0.0)
    assert a.signer.n_held == 3
    a.signer.drop(a.tag(MESSAGE, 2), 'b')
    a.signer.drop(a.tag(MESSAGE, 9), 'b')
    a.flush()
    exchange([a, b])
    assert b.accepted == [a.tag(MESSAGE, 1), a.tag(MESSAGE, 3)]
    assert a.signer.n_held == 0


def test_on_a_stream_no_message_is_dropped():
    a, b = Program('a', stream=True, max_held=10_000), Program('b', stream=True)
    frames = [a.tag(b'[64, 20, "%s"]' % (b'x' * 3000), number) for number in (1, 2, 3)]
    for frame in frames:
        a.signer.seal(frame, 'b', 0.0)
    with pytest.raises(OSError, match='10000 bytes'):
        a.signer.seal(a.tag(b'[64, 20, "%s"]' % (b'x' * 3000), 4), 'b', 0.0)
    a.flush()
    exchange([a, b])
    assert b.accepted == frames


def test_held_messages_for_an_absent_peer_are_bounded():
    a = Program('a', max_held=10_000)
    for number in range(5000):
        a.signer.seal(a.tag(MESSAGE, number), 'b', number * 0.001)
    assert a.signer.n_held < 200
    for number in range(100):
        a.signer.seal(a.tag(MESSAGE, 5000 + number), 'b', 100.0 + number)
    assert a.signer.n_held <= 2  # older than a second are dropped


def test_hellos_to_an_absent_peer_do_not_become_rare():
    a, b = Program('a'), Program('b')
    now = 0.0
    while now < 60.0:  # the hellos are lost
        a.signer.seal(a.tag(MESSAGE, 1), 'b', now)
        a.signer.outbox.clear()
        now += 0.1
    a.say(a.tag(MESSAGE, 2), b, now)
    assert b.accepted[-1] == a.tag(MESSAGE, 2)
    b = Program('b')
    a.say(a.tag(MESSAGE, 3), b, now + 0.1)
    a.say(a.tag(MESSAGE, 3), b, now + 1.2)
    assert b.accepted == [a.tag(MESSAGE, 3)]


def test_a_late_echo_keeps_the_session():
    """Otherwise every message would fail if the time-out were shorter than two round trips."""
    a, b = pair()
    b.hear(a.signer.seal(a.tag(MESSAGE, 2), 'b', 0.0), 'a')
    echo = b.signer.seal(set_ack(a.tag(MESSAGE, 2)), 'a', 0.0)
    a.signer.send_failed(a.tag(MESSAGE, 2), 'b')
    assert a.signer.seal(a.tag(MESSAGE, 3), 'b', 0.0) is None
    a.signer.outbox.clear()  # the hello is lost
    a.hear(echo, 'b')
    exchange([a, b])
    assert b.accepted[-1] == a.tag(MESSAGE, 3)


def test_a_message_repeated_in_another_session_is_recognized():
    """Its echoes are lost, others overtake it, and it is repeated in a session that was started meanwhile."""
    a, b = pair()
    first = a.tag(b'[2, "first"]', 2)
    assert b.hear(a.signer.seal(first, 'b', 0.0), 'a') == first
    for number in range(3, 200):
        b.hear(a.signer.seal(a.tag(b'[64, 20]', number), 'b', 0.0), 'a')
    a.signer.send_failed(a.tag(b'[64, 20]', 199), 'b')
    a.say(first, b, 0.5)
    assert b.accepted.count(first) == 1


@pytest.mark.parametrize('stream', [False, True])
def test_two_programs_that_start_at_once(stream):
    a, b = Program('a', stream=stream), Program('b', stream=stream)
    a.signer.seal(a.tag(b'[1, "a"]', 1), 'b', 0.0)
    b.signer.seal(b.tag(b'[1, "b"]', 1), 'a', 0.0)
    a.flush()
    b.flush()
    exchange([a, b])
    assert (a.accepted, b.accepted) == ([b.tag(b'[1, "b"]', 1)], [a.tag(b'[1, "a"]', 1)])


def test_a_duplicate_welcome_is_not_counted_as_forged():
    """The network is slow, so that the hello was repeated."""
    a, b = Program('a'), Program('b')
    for now in (0.0, 0.05, 0.1):
        a.signer.seal(a.tag(MESSAGE, 1), 'b', now)
    hellos = [frame for frame, _ in a.signer.outbox]
    assert len(hellos) == 3
    for hello in hellos:
        b.hear(hello, 'a')
    for welcome, _ in b.sent:
        assert a.signer.open(welcome, 'b', 0.3) is None
        assert a.signer.verdict == HANDSHAKE


# --- the end of sessions ---


def test_an_idle_session_ends():
    """Otherwise recorded messages would stay valid if their sender never returned."""
    a, b = pair()
    held_back = a.signer.seal(a.tag(MESSAGE, 2), 'b', 0.0)
    assert b.hear(held_back, 'a', now=61.0) is None
    assert b.signer.verdict == UNSIGNED


def test_a_sender_starts_a_new_session_after_a_while():
    a, b = pair()
    assert a.signer.seal(a.tag(MESSAGE, 2), 'b', 31.0) is None
    a.flush()
    exchange([a, b], 31.0)
    assert b.accepted[-1] == a.tag(MESSAGE, 2)


def test_an_active_peer_is_not_evicted_for_newer_ones():
    b = Program('b', max_peers=8)
    a = Program('a')
    a.say(a.tag(MESSAGE, 1), b)
    for i in range(50):
        other = Program(f'a{i}')
        other.say(other.tag(MESSAGE, 1), b, now=i * 0.01)
        assert b.hear(a.signer.seal(a.tag(MESSAGE, 2 + i), 'b', i * 0.01), 'a', i * 0.01) is not None


# --- more attacks ---


def test_a_few_recorded_hellos_do_not_prevent_a_session():
    """The program itself has sent them, after each failed message."""
    a, b = Program('a'), Program('b')
    recorded = []
    for number in range(1, 8):
        a.signer.seal(a.tag(MESSAGE, number), 'b', 0.0)
        a.flush()
        recorded += [frame for frame, _ in a.sent if is_ping(frame)]
        exchange([a, b])
        a.signer.send_failed(a.tag(MESSAGE, number), 'b')
    assert len(set(recorded)) == 7
    a.signer.seal(a.tag(MESSAGE, 8), 'b', 0.0)
    a.flush()
    b.hear(a.sent.pop()[0], 'a')
    for hello in recorded:
        b.hear(hello, 'a')
    exchange([a, b])
    assert b.accepted == [a.tag(MESSAGE, number) for number in range(1, 9)]


def test_on_a_stream_late_messages_are_rejected():
    """No message overtakes another on a stream, so a late one was delayed or replayed."""
    a, b = Program('a', stream=True), Program('b', stream=True)
    a.say(a.tag(MESSAGE, 1), b)
    signed = [a.signer.seal(a.tag(MESSAGE, number), 'b', 0.0) for number in range(2, 10)]
    assert b.signer.open(signed[0], 'a', 0.0) is not None  # the receiver refuses it
    assert b.signer.open(signed[0], 'a', 0.0) is None
    assert b.signer.verdict == REPLAYED
    assert b.hear(signed[5], 'a') is not None
    assert b.hear(signed[3], 'a') is None
    assert b.signer.verdict == REPLAYED
    assert b.hear(signed[6], 'a') is not None


def test_an_old_echo_does_not_hide_a_restart():
    a, b = pair()
    b.hear(a.signer.seal(a.tag(MESSAGE, 2), 'b', 0.0), 'a')
    echo = b.signer.seal(set_ack(a.tag(MESSAGE, 2)), 'a', 0.0)
    a.hear(echo, 'b')
    b = Program('b')
    for now in (1.0, 1.01, 1.02, 1.03):
        a.say(a.tag(MESSAGE, 3), b, now)
        a.hear(echo, 'b', now)
    assert b.accepted == [a.tag(MESSAGE, 3)]


def test_the_reply_number_is_part_of_the_signature():
    a, b = pair()
    signed = a.signer.seal(a.tag_answer(MESSAGE, 2, 5), 'b', 0.0)
    moved = signed[:-321] + signed[-193:-129] + signed[-321:-193] + b' ' * 64 + signed[-129:]
    assert b.hear(moved, 'a') is None
    assert b.hear(signed, 'a') is not None


def test_a_message_is_accepted_once_from_any_address():
    """A man in the middle relays the handshake from another address, and drops the echo: found by fuzzing."""
    a, b = Program('a'), Program('b')
    message = a.tag(b'[2, "once"]', 1)
    a.signer.seal(message, 'b', 0.0)
    for source, now in (('relay', 0.0), ('a', 0.1), ('another relay', 0.2), ('relay', 0.3)):
        a.flush()
        while a.sent:
            frame, _ = a.sent.pop(0)
            b.hear(frame, source, now)
            welcomes, b.sent = b.sent, []
            for welcome, _ in welcomes:
                a.hear(welcome, 'b', now)
        again = a.signer.seal(message, 'b', now + 0.05)  # nothing was echoed
        if again is not None:
            a.sent.append((again, 'b'))
    assert b.accepted == [message]
    assert b.signer.sizes['sessions'] == 1


def test_what_is_said_again_keeps_no_session_alive():
    a, b = pair()
    signed = a.signer.seal(a.tag(MESSAGE, 2), 'b', 0.0)
    assert b.hear(signed, 'a', now=1.0) is not None
    for now in range(2, 60, 5):
        b.hear(signed, 'a', now=float(now))
    assert b.hear(a.signer.seal(a.tag(MESSAGE, 3), 'b', 1.0), 'a', now=62.0) is None
