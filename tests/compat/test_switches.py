"""What each switch changes, and that it changes nothing else; all with real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from unittest import mock

import pytest

from echorig import (
    ConnectionClosedError,
    EchoError,
    EchoMismatchError,
    EchoProtocol,
    EchoTimeoutError,
    Services,
    ServicesError,
    hostname2ip,
    sync,
    validate_uri,
)
from echorig.compatibility import Compatibility, in_force, put_in_force
from eventually import eventually
from lab import REF, RawUdp
from secrets_watch import token

NAMES = Compatibility.names()
yaml = pytest.importorskip('yaml')


def only(*names: str) -> Compatibility:
    """Return these switches on and all others off."""
    return Compatibility.without([name for name in NAMES if name not in names])


@pytest.fixture(autouse=True)
def switches() -> Iterator[None]:
    before = in_force()
    yield
    put_in_force(before)


def test_nothing_is_on_by_default():
    assert in_force().off == NAMES
    assert Compatibility().off == ()


def test_an_unknown_switch():
    with pytest.raises(ValueError, match=r'Unknown switch nonsense; choose from cancel_waiters, '):
        Compatibility.without(['cancel_waiters', 'nonsense'])


# --- cancel_waiters ---


async def waiting(client: EchoProtocol, *coros) -> list[asyncio.Task]:
    """Start coroutines and wait until they wait."""
    tasks = [asyncio.ensure_future(coro) for coro in coros]
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    return tasks


async def test_close_cancels_what_waits(lab):
    put_in_force(only('cancel_waiters'))
    peer = await RawUdp.open()
    client = await lab.client(peer.uri)
    calls = client.on_event('EXPEND'), client.start(REF), client.confirmed_send([8]), client.alyx()
    tasks = await waiting(client, *calls)
    await peer.hear()
    client.close()
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [True] * len(tasks)
    assert client.last_failure is not None
    with pytest.raises(ConnectionClosedError):  # it was closed before this call
        await client.on_event('EXPEND')
    with pytest.raises(ConnectionClosedError):
        await client.start(REF)
    with pytest.raises(ConnectionClosedError):
        await client.alyx()
    peer.close()


async def test_close_cancels_the_wait_for_a_token(lab):
    put_in_force(only('cancel_waiters'))
    server, client = await lab.pair()
    asked: list[object] = []
    server.assign_callback('ALYX', lambda data, addr: asked.append(addr))
    (task,) = await waiting(client, client.alyx())
    await eventually(lambda: asked, 'the request is there')
    await eventually(lambda: not client.awaiting_response(), 'the request is confirmed')
    client.close()
    await asyncio.wait([task])
    assert task.cancelled()


@pytest.mark.blocks
async def test_no_thread_is_cancelled():
    """The calls of `echorig.sync` are no tasks of the program."""
    put_in_force(only('cancel_waiters'))
    server = sync.EchoProtocol.server('udp://127.0.0.1:0', 'server')
    waiting = server.submit.on_event('EXPEND')
    server.close()
    with pytest.raises(ConnectionClosedError):
        waiting.result(30)


async def test_clear_callbacks_cancels_what_waits(lab):
    put_in_force(only('cancel_waiters'))
    server = await lab.server()
    cleared, kept = await waiting(server, server.on_event('EXPEND'), server.on_event('EXPINIT'))
    assert server.clear_callbacks('EXPEND') == 1
    await asyncio.wait([cleared])
    assert cleared.cancelled()
    assert not kept.done()
    server.close()
    await asyncio.wait([kept])


async def test_without_the_switch_they_raise(lab):
    put_in_force(Compatibility.without(['cancel_waiters']))
    server = await lab.server()
    cleared, closed = await waiting(server, server.on_event('EXPEND'), server.on_event('EXPINIT'))
    server.clear_callbacks('EXPEND')
    with pytest.raises(EchoError):
        await cleared
    server.close()
    with pytest.raises(ConnectionClosedError):
        await closed


async def test_a_lost_connection_does_not_cancel(lab):
    """Only the own program cancels; iblutil would wait for ever here."""
    put_in_force(only('cancel_waiters'))
    server = await lab.server('tcp')
    client = await lab.client(server, reconnect=False)
    await client.init()
    tasks = await waiting(client, client.on_event('EXPEND'))
    server.close()
    with pytest.raises(ConnectionClosedError):
        await tasks[0]


@pytest.mark.parametrize('replaced', [False, True])
async def test_a_set_of_rigs_names_the_rig_that_was_closed(lab, replaced, monkeypatch):
    """In iblutil the rig is missing from the answers, which nothing reports."""
    put_in_force(only('cancel_waiters'))
    answering, silent = await lab.answering(name='first'), await lab.server(name='second')
    first, second = await lab.client(answering, 'first'), await lab.client(silent, 'second')
    if replaced:  # a program that replaces a method, whose coroutine is then cancelled

        class Own(EchoProtocol):
            async def on_event(self, event):
                return await super().on_event(event)

        second.__class__ = Own
    task = asyncio.ensure_future(Services([first, second], timeout=30).init())
    data, addr = await silent.on_event('EXPINIT')
    await eventually(lambda: not second.awaiting_response(), 'the second rig has confirmed')
    second.close()
    with pytest.raises(ServicesError, match='second') as caught:
        await task
    assert caught.value.responses == {'first': [None]}
    assert type(caught.value.failures['second']) is ConnectionClosedError


# --- console_log ---


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The logger of a communicator, which keeps nothing for the next test."""
    log = logging.getLogger('console')
    yield log
    log.handlers, log.level = [], logging.NOTSET


@pytest.mark.parametrize('own', ['server', 'client'])
async def test_a_console_log(lab, logger, capsys, own):
    put_in_force(only('console_log'))
    quiet = logging.getLogger('quiet')
    peer = await lab.server(name='peer', log=quiet)
    com = await (lab.server(name='console') if own == 'server' else lab.client(peer, 'console'))
    assert com.logger is logger
    assert logger.level == logging.DEBUG
    assert [handler.name for handler in logger.handlers] == ['console_auto']
    await (com if own == 'client' else await lab.client(com, 'peer', log=quiet)).init()
    printed = capsys.readouterr()
    assert '[console]' in printed.out
    assert ('Received' if own == 'server' else 'Confirmation received') in printed.out
    assert not quiet.handlers


async def test_a_second_communicator_does_not_print_twice(lab, logger):
    put_in_force(only('console_log'))
    await lab.server(name='console')
    await lab.server(name='console')
    assert len(logger.handlers) == 1


async def test_no_console_log(lab, logger):
    put_in_force(Compatibility.without(['console_log']))
    await lab.server(name='console')
    assert (logger.handlers, logger.level) == ([], logging.NOTSET)


# --- tokens_in_yaml ---


@pytest.mark.parametrize('is_on', [False, True])
async def test_tokens(lab, is_on):
    put_in_force(only('tokens_in_yaml') if is_on else Compatibility.without(['tokens_in_yaml']))
    server, client = await lab.pair()
    secret = token()
    alyx = SimpleNamespace(
        base_url='https://alyx.example.org', user='olivia', _token={'token': secret}, is_logged_in=True
    )
    received: list[list] = []
    server.assign_callback('ALYX', lambda data, addr: received.append(data))
    await client.alyx(alyx)
    (data,) = received
    assert data == ['https://alyx.example.org', {'olivia': {'token': secret}}]
    if is_on:
        assert yaml.safe_load(yaml.safe_dump(data)) == data
        assert type(data[1]) is dict
    else:
        with pytest.raises(yaml.representer.RepresenterError):
            yaml.safe_dump(data)
        assert secret not in repr(data)


async def test_the_log_hides_tokens_all_the_same(lab, caplog):
    """`secrets_watch` searches the log of each test; here is a log of everything."""
    caplog.set_level(logging.DEBUG)
    put_in_force(Compatibility.without(['console_log']))
    server, client = await lab.pair()
    secret = token()
    alyx = SimpleNamespace(
        base_url='https://alyx.example.org', user='olivia', _token={'token': secret}, is_logged_in=True
    )

    def fail(data, addr):
        raise ValueError(f'cannot use {data}')

    server.assign_callback('ALYX', fail)
    await client.alyx(alyx)
    await eventually(lambda: any('failed with error' in text for text in caplog.messages), 'the failure is logged')
    assert secret not in caplog.text


# --- zero_timeout ---


@pytest.mark.parametrize('is_on', [False, True])
async def test_a_timeout_of_zero(lab, is_on):
    put_in_force(only('zero_timeout') if is_on else Compatibility.without(['zero_timeout']))
    server, client = await lab.pair()
    if is_on:
        client.default_echo_timeout = 0
    else:
        with pytest.raises(ValueError, match='default_echo_timeout'):
            client.default_echo_timeout = 0
    if is_on:
        with pytest.raises(ValueError, match=r'[Tt]imeout'):
            await client.init()
        client.default_echo_timeout = 1.0
    await client.init()


# --- patched_names ---


async def test_a_replaced_wait_for(lab):
    put_in_force(only('patched_names'))
    server, client = await lab.pair()
    spy = mock.Mock()
    server.assign_callback('EXPSTART', spy)
    with mock.patch('asyncio.wait_for', side_effect=asyncio.TimeoutError) as wait_for:
        with pytest.raises(EchoTimeoutError, match=r'client.*EXPSTART'):
            await client.start(REF)
        wait_for.assert_awaited_once_with(mock.ANY, timeout=client.default_echo_timeout)
        with pytest.raises(TimeoutError):
            await client.confirmed_send([2, REF], timeout=0.25)
        assert wait_for.await_args.kwargs == {'timeout': 0.25}
    with (
        mock.patch('asyncio.wait_for', side_effect=RuntimeError),
        pytest.raises(EchoMismatchError, match=r'Unexpected response'),
    ):
        await client.start(REF)
    with mock.patch('asyncio.wait_for'):  # waits for nothing
        await client.start(REF)
    with mock.patch('asyncio.wait_for', wraps=asyncio.wait_for) as wait_for:
        await client.start(REF, 'waits')
        wait_for.assert_awaited_once()
    assert client.is_connected
    assert not client.awaiting_response()
    await client.stop()  # late echoes of the others are swallowed
    assert [call.args[0][1] for call in spy.call_args_list].count('waits') == 1


async def test_wait_for_is_not_used_without_the_switch(lab):
    put_in_force(Compatibility.without(['patched_names']))
    server, client = await lab.pair()
    with mock.patch('asyncio.wait_for', side_effect=asyncio.TimeoutError) as wait_for:
        await client.start(REF)
    wait_for.assert_not_called()


async def test_a_replaced_gethostbyname(lab):
    put_in_force(only('patched_names'))
    with mock.patch('socket.gethostbyname', return_value='127.0.0.1') as gethostbyname:
        assert str(hostname2ip('a-rig-that-no-network-has')) == '127.0.0.1'
        assert validate_uri('a-rig-that-no-network-has:9') == 'udp://127.0.0.1:9'
        async with EchoProtocol.client('a-rig-that-no-network-has:9') as client:
            assert client.hostname == '127.0.0.1'
        gethostbyname.assert_called_with('a-rig-that-no-network-has')
        gethostbyname.side_effect = socket.gaierror
        with pytest.raises(ValueError, match='resolve'):
            hostname2ip('another')


# --- no switch ---


async def test_a_truncated_echo_of_a_pair_put_in_by_hand(lab, caplog):
    server, client = await lab.pair()
    client.max_message_size = 5
    addr = (server.hostname, server.port)
    for echo, warns in ((b'[16,"foo"]', False), (b'[16,"', True)):
        future = asyncio.get_running_loop().create_future()
        client._last_sent[addr] = (b'[16,"foo"]', future)
        caplog.clear()
        client._receive(echo, addr)
        assert future.result() is True
        assert any('Received truncated echo' in text for text in caplog.messages) is warns
