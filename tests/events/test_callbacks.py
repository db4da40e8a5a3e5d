"""Who is told, of what, and what becomes of a listener that fails."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from unittest import mock

import pytest

import internals
from echorig import EchoError, ExpMessage, Services, ServicesError, Tuning
from echorig.base import Communicator, is_success
from eventually import eventually
from lab import REF, RawUdp

A_B = ExpMessage.EXPEND | ExpMessage.EXPINTERRUPT


async def test_listeners_are_called_in_order_with_the_event_for_a_combination(lab, transport):
    server, client = await lab.pair(transport)
    calls = []
    server.assign_callback('EXPEND', lambda *args: calls.append(('one', *args)))
    server.assign_callback(A_B, lambda *args: calls.append(('two', *args)))
    future = asyncio.get_running_loop().create_future()
    server.assign_callback(A_B, future)
    await client.stop(1)
    await client.stop(2, immediately=True)
    addr = calls[0][2]
    assert calls == [
        ('one', [1], addr),
        ('two', [1], addr, ExpMessage.EXPEND),
        ('two', [2], addr, ExpMessage.EXPINTERRUPT),
    ]
    assert await future == ([1], addr, ExpMessage.EXPEND)


async def test_on_event_of_a_combination_returns_the_event(lab, transport):
    server, client = await lab.pair(transport)
    waiting = asyncio.create_task(server.on_event(A_B))
    await client.stop('x', immediately=True)
    data, addr, event = await waiting
    assert (data, event) == (['x'], ExpMessage.EXPINTERRUPT)
    assert isinstance(event, ExpMessage)


async def test_a_callback_that_raises_stops_nobody(lab, transport, caplog):
    server, client = await lab.pair(transport)
    after = mock.Mock()
    future = asyncio.get_running_loop().create_future()

    async def fails_later(data, addr):
        await asyncio.sleep(0)
        raise KeyError('later')

    server.assign_callback('EXPINIT', mock.Mock(side_effect=ValueError('no disk')))
    server.assign_callback('EXPINIT', fails_later)
    server.assign_callback('EXPINIT', after)
    server.assign_callback('EXPINIT', future)
    notices = []
    client.assign_callback(0, lambda data, addr: notices.append(data))
    await client.init()
    after.assert_called_once()
    assert is_success(future)
    await eventually(lambda: len(notices) >= 2, 'len(notices) >= 2')
    assert notices == [['ValueError: no disk', 1], ["KeyError: 'later'", 1]]
    assert 'failed with error "ValueError: no disk"' in caplog.text
    assert 'Callback for EXPINIT on' in caplog.text
    await client.init()  # nothing is broken


async def test_a_failing_callback_for_notices_starts_no_endless_exchange(lab):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri)
    client.assign_callback(0, mock.Mock(side_effect=ValueError))
    client.send([8])
    _, addr = await peer.hear()
    peer.say(b'[0, "ValueError: x", 2]', addr)
    assert await peer.silence()
    peer.close()


# --- what a MATLAB program writes ---


def texts_of(caplog, start):
    return [record.getMessage() for record in caplog.records if start in record.getMessage()]


async def test_a_message_in_latin1_is_delivered(lab, transport, caplog):
    """MATLAB writes one byte for each character. It is echoed as it is, and a warning says so once."""
    caplog.set_level(logging.INFO)
    server, client = await lab.pair(transport)
    await client.init()  # from now on the server confirms at once
    heard = []
    server.assign_callback(ExpMessage.any(), lambda data, addr, event: heard.append((event, data)))
    server.assign_callback(0, lambda data, addr: heard.append((0, data)))
    frames = [
        '[64, 20, "fürs Kälbchen"]'.encode('latin-1'),
        b'[1,{"n\xe4me":"\xff"}]',
        '[0,"Ungültige Länge",2]'.encode('latin-1'),
    ]
    if transport == 'udp':
        peer = await RawUdp.open()
        for frame in frames:
            peer.say(frame, (server.hostname, server.port))
        assert [(await peer.hear())[0] for _ in frames[:2]] == frames[:2]
        peer.say(b'[8, 1]', (server.hostname, server.port))
        assert (await peer.hear())[0] == b'[8, 1]'
        peer.close()
    else:
        reader, writer = await asyncio.open_connection(server.hostname, server.port)
        echoes = b''.join(frames[:2]) + b'[8, 1]'
        writer.write(b''.join(frames) + b'[8, 1]')
        assert await asyncio.wait_for(reader.readexactly(len(echoes)), 10) == echoes
        writer.close()
        await writer.wait_closed()
    assert heard == [
        (64, [20, 'fürs Kälbchen']),
        (1, [{'näme': 'ÿ'}]),
        (0, ['Ungültige Länge', 2]),
        (8, [1]),
    ]
    assert len(texts_of(caplog, 'Latin-1')) == 1
    assert not texts_of(caplog, 'no message')


@pytest.mark.parametrize(
    'frame',
    [
        b'\xff',
        b'[\xe4]',
        b'["\xe4", 1]',
        b'[3, "\xe4"]',  # two events
        b'[512, "\xe4"]',
        b'[true, "\xe4"]',
        b'[2.0, "\xe4"]',
        b'{"2": "\xe4"}',
        b'[2, "\xe4"',
    ],
)
async def test_other_bytes_that_are_no_utf8_are_no_message(lab, frame, caplog):
    server, client = await lab.pair()
    await client.init()
    heard = []
    server.assign_callback(ExpMessage.any(), lambda *args: heard.append(args))
    internals.pipeline(server).receive_verified(frame, ('127.0.0.1', 9))
    assert heard == []
    assert len(texts_of(caplog, 'no message')) == 1
    assert not texts_of(caplog, 'Latin-1')


async def test_each_peer_that_writes_latin1_is_named_once_and_few_of_them(lab, caplog):
    server, client = await lab.pair(tuning=Tuning(log_burst=5, log_interval=3600.0))
    await client.init()
    for _ in range(2):
        for port in range(1, 20):
            server._receive(b'[1, "\xe4"]', ('127.0.0.1', port))
    assert [text.split(' are')[0] for text in texts_of(caplog, 'Latin-1')] == [
        f'Messages from udp://127.0.0.1:{port}' for port in range(1, 6)
    ]
    for port in range(20, 5000):
        server._receive(b'[1, "\xe4"]', ('127.0.0.1', port))
    assert internals.n_logged_once(server) < 2000


QUOTED = ['[]', '[ \t \t ]', ' [\t]\n', '[0, "ValueError: x", 2]', '[0,"again","[0, 1]"]']


@pytest.mark.parametrize('quoted', QUOTED)
async def test_a_notice_about_a_ping_is_about_nothing_that_was_said(lab, quoted, caplog):
    """MATLAB fails on a ping and on a notice, and says so: no call fails for it, and no listener is told."""
    caplog.set_level(logging.INFO)
    peer = await RawUdp.open()
    client = await lab.client(peer.uri, 'scanner')
    notices = []
    client.assign_callback(0, lambda data, addr: notices.append(data))
    starting = asyncio.ensure_future(Services([client], timeout=10).start(REF))
    start, addr = await peer.hear()
    notice = json.dumps([0, 'Index exceeds array', quoted]).encode()
    peer.say(notice, addr)
    peer.say(start, addr)
    peer.say(notice, addr)
    peer.say(b'[2, "running"]', addr)
    assert await starting == {'scanner': ['running']}
    assert notices == []
    assert len(texts_of(caplog, 'notices about pings')) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    peer.close()


@pytest.mark.parametrize('quoted', ['[2, "ref", null]', '[2,"cut o', 'hello', '[', '', '["[]"]', 2, None])
async def test_a_notice_about_a_message_fails_the_call(lab, quoted, caplog):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri, 'scanner')
    notices = []
    client.assign_callback(0, lambda data, addr: notices.append(data))
    starting = asyncio.ensure_future(Services([client], timeout=10).start(REF))
    start, addr = await peer.hear()
    peer.say(start, addr)
    peer.say(json.dumps([0, 'no light', quoted]).encode(), addr)
    with pytest.raises(ServicesError, match='no light'):
        await starting
    assert notices == [['no light', quoted]]
    assert len(texts_of(caplog, 'failed with no light')) == 1
    peer.close()


@pytest.mark.parametrize('error', [RuntimeError, asyncio.CancelledError, Warning])
async def test_errors_of_every_kind_become_notices(lab, error):
    server, client = await lab.pair()
    server.assign_callback('EXPSTART', mock.Mock(side_effect=error('x')))
    notice = asyncio.ensure_future(client.on_event(0))
    await client.start(REF)
    (text, event), _ = await asyncio.wait_for(notice, 2)
    assert (text, event) == (f'{error.__name__}: x', 2)


async def test_coroutine_functions_run_as_tasks(lab, transport):
    server, client = await lab.pair(transport)
    done = asyncio.Event()

    async def callback(data, addr):
        await server.start(*data, addr=addr)
        done.set()

    server.assign_callback('EXPSTART', callback)
    answer = asyncio.ensure_future(client.on_event('EXPSTART'))
    await client.start(REF)
    assert (await answer)[0] == [REF, None]
    await asyncio.wait_for(done.wait(), 2)


async def test_awaitables_that_are_no_coroutines_run_too(lab, transport):
    server, client = await lab.pair(transport)
    done = asyncio.get_running_loop().create_future()

    class Later:
        def __await__(self):
            done.set_result(asyncio.current_task())
            return iter(())

    server.assign_callback('EXPSTART', lambda data, addr: Later())
    await client.start(REF)
    assert await asyncio.wait_for(done, 5) is not None


async def test_a_failed_future_of_a_callback_is_reported(lab, transport):
    server, client = await lab.pair(transport)
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(ValueError('x'))
    server.assign_callback('EXPSTART', lambda data, addr: failed)
    notice = asyncio.ensure_future(client.on_event(0))
    await client.start(REF)
    assert (await asyncio.wait_for(notice, 5))[0][0] == 'ValueError: x'


def _steps(data, addr):
    yield


async def _frames(data, addr):
    yield


class _Steps:
    def __call__(self, data, addr):
        yield


@pytest.mark.parametrize('callback', [_steps, _frames, _Steps(), functools.partial(_steps, 1)])
async def test_a_callback_with_yield_is_refused(lab, callback):
    server = await lab.server()
    for register in (functools.partial(server.assign_callback, 'EXPSTART'), server.assign_connection_callback):
        with pytest.raises(TypeError, match='without yield'):
            register(callback)


async def test_a_callback_that_returns_a_generator_is_reported(lab, transport):
    """Its function cannot be recognized before it is called."""
    server, client = await lab.pair(transport)
    for callback in (lambda data, addr: _steps(data, addr), lambda data, addr: _frames(data, addr)):
        server.clear_callbacks('EXPSTART')
        server.assign_callback('EXPSTART', callback)
        notice = asyncio.ensure_future(client.on_event(0))
        await client.start(REF)
        assert 'remove yield' in (await asyncio.wait_for(notice, 5))[0][0]


async def test_futures_resolved_elsewhere_are_mentioned_and_cancelled_ones_dropped(lab, caplog):
    server, client = await lab.pair()
    loop = asyncio.get_running_loop()
    done, cancelled = loop.create_future(), loop.create_future()
    server.assign_callback('EXPSTART', done)
    server.assign_callback('EXPSTART', cancelled)
    done.set_result(True)
    cancelled.cancel()
    await client.start(REF)
    await client.start(REF)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith('Future ')
    assert warnings[0].endswith('already resolved')


async def test_clearing(lab):
    server = await lab.server()
    loop = asyncio.get_running_loop()
    callback, future, both = mock.Mock(), loop.create_future(), mock.Mock()
    server.assign_callback('EXPINIT', callback)
    server.assign_callback('EXPINIT', callback)
    server.assign_callback('EXPINIT', future)
    server.assign_callback(A_B, both)
    assert server.clear_callbacks('EXPINIT', callback) == 2
    assert server.clear_callbacks('EXPINIT', cancel_futures=False) == 1
    assert not future.cancelled()
    server.assign_callback('EXPINIT', future)
    assert server.clear_callbacks(ExpMessage.EXPINIT) == 1
    assert future.cancelled()
    assert server.clear_callbacks(A_B, both) == 2
    assert server.clear_callbacks(~ExpMessage.ALYX) == 0
    assert not any(server._callbacks.values())


@pytest.mark.parametrize('callback', ['foo', None, 5])
async def test_what_is_no_callback_is_refused(lab, callback):
    server = await lab.server()
    with pytest.raises(TypeError, match='callable or a Future'):
        server.assign_callback('EXPINIT', callback)
    with pytest.raises(ValueError):
        server.assign_callback('EXPSTOP', mock.Mock())


async def test_clearing_tells_those_who_wait_what_happened(lab):
    server, client = await lab.pair()
    waiting = asyncio.ensure_future(client.on_event('EXPINIT'))
    both = asyncio.ensure_future(client.on_event(A_B))
    rigs = Services([client], timeout=None)
    call = asyncio.ensure_future(rigs.init())
    await server.on_event('EXPINIT')
    client.clear_callbacks('EXPINIT')
    with pytest.raises(EchoError, match='clear_callbacks'):
        await waiting
    with pytest.raises(ServicesError, match='clear_callbacks'):
        await call
    assert not both.done()
    client.clear_callbacks('EXPEND')
    with pytest.raises(EchoError, match='clear_callbacks'):
        await both


def test_encode_and_decode_of_the_communicator():
    assert Communicator.encode([None, 21, 'message']) == b'[null, 21, "message"]'
    assert Communicator.encode(b'[null, 21]') == b'[null, 21]'
    assert Communicator.encode('é') == 'é'.encode()
    assert Communicator.decode(b'[null, 21, "message"]') == [None, 21, 'message']
    for data, text in ((b'[1]"', '[1]"'), (b'\xff[', '\\xff[')):
        with pytest.warns(UserWarning, match='Failed to decode as JSON'):
            assert Communicator.decode(data) == text


def test_is_success():
    loop = asyncio.new_event_loop()
    futures = [loop.create_future() for _ in range(4)]
    futures[0].set_result(None)
    futures[1].cancel()
    futures[2].set_exception(RuntimeError())
    assert [is_success(future) for future in futures] == [True, False, False, False]
    loop.close()
