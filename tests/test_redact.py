"""Tokens and control characters never reach a log."""

from __future__ import annotations

import asyncio
import logging

import pytest

from echorig import EchoMismatchError
from echorig._codec import acknowledged
from echorig.base import Communicator
from echorig.redact import Shown, shown
from rigs import RawUdp

TOKEN = '4157aa522b855239cd05f4d23d40563aa0518359'
ALYX = Communicator.encode([128, 'https://alyx.example', {'mouse': {'token': TOKEN}}])


def test_the_user_is_shown_and_the_token_is_not():
    assert shown(ALYX) == '[128, "https://alyx.example", {"mouse": "***"}]'


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
def test_no_form_of_it_is_shown(frame):
    assert TOKEN not in shown(frame)
    assert TOKEN not in repr(Shown(frame))
    assert TOKEN not in str(Shown(frame))


def test_text_for_people():
    assert shown(None) == 'None'
    assert shown('é'.encode() + b'\xff') == 'é\\xff'
    assert shown(b'\x1b[31m\r\n') == '\\x1b[31m\\r\\n'
    assert len(shown(b'[' + b'1' * 10_000)) < 1100
    assert '10001 bytes' in shown(b'[' + b'1' * 10_000)


class Alyx:
    base_url, user, _token, is_logged_in = 'https://alyx.example', 'mouse', {'token': TOKEN}, True


async def test_a_token_travels_and_leaves_no_trace(lab, caplog, transport):
    caplog.set_level(logging.DEBUG)
    server, client = await lab.pair(transport)
    server.assign_callback('ALYX', lambda data, addr: 1 / 0)
    received = asyncio.ensure_future(server.on_event('ALYX'))
    assert await client.alyx(Alyx()) is None
    data, addr = await received
    assert data == ['https://alyx.example', {'mouse': {'token': TOKEN}}]
    client.send([128, 'https://alyx.example', {'mouse': {'token': TOKEN}}])
    await client.init()
    assert 'ALYX' in caplog.text or '128' in caplog.text
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


async def test_not_even_in_errors(lab, caplog):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri)
    sending = asyncio.ensure_future(client.alyx(Alyx()))
    data, addr = await peer.hear()
    peer.say(acknowledged(data.replace(b'mouse', b'other')), addr)
    with pytest.raises(EchoMismatchError) as caught:
        await sending
    assert TOKEN not in str(caught.value)
    assert TOKEN not in caplog.text
    peer.close()
