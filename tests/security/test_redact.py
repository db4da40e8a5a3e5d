"""Tokens and control characters never reach a log."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from echorig import EchoMismatchError
from echorig.base import Communicator
from echorig.security.redaction import LazyFrame, printable, redact_frame
from lab import RawUdp
from secrets_watch import token
from tagging import ACK, read_tag, run_of, set_ack, strip_tag, tag

TOKEN = token()
ALYX = Communicator.encode([128, 'https://alyx.example', {'mouse': {'token': TOKEN}}])


def test_only_the_size_of_an_alyx_message_is_shown():
    assert redact_frame(ALYX) == f'<{len(ALYX)} bytes>'
    assert redact_frame(b'[128, null, {}]') == '<15 bytes>'


@pytest.mark.parametrize(
    'frame',
    [
        ALYX,
        ALYX[:-5],
        b' [ 128 ,' + ALYX[5:],
        Communicator.encode([0, 'ValueError', ALYX.decode()]),
        Communicator.encode([0, 'ValueError', [ALYX.decode()]]),
        Communicator.encode([0, 'ValueError', ALYX.decode()])[:-2],
        b'x' + ALYX,
        Communicator.encode([128, 'https://alyx.example', TOKEN]),
        Communicator.encode([128, 'https://alyx.example', ['mouse', TOKEN], TOKEN]),
        Communicator.encode([128, {'token': TOKEN}]),
        Communicator.encode(['alyx', 'https://alyx.example', {'mouse': {'token': TOKEN}}]),
        b'[ "ALYX" , 1, "' + TOKEN.encode() + b'"',
        ALYX * 2,
    ],
)
def test_alyx_messages_are_not_shown(frame):
    assert TOKEN not in redact_frame(frame)
    assert TOKEN not in repr(LazyFrame(frame))
    assert TOKEN not in str(LazyFrame(frame))


@pytest.mark.parametrize(
    'frame',
    [
        ALYX.replace(b'128', rb'"\u0061lyx"'),
        ALYX.replace(b'128', rb'"\u0031\u0032\u0038"'),
        ALYX.replace(b'128', b'128.0'),
        ALYX.replace(b'128', b'1.28e2'),
        ALYX.replace(b'128', b'1280e-1'),
        ALYX.replace(b'128', b'129'),
        ALYX.replace(b'128', b'255'),
        ALYX.replace(b'128', b'1,8'),
        ALYX.replace(b'128', b'28'),
        b'\n \t' + ALYX,
        b'[128, {"mouse": {"token": "' + TOKEN.encode() + b'"}}, "https://alyx.example"]',
        b'[128, "' + TOKEN.encode() + b'"]',
        b'[128, "https://mouse:' + TOKEN.encode() + b'@alyx.example/", {}]',
        b'[128, "https://alyx.example/?token=' + TOKEN.encode() + b'", {}]',
        b'[128, "https://alyx.example/#' + TOKEN.encode() + b'", {}]',
        Communicator.encode(Communicator.encode([128, None, {'mouse': TOKEN}]).decode()),
        Communicator.encode([64, 20, Communicator.encode(ALYX.decode()).decode()]),
        Communicator.encode([0, 'ValueError', Communicator.encode([0, 'x', ALYX.decode()]).decode()]),
        Communicator.encode([0, f'ValueError: {{"mouse": {TOKEN!r}}}', 128]),
        Communicator.encode([0, f'KeyError: {TOKEN!r}', ALYX.decode()]),
        Communicator.encode({'event': 128, 'data': {'mouse': TOKEN}}),
        Communicator.encode([64, 20, {'token': TOKEN}]),
        Communicator.encode([64, 20, {'Token': {'mouse': TOKEN}}]),
        Communicator.encode([64, [[ALYX.decode()]]]),
        set_ack(tag(ALYX, 77)),
        tag(ALYX, 77),
        tag(ALYX, 77)[:-3],
        ALYX[: ALYX.index(TOKEN.encode()) + 20],
        b'\xef\xbb\xbf' + ALYX,
        b'[' * 2000 + ALYX,
        b'[64, ' + b'[' * 900 + ALYX + b']' * 901,
        ALYX + b' ' * 100_000,
    ],
    ids=range(32),
)
def test_other_forms_of_alyx_messages_are_not_shown(frame):
    assert TOKEN in redact_frame(None) + frame.decode('latin-1') or len(frame) < len(ALYX)
    assert not pieces(TOKEN) & pieces(redact_frame(frame))


def pieces(text, length=8):
    """Return all parts of a text that are too long to occur by chance."""
    return {text[i : i + length] for i in range(len(text) - length + 1)}


TOKENS = st.one_of(
    st.text('0123456789abcdef', min_size=16, max_size=40),
    st.text(st.characters(exclude_categories=['Cs']), min_size=8, max_size=40),
)
BODIES = st.sampled_from([lambda token: {'token': token}, lambda token: token, lambda token: ['x', {'token': token}]])


@st.composite
def alyx_messages(draw):
    """Draw a token, and a message that contains it, complete or quoted in a notice."""
    token = draw(TOKENS)
    user = draw(st.text(st.characters(exclude_categories=['Cs']), max_size=12))
    url = draw(st.sampled_from(['https://alyx.example.org', 'http://localhost:8000/', 'https://a.b/c/d']))
    frame = json.dumps([128, url, {user: draw(BODIES)(token)}], ensure_ascii=draw(st.booleans())).encode()
    shown_anyway = ' '.join([f'***,[]:" {url} ValueError bytes', *forms(user), *forms(json.dumps(user))])
    assume(not set.union(*map(pieces, forms(token))) & pieces(shown_anyway))
    if draw(st.booleans()):
        frame = json.dumps([0, 'ValueError: no', frame.decode()]).encode()
    if draw(st.booleans()):
        frame = tag(frame, draw(st.integers(0, 2**31 - 1)))
    return token, frame


def forms(token):
    """Return the spellings of a token."""
    return {token, json.dumps(token)[1:-1], json.dumps(token, ensure_ascii=False)[1:-1], repr(token)[1:-1]}


def unseen(token, frame):
    text = redact_frame(frame)
    seen = set.union(*(pieces(form) for form in forms(token))) & pieces(text)
    own = pieces("https://alyx.example.org [128, {'token': '***'}] ValueError: no, \\\\u0000")
    return not {piece for piece in seen - own if not piece.isspace()}


@given(alyx_messages(), st.integers(0, 400))
@settings(max_examples=300)
def test_truncated_at_any_byte(message, end):
    token, frame = message
    assert unseen(token, frame)
    assert unseen(token, frame[:end])


@given(alyx_messages(), st.integers(0, 10_000), st.integers(0, 255), st.sampled_from(['replace', 'insert', 'delete']))
@settings(max_examples=500)
def test_any_byte_damaged(message, place, byte, how):
    token, frame = message
    place %= len(frame)
    before, after = frame[:place], frame[place + (how != 'insert') :]
    assert unseen(token, before + (b'' if how == 'delete' else bytes([byte])) + after)


def test_each_byte_of_a_message_damaged_in_every_way():
    for place in range(len(ALYX)):
        for byte in range(256):
            text = redact_frame(ALYX[:place] + bytes([byte]) + ALYX[place + 1 :])
            assert not pieces(TOKEN) & pieces(text), (place, byte)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_can_be_shown(frame):
    assert redact_frame(frame).isprintable()


@pytest.mark.parametrize(
    'frame',
    [
        '[2, "2022-01-28_128_x", null]',
        '[64, 20, {"a": {"b": [1, 2.5, "text [128]"]}}]',
        '[32, 10]',
        '[0, "ValueError: {1: 2} is no \\"rig\\"", 2]',
        '[0, "Error", "[2, null]"]',
        '[4, "Käse"]',
    ],
)
def test_messages_of_known_events_are_shown(frame):
    assert redact_frame(frame.encode()) == frame


@pytest.mark.parametrize(
    'frame',
    ['foo', '[2, "cut', '{"event": 2}', '[3000, null]', '["EXPSTOP"]', '[6, null]', '[0, "text"]', '[]', '[true]'],
)
def test_only_the_size_of_other_frames_is_shown(frame):
    assert redact_frame(frame.encode()) == f'<{len(frame)} bytes>'


def test_printable():
    assert redact_frame(None) == 'None'
    assert redact_frame(tag(b'[2, "a\x7f"]', 5)) == '[2, "a\\x7f"]'
    assert printable('\x1b[31m\r\né') == '\\x1b[31m\\r\\né'
    long = b'[2, "%s"]' % (b'1' * 10_000)
    assert len(redact_frame(long)) < 1100
    assert f'{len(long)} bytes' in redact_frame(long)
    assert redact_frame(b'[2, "%s"]' % (b'1' * 70_000)) == '<70007 bytes>'


class Alyx:
    base_url, user, _token, is_logged_in = 'https://alyx.example', 'mouse', {'token': TOKEN}, True


async def test_a_token_is_sent_and_never_logged(lab, caplog, transport):
    caplog.set_level(logging.DEBUG)
    server, client = await lab.pair(transport)
    server.assign_callback('ALYX', lambda data, addr: 1 / 0)
    received = asyncio.ensure_future(server.on_event('ALYX'))
    assert await client.alyx(Alyx()) is None
    data, addr = await received
    assert data == ['https://alyx.example', {'mouse': {'token': TOKEN}}]
    client.send([128, 'https://alyx.example', {'mouse': {'token': TOKEN}}])
    await client.init()
    assert TOKEN not in caplog.text


async def test_only_the_client_that_was_asked_may_answer(lab, transport):
    server = await lab.server(transport)
    addrs = asyncio.Queue()
    server.assign_callback('EXPINIT', lambda data, addr: addrs.put_nowait(addr))
    asked, other = await lab.client(server, 'asked'), await lab.client(server, 'other')
    await asked.init()
    addr = await addrs.get()
    request = asyncio.ensure_future(asked.on_event('ALYX'))
    answer = asyncio.ensure_future(server.alyx(None, addr=addr))
    await request
    await other.alyx(type('Other', (Alyx,), {'user': 'other'})())
    await asked.alyx(Alyx())
    assert await answer == ['https://alyx.example', {'mouse': {'token': TOKEN}}]


async def test_errors_contain_no_token(lab, caplog):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri)
    sending = asyncio.ensure_future(client.alyx(Alyx()))
    data, addr = await peer.hear()
    peer.say(tag(strip_tag(data).replace(b'mouse', b'other'), read_tag(data) + ACK, run_of(data)), addr)
    with pytest.raises(EchoMismatchError) as caught:
        await sending
    assert TOKEN not in str(caught.value)
    assert TOKEN not in caplog.text
    peer.close()
