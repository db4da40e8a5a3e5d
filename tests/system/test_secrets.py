"""Tokens do not show in values, errors, tasks and records of received messages."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import json
import logging
import pickle
import warnings

import pytest

import echorig.sync
import internals
from echorig import EchoMismatchError, EchoTimeoutError, RemoteCallbackError, Services, Tuning
from echorig.security.redaction import HiddenDict, hide_values, redact_error, redact_frame
from echorig.testing import FakeRig
from echorig.wire._codec import encode
from eventually import eventually
from lab import RawUdp
from secrets_watch import token
from tagging import set_ack

TOKEN = token(1)
URL = 'https://alyx.example.org'
MESSAGE = [128, URL, {'mouse': {'token': TOKEN}}]
FRAME = encode(MESSAGE)
DATA = MESSAGE[1:]


class Alyx:
    base_url, user, _token, is_logged_in = URL, 'mouse', {'token': TOKEN}, True


def hidden(*things):
    """Return whether no representation of the objects contains a part of the token."""
    return not any(TOKEN[4:12] in f'{thing!r} {thing!s} {thing}' for thing in things)


# --- values ---


def test_what_came_hides_its_values_and_is_a_dict():
    data = hide_values(DATA)
    assert data == DATA
    assert data[1] == {'mouse': {'token': TOKEN}}
    assert isinstance(data[1], dict)
    assert data[1]['mouse']['token'] == TOKEN
    assert repr(data) == f"['{URL}', {{'mouse': '***'}}]"
    assert hidden(data, data[1], data[1]['mouse'], data[1].items(), {'kept': data}, (data,))
    assert json.loads(json.dumps(data)) == DATA
    assert encode([128, *data]) == FRAME
    for same in (copy.deepcopy(data), copy.copy(data[1]), pickle.loads(pickle.dumps(data))):
        assert same in (DATA, DATA[1])
    assert type(pickle.loads(pickle.dumps(data[1]))) is dict  # may be read where there is no echorig
    assert repr(HiddenDict()) == '{}'


def test_a_deep_value_is_hidden_by_what_it_is_in():
    value = TOKEN
    for _ in range(50):
        value = {'deeper': value}
    assert hidden(hide_values([value]))


@pytest.mark.parametrize(
    'text',
    [
        f'ValueError: {TOKEN}',
        f'KeyError: {TOKEN!r}',
        f'HTTPError: 403 for {{"Authorization": "Token {TOKEN}"}}',
        f'ValueError: bad {DATA}',
        f'ValueError: bad {MESSAGE} ({json.dumps(json.dumps(MESSAGE))})',
        f'ValueError: cut {json.dumps(MESSAGE)[:-20]}',
    ],
    ids=['bare', 'key', 'header', 'data', 'quoted', 'cut'],
)
def test_texts_of_errors(text):
    """An error about ALYX, or with a token or a URL in its text, is shown as its type."""
    assert redact_error(text, 128) == text.partition(':')[0]
    if 'bare' not in text and 'token' in text.lower():
        assert hidden(redact_error(text))


def test_texts_of_errors_that_are_left_alone():
    for text in ('HTTPError: 403 Client Error: Forbidden', "KeyError: 'a'", 'ValueError: {"a": 1} is no rig', ''):
        assert redact_error(text) == redact_error(text, 2) == text
    assert redact_error('no colon, no type', 128) == 'an error'
    assert redact_error('KeyError', 128) == 'KeyError'


# --- over real sockets ---


async def test_who_has_it_in_hand_shows_nothing_of_it(lab, transport):
    server, client = await lab.pair(transport)
    server.default_echo_timeout = 5.0
    heard, kept = [], asyncio.get_running_loop().create_future()
    server.assign_callback('ALYX', lambda data, addr: heard.append(data))
    server.assign_callback('ALYX', kept)
    waiting = asyncio.ensure_future(server.on_event('ALYX'))
    async with server.events() as stream:
        await asyncio.sleep(0)
        await client.alyx(Alyx())
        item = await stream.__anext__()
        await asyncio.wait([waiting, kept])
        assert heard == [DATA]
        assert hidden(heard, kept, waiting, item, stream, waiting.result(), server, client, server.peers, client.peers)
        assert hidden(
            dict(server.peers), client._last_sent, internals.exchange(client), internals.pipeline(client), vars(client)
        )
        client.send(MESSAGE)
        await client.init()
        assert len(stream) == 2
    await client.alyx(Alyx())
    await client.alyx(Alyx())
    addr = item[1]
    assert hidden(internals.event_queue(server), internals.backlog(server), internals.kept_messages(server))
    assert hidden(server.peers[addr], Services([client]), server._callbacks)


async def test_a_debugging_loop_shows_nothing_of_it(lab, transport, caplog):
    """In debug mode a loop logs slow callbacks with their arguments, and every task knows its result."""
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    try:
        server, client = await lab.pair(transport)
        hearing = asyncio.ensure_future(server.on_event('ALYX'))
        await asyncio.sleep(0)
        telling = asyncio.ensure_future(client.alyx(Alyx()))
        handle = loop.call_soon(lambda data: None, hide_values(DATA))
        await asyncio.wait([hearing, telling])
        assert hidden(hearing, telling, handle, asyncio.all_tasks(), hearing.get_coro())
        assert hearing.result()[0] == DATA
        assert TOKEN not in caplog.text
    finally:
        loop.set_debug(False)


@pytest.mark.parametrize('kind', ['function', 'coroutine'])
@pytest.mark.parametrize('raises', ['data', 'secret', 'key', 'json', 'cause'])
async def test_a_callback_that_fails_with_it(lab, transport, kind, raises, caplog):
    caplog.set_level(logging.DEBUG)
    server, client = await lab.pair(transport)

    def fail(data, addr):
        secret = data[1]['mouse']['token']
        if raises == 'key':
            raise KeyError(secret)
        if raises == 'cause':
            try:
                {}[secret]
            except KeyError as ex:
                raise ValueError(f'no way: {ex}') from ex
        raise ValueError({'data': f'{data}', 'secret': f'bad {secret}', 'json': json.dumps(data)}[raises])

    async def fail_later(data, addr):
        fail(data, addr)

    server.assign_callback('ALYX', fail if kind == 'function' else fail_later)
    noticed = asyncio.ensure_future(client.on_event(0))
    await asyncio.sleep(0)
    await client.alyx(Alyx())
    notice, _ = await asyncio.wait_for(noticed, 10)
    assert notice[1] == 128
    assert hidden(notice)
    assert 'Error' in notice[0]
    assert 'failed with' in caplog.text
    assert hidden(caplog.text)


async def test_a_peer_that_quotes_it_in_its_notice(lab, caplog):
    """Error notices of iblutil and MATLAB, which may quote the data."""
    caplog.set_level(logging.DEBUG)
    peer = await RawUdp.open()
    client = await lab.client(peer.uri)
    for text, event in ((f"KeyError: '{TOKEN}'", 128), (f'ValueError: {DATA}', 128), ('no', FRAME.decode())):
        telling = asyncio.ensure_future(
            internals.call_rigs(Services([client]), echorig.ExpMessage.ALYX, 'alyx', Alyx())
        )
        data, addr = await peer.hear()
        peer.say(set_ack(data), addr)
        peer.say(encode([0, text, event]), addr)
        with pytest.raises(echorig.ServicesError) as caught:
            await telling
        error = caught.value.failures[client.name]
        assert isinstance(error, RemoteCallbackError)
        assert hidden(caught.value, caught.value.failures, error, error.message, pickle.loads(pickle.dumps(error)))
    assert hidden(caplog.text)
    peer.close()


@pytest.mark.parametrize('cut', [len(FRAME), len(FRAME) - 3, len(FRAME) - 20, FRAME.index(b'mouse') + 2, 20, 6])
async def test_echoes_that_differ(lab, cut, caplog):
    caplog.set_level(logging.DEBUG)
    peer = await RawUdp.open()
    client = await lab.client(peer.uri, tuning=Tuning(tags=False))
    sending = asyncio.ensure_future(client.alyx(Alyx()))
    data, addr = await peer.hear()
    peer.say(b'[' + data[:cut], addr)
    with pytest.raises(EchoMismatchError) as caught:
        await sending
    assert hidden(caught.value, caught.value.args, sending, pickle.loads(pickle.dumps(caught.value)), caplog.text)
    peer.close()


async def test_a_rig_that_says_nothing(lab, caplog):
    caplog.set_level(logging.DEBUG)
    peer = await RawUdp.open()
    client = await lab.client(peer.uri, 'mute')
    client.default_echo_timeout = 0.02
    with pytest.raises(EchoTimeoutError) as caught:
        await client.alyx(Alyx())
    with pytest.raises(echorig.ServicesTimeoutError) as all_caught:
        await Services([client], timeout=0.02).alyx(Alyx())
    assert hidden(caught.value, all_caught.value, all_caught.value.failures, caplog.text)
    peer.close()


@pytest.mark.parametrize(
    'frame',
    [b'x' + FRAME, FRAME[:-4], b'[28' + FRAME[4:], b'[129' + FRAME[4:], b'{"event": ' + FRAME + b'}', FRAME[40:]],
    ids=['noise', 'cut', 'combination', 'another combination', 'object', 'end'],
)
async def test_what_is_no_message(lab, frame, caplog):
    """The warnings that iblutil has too, and the log."""
    server, client = await lab.pair()
    await client.init()  # it has opened by now
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        server._receive(frame, ('127.0.0.1', 9))
        server.decode(frame)
    assert hidden(*[warning.message for warning in caught])
    assert 'Ignored' in caplog.text
    assert hidden(caplog.text)


async def test_too_many_messages_for_those_who_read(lab, caplog):
    server, client = await lab.pair(tuning=Tuning(max_backlog=2))
    heard = asyncio.ensure_future(server.on_event('ALYX'))
    await asyncio.sleep(0)
    async with server.events(limit=1) as stream:
        for _ in range(3):
            await client.alyx(Alyx())
        client.default_echo_timeout = 0.05
        with pytest.raises(EchoTimeoutError) as caught:
            await client.alyx(Alyx())
        assert stream.dropped
    await heard
    assert 'max_backlog' in caplog.text
    assert hidden(caplog.text, caught.value, internals.flow_control(server))


@pytest.mark.parametrize('kind', ['echorig', 'iblutil', 'matlab'])
async def test_rigs_for_tests(lab, kind):
    async with FakeRig(kind=kind, name='fake') as rig:
        client = await lab.client(rig.uri)
        await client.alyx(Alyx())
        received = await rig.wait_for('ALYX')
        assert received.data == DATA or kind == 'matlab'
        assert TOKEN.encode() in received.frame
        assert hidden(received, rig.received, rig, rig.confirmed, rig.unconfirmed)
        with pytest.raises(EchoTimeoutError) as caught:
            await rig.wait_for('EXPEND', timeout=0.01)
        assert hidden(caught.value)
        with contextlib.suppress(echorig.EchoError):
            await rig.send(MESSAGE, timeout=0.2)
        assert hidden(rig.gave_up)
        rig.silent = True
    assert hidden(*rig.received)


async def test_a_rig_for_tests_that_gives_up(lab):
    peer = await RawUdp.open()
    for kind in ('iblutil', 'matlab'):
        async with FakeRig(kind=kind) as rig:
            with pytest.raises(EchoTimeoutError) as caught:
                await rig.send(MESSAGE, peer.addr, timeout=0.02)
            assert hidden(caught.value, rig.gave_up)
    peer.close()


@pytest.mark.blocks
def test_without_an_event_loop():
    server = echorig.sync.EchoProtocol.server('udp://127.0.0.1:0', 'server')
    client = echorig.sync.EchoProtocol.client(server.server_uri, 'client')
    heard = server.submit.on_event('ALYX')
    with server.events() as stream:
        sending = client.submit.alyx(Alyx())
        sending.result(10)
        assert heard.result(10)[0] == DATA
        item = next(iter(stream))
        assert hidden(heard, heard.result(), sending, stream, item, server, client, server.peers, client.submit)
    client.close()
    server.close()


async def test_what_the_program_prints(lab):
    """`echorig server` prints messages without tokens."""
    from echorig.main import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        serving = asyncio.ensure_future(main('server', 'udp://127.0.0.1:0', 'printing'))
        await eventually(lambda: ' listens on ' in out.getvalue(), '" listens on " in out.getvalue()')
        client = await lab.client(out.getvalue().split()[3].rstrip(';'))
        await client.alyx(Alyx())
        client.send([0, f'ValueError: {DATA}', 128])
        client.send([0, FRAME.decode(), [FRAME.decode()]])
        await client.init()
        await eventually(lambda: 'EXPINIT' in out.getvalue(), '"EXPINIT" in out.getvalue()')
        serving.cancel()
        await asyncio.wait([serving])
    assert out.getvalue().count('failure') == 2
    assert 'ALYX' in out.getvalue()
    assert hidden(out.getvalue())


def test_what_belongs_to_others_is_shown():
    """Secrets of a program under other names are not hidden."""
    text = redact_frame(encode([64, 20, {'api key': 'abcdefgh'}]))
    assert text == '[64, 20, {"api key": "abcdefgh"}]'
