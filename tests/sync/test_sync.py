"""Blocking use within one process: calls from threads, callbacks, futures, closing, and what would never end."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from queue import Queue
from typing import Any

import pytest

import echorig
import internals
from echorig import (
    ConnectionClosedError,
    EchoTimeoutError,
    ExpMessage,
    PeerUnreachableError,
    RemoteCallbackError,
    ServicesError,
    ServicesTimeoutError,
    sync,
)
from echorig.sync.portal import current_portal
from lab import REF, free_port
from systems import RefusedError

PATIENCE = 20.0  # seconds; only a failure waits that long


@pytest.fixture
def opened() -> Iterator[list[sync.EchoProtocol]]:
    """What a test opens, closed at its end."""
    coms: list[sync.EchoProtocol] = []
    yield coms
    for com in reversed(coms):
        com.close()


@pytest.fixture
def server(opened: list[sync.EchoProtocol], transport: str) -> sync.EchoProtocol:
    opened.append(sync.EchoProtocol.server(f'{transport}://127.0.0.1:0', 'rig'))
    return opened[-1]


@pytest.fixture
def client(opened: list[sync.EchoProtocol], server: sync.EchoProtocol) -> sync.EchoProtocol:
    opened.append(sync.EchoProtocol.client(server.server_uri, 'main'))
    return opened[-1]


def answering(transport: str, name: str, opened: list[sync.EchoProtocol]) -> sync.EchoProtocol:
    rig = sync.EchoProtocol.server(f'{transport}://127.0.0.1:0', name)
    opened.append(rig)
    rig.assign_callback(
        ExpMessage.any(), lambda data, addr, event: rig.submit.confirmed_send([event, *data], addr) and None
    )
    return rig


def in_thread(function: Any, *args: Any) -> Future[Any]:
    """Call a function in a thread of its own."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as ex:
            future.set_exception(ex)

    threading.Thread(target=work, daemon=True).start()
    return future


def until(condition: Any) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_every_message_arrives(server: sync.EchoProtocol, client: sync.EchoProtocol) -> None:
    heard: Queue[Any] = Queue()
    server.assign_callback(ExpMessage.any(), lambda data, addr, event: heard.put((event.name, data)))
    client.init({'a': 1})
    client.start(REF, 'x')
    client.status('RUNNING')
    client.info(20, data='y')
    client.stop()
    client.stop('z', immediately=True)
    client.cleanup()
    client.confirmed_send([64, 0, 'raw'], timeout=5)
    client.send([64, 0, 'sent'])
    assert [heard.get(timeout=PATIENCE) for _ in range(9)] == [
        ('EXPINIT', [{'a': 1}]), ('EXPSTART', [REF, 'x']), ('EXPSTATUS', [20]), ('EXPINFO', [20, 'y']),
        ('EXPEND', [None]), ('EXPINTERRUPT', ['z']), ('EXPCLEANUP', [None]), ('EXPINFO', [0, 'raw']),
        ('EXPINFO', [0, 'sent']),
    ]  # fmt: skip
    assert 0 < client.ping() < PATIENCE
    assert client.peers[server.hostname, server.port].kind == 'echorig'
    assert server.clear_callbacks(ExpMessage.any()) == 8


def test_a_loop_around_on_event_and_the_way_back(server: sync.EchoProtocol, client: sync.EchoProtocol) -> None:
    def rig() -> list[Any]:
        heard = []
        while True:
            data, addr, event = server.on_event(ExpMessage.any())
            heard.append(data[-1])
            server.confirmed_send([event, 'answer', *data], addr)
            if event == ExpMessage.EXPCLEANUP:
                return heard

    working = in_thread(rig)
    for number in range(100):
        answer = client.submit.on_event('EXPINFO')
        client.info(20, number)
        assert answer.result(PATIENCE)[0] == ['answer', 20, number]
    client.cleanup('end')
    assert working.result(PATIENCE) == [*range(100), 'end']


def test_threads_share_a_communicator(server: sync.EchoProtocol, client: sync.EchoProtocol) -> None:
    heard: list[Any] = []
    server.assign_callback('EXPINFO', lambda data, addr: heard.append(data[1]))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda thread: [client.info(20, [thread, i]) for i in range(50)], range(8)))
    assert sorted(heard) == [[thread, i] for thread in range(8) for i in range(50)]
    for thread in range(8):
        assert [i for t, i in heard if t == thread] == list(range(50))


def test_one_thread_serves_all(server: sync.EchoProtocol, client: sync.EchoProtocol) -> None:
    seen: Queue[tuple[int, str]] = Queue()

    def look(*_: object) -> None:
        seen.put((threading.get_ident(), type(asyncio.get_running_loop()).__module__.partition('.')[0]))

    server.assign_callback('EXPSTART', look)
    client.assign_callback('EXPEND', look)
    peer = server.submit.on_event('EXPSTART')
    client.start(REF)
    server.stop(addr=peer.result(PATIENCE)[1])
    first, second = seen.get(timeout=PATIENCE), seen.get(timeout=PATIENCE)
    assert first == second
    assert first[0] != threading.get_ident()
    assert first[1] == echorig.loop_name()
    assert [thread.name for thread in threading.enumerate()].count('echorig.sync') == 1


def test_a_callback_that_fails_is_a_notice(server: sync.EchoProtocol, client: sync.EchoProtocol) -> None:
    def fail(data: Any, addr: Any) -> None:
        raise ValueError('no disk left')

    async def fail_later(data: Any, addr: Any) -> None:
        await asyncio.sleep(0)
        raise LookupError('no camera')

    server.assign_callback('EXPSTART', fail)
    server.assign_callback('EXPINIT', fail_later)
    for call, text, event in (
        (lambda: client.start(REF), 'ValueError: no disk left', 2),
        (client.init, 'LookupError: no camera', 1),
    ):
        notice = client.submit.on_event(0)
        call()
        assert notice.result(PATIENCE)[0] == [text, event]


def test_a_call_in_a_callback_says_what_to_do(server: sync.EchoProtocol, client: sync.EchoProtocol) -> None:
    """It would wait for its own thread; what does not wait works."""
    errors: Queue[BaseException] = Queue()

    def hear(data: Any, addr: Any) -> None:
        for call in (lambda: client.start(REF), lambda: server.on_event('EXPEND'), client.wait_closed,
                     lambda: sync.EchoProtocol.client(server.server_uri),
                     lambda: sync.Services([client]).start(REF)):  # fmt: skip
            try:
                call()
            except RuntimeError as ex:
                errors.put(ex)
        server.send([64, 20, 'sent'], addr)
        server.submit.info(20, 'submitted', addr=addr)

    server.assign_callback('EXPINIT', hear)
    heard: Queue[str] = Queue()
    client.assign_callback('EXPINFO', lambda data, addr: heard.put(data[1]))
    client.init()
    texts = [str(errors.get(timeout=PATIENCE)) for _ in range(5)]
    assert sorted(heard.get(timeout=PATIENCE) for _ in range(2)) == ['sent', 'submitted']
    for name, text in zip(('start', 'on_event', 'wait_closed', 'client', 'start'), texts, strict=True):
        assert f'{name}() would wait for itself' in text
        assert f'submit.{name}' in text
        assert 'async def' in text


def test_callbacks_that_are_coroutine_functions(server: sync.EchoProtocol, client: sync.EchoProtocol) -> None:
    async def answer(data: Any, addr: Any) -> None:
        await asyncio.wrap_future(server.submit.info(20, 'wrapped', addr=addr))
        await server.asynchronous.info(20, 'asynchronous', addr=addr)

    server.assign_callback('EXPINIT', answer)
    heard: Queue[str] = Queue()
    client.assign_callback('EXPINFO', lambda data, addr: heard.put(data[1]))
    client.init()
    assert [heard.get(timeout=PATIENCE) for _ in range(2)] == ['wrapped', 'asynchronous']


@pytest.mark.parametrize('end', [SystemExit, KeyboardInterrupt])
def test_a_callback_that_ends_the_program_does_not_end_the_thread(
    server: sync.EchoProtocol, client: sync.EchoProtocol, end: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def leave(data: Any, addr: Any) -> None:
        raise end

    async def leave_later(data: Any, addr: Any) -> None:
        raise end

    notice = client.submit.on_event(0)
    server.assign_callback('EXPEND', leave)
    client.stop()
    assert end.__name__ in notice.result(PATIENCE)[0][0]
    server.assign_callback('EXPINIT', leave_later)
    client.init()
    until(lambda: any('asynchronous callback' in record.getMessage() for record in caplog.records))
    assert server.clear_callbacks('EXPEND', leave) == 1
    client.stop()
    assert client.ping() > 0


def test_in_a_running_loop(server: sync.EchoProtocol, client: sync.EchoProtocol) -> None:
    """A call blocks the loop of its thread, as in a notebook, and works."""

    async def cell() -> float:
        client.start(REF)
        return client.ping()

    assert echorig.run(cell()) > 0


def test_timeouts(server: sync.EchoProtocol, client: sync.EchoProtocol, transport: str) -> None:
    with pytest.raises(EchoTimeoutError, match=r'main.*EXPSTART.*0\.02 s'):
        client.on_event('EXPSTART', timeout=0.02)
    with pytest.raises(TimeoutError, match='EXPEND'):
        server.submit.on_event('EXPEND', timeout=0.02).result(PATIENCE)
    assert not any(client.asynchronous._callbacks.values())
    with pytest.raises(ValueError, match='Timeout must be non-zero number'):
        client.confirmed_send([1, None], timeout=0)
    client.response_timeout = 0.02
    with pytest.raises(EchoTimeoutError, match='token'):
        client.alyx()
    # A message that is there is returned even if there is no time to wait for it.
    with pytest.raises(EchoTimeoutError):
        server.on_event('EXPINFO', timeout=0.001)
    client.info(20, 'kept')
    assert server.on_event('EXPINFO', timeout=1e-9)[0] == [20, 'kept']


def test_silent_and_absent(opened: list[sync.EchoProtocol]) -> None:
    absent = sync.EchoProtocol.client(f'127.0.0.1:{free_port()}', 'absent')
    opened.append(absent)
    absent.default_echo_timeout = 0.2
    assert absent.default_echo_timeout == 0.2
    with pytest.raises(RefusedError, match='absent'):
        absent.start(REF)
    with pytest.raises(PeerUnreachableError, match='Nobody listens'):
        sync.EchoProtocol.client(f'tcp://127.0.0.1:{free_port()}', 'gone')
    with pytest.raises(ValueError, match='scheme'):
        sync.EchoProtocol.server('http://127.0.0.1:0')


def test_an_error_leaves_no_cycle(server: sync.EchoProtocol, client: sync.EchoProtocol) -> None:
    gc.collect()
    gc.disable()
    try:
        try:
            client.status('no status')
        except ValueError as ex:
            gone = weakref.ref(ex.__traceback__.tb_frame.f_code) if ex.__traceback__ else None
            error = weakref.ref(_Marked(ex))
        assert gone is not None
        until(lambda: error() is None)  # the background thread may have it for a moment
    finally:
        gc.enable()


class _Marked:
    """Dies with the last reference to it, which the exception holds."""

    def __init__(self, error: BaseException) -> None:
        error.mark = self  # type: ignore[attr-defined]


def test_closing_ends_the_calls_of_other_threads(
    server: sync.EchoProtocol, client: sync.EchoProtocol, transport: str
) -> None:
    waiting = [in_thread(client.on_event, 'EXPEND'), in_thread(client.wait_closed)]
    with pytest.raises(TypeError, match='addr'):
        server.start(REF)
    submitted = client.submit.on_event('EXPSTART')
    until(lambda: len(internals.endless_calls(current_portal())) == 3)
    client.close()
    with pytest.raises(ConnectionClosedError, match='main'):
        waiting[0].result(PATIENCE)
    with pytest.raises(ConnectionClosedError, match='main'):
        submitted.result(PATIENCE)
    assert waiting[1].result(PATIENCE) is None
    assert not client.is_connected
    assert client.on_connection_lost.result(PATIENCE) == 'Close called on communicator'
    for call in (lambda: client.start(REF), lambda: client.on_event('EXPEND'), lambda: client.send([1, None]),
                 lambda: client.assign_callback('EXPEND', print)):  # fmt: skip
        with pytest.raises(ConnectionClosedError, match='is closed'):
            call()
    client.close()
    uri = server.server_uri
    server.close()
    sync.EchoProtocol.server(uri).close()  # the port is free again


def test_closing_during_a_confirmed_send(opened: list[sync.EchoProtocol]) -> None:

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(('127.0.0.1', 0))
        com = sync.EchoProtocol.client(f'127.0.0.1:{silent.getsockname()[1]}', 'main')
        opened.append(com)
        waiting = in_thread(com.confirmed_send, [1, None], None, 60)
        silent.recv(100)
        com.close()
        with pytest.raises(ConnectionClosedError, match='EXPINIT'):
            waiting.result(PATIENCE)


def test_closing_in_a_callback(server: sync.EchoProtocol, client: sync.EchoProtocol) -> None:
    client.assign_callback('EXPEND', lambda data, addr: client.close())
    peer = server.submit.on_event('EXPSTART')
    client.start(REF)
    server.send([4, None], peer.result(PATIENCE)[1])
    assert client.on_connection_lost.result(PATIENCE) == 'Close called on communicator'
    client.wait_closed()


def test_futures(server: sync.EchoProtocol, client: sync.EchoProtocol) -> None:
    first, second = client.submit.start(REF), client.submit.ping()
    wait([first, second], PATIENCE)
    assert first.result() is None
    assert second.result() > 0
    with pytest.raises(ValueError, match='status'):
        client.submit.status('no status').result(PATIENCE)
    cancelled = client.submit.on_event('EXPEND')
    until(lambda: internals.endless_calls(current_portal()))
    assert cancelled.cancel()
    with pytest.raises(CancelledError):
        cancelled.result(PATIENCE)
    until(lambda: not internals.endless_calls(current_portal()))
    client.ping()  # the turn in which it was cancelled is over
    assert not any(client.asynchronous._callbacks.values())
    client.start(REF)


def test_services(opened: list[sync.EchoProtocol], transport: str) -> None:
    coms = [answering(transport, f'rig{i}', opened) for i in range(3)]
    with sync.Services([sync.EchoProtocol.client(rig.server_uri, rig.name) for rig in coms], 5.0) as rigs:
        assert list(rigs) == ['rig0', 'rig1', 'rig2']
        assert rigs.is_connected
        assert rigs.timeout == 5.0
        assert rigs.init({'a': 1}) == {f'rig{i}': [{'a': 1}] for i in range(3)}
        assert rigs.start(REF, concurrent=False) == {f'rig{i}': [REF, None] for i in range(3)}
        assert rigs.submit.status(20).result(PATIENCE) == {f'rig{i}': [20] for i in range(3)}
        assert rigs.info(20, 'x') == {f'rig{i}': [20, 'x'] for i in range(3)}
        assert rigs.stop('x', immediately=True) == {f'rig{i}': ['x'] for i in range(3)}
        assert internals.call_rigs(rigs, 'EXPINFO', 'confirmed_send', [64, 0, 'y']) == {
            f'rig{i}': [0, 'y'] for i in range(3)
        }
        assert rigs.cleanup() == {f'rig{i}': [None] for i in range(3)}
        heard: Queue[Any] = Queue()

        def hear(data: Any, addr: Any, event: ExpMessage, rig: Any) -> None:
            heard.put((rig, event.name, data))

        rigs.assign_callback(ExpMessage.EXPINIT | ExpMessage.EXPEND, hear, return_service=True)
        rigs.stop('now')
        told = [heard.get(timeout=PATIENCE) for _ in range(3)]
        assert sorted((rig.name, *rest) for rig, *rest in told) == [(f'rig{i}', 'EXPEND', ['now']) for i in range(3)]
        assert all(rigs[rig.name] is rig for rig, *_ in told)
        assert rigs.clear_callbacks(ExpMessage.EXPINIT | ExpMessage.EXPEND, hear) == {f'rig{i}': 2 for i in range(3)}
        waiting = rigs.submit.await_all('EXPSTATUS')
        for rig in rigs.values():
            rig.status(30)
        assert waiting.result(PATIENCE) == {f'rig{i}': [30] for i in range(3)}
    assert not rigs.is_connected
    with pytest.raises(ServicesError, match='closed'):
        rigs.start(REF)


def test_services_name_who_failed(opened: list[sync.EchoProtocol]) -> None:
    good, silent, failing = (
        answering('udp', 'good', opened),
        *(sync.EchoProtocol.server('127.0.0.1:0', name) for name in ('silent', 'failing')),
    )
    opened += silent, failing

    def fail(data: Any, addr: Any) -> None:
        raise ValueError('no disk left')

    failing.assign_callback('EXPSTART', fail)
    coms = [sync.EchoProtocol.client(rig.server_uri, rig.name) for rig in (good, silent, failing)]
    with sync.Services(coms) as rigs:
        rigs.timeout = 0.2
        with pytest.raises(ServicesTimeoutError, match='no disk left') as caught:
            rigs.start(REF)
        assert caught.value.responses == {'good': [REF, None]}
        assert {name: type(error) for name, error in caught.value.failures.items()} == {
            'silent': EchoTimeoutError, 'failing': RemoteCallbackError,
        }  # fmt: skip
        rigs.timeout = None
        waiting = in_thread(rigs.await_all, 'EXPEND')
        until(lambda: internals.endless_calls(current_portal()))
        rigs.close()
        with pytest.raises(ServicesError, match='3 of 3'):
            waiting.result(PATIENCE)


def test_what_services_refuse(server: sync.EchoProtocol, client: sync.EchoProtocol) -> None:
    with pytest.raises(TypeError, match=r'echorig\.sync\.EchoProtocol'):
        sync.Services([client.asynchronous])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="'main'"):
        sync.Services([client, client])
    with pytest.raises(TypeError, match='callable'):
        sync.Services([client]).assign_callback('EXPEND', Future())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match='callable'):
        client.assign_callback('EXPEND', Future())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        sync.Services([client])['other'] = client
    with pytest.raises(ValueError, match='no rigs'):
        sync.Services([])


@pytest.mark.slow
def test_nothing_is_left_behind(server: sync.EchoProtocol, client: sync.EchoProtocol) -> None:
    owner = current_portal()
    for _ in range(50):
        client.ping()
        with pytest.raises(EchoTimeoutError):
            client.on_event('EXPEND', timeout=1e-6)
        client.submit.on_event('EXPEND').cancel()
    until(lambda: not internals.endless_calls(owner))
    assert owner.run(lambda: len(asyncio.all_tasks(owner.loop))) <= 2  # that of this call, and none that waits
    opened = len(internals.opened(owner))
    for _ in range(5):
        sync.EchoProtocol.client(server.server_uri, 'other').close()
    assert len(internals.opened(owner)) == opened


def test_opening_that_is_interrupted_at_its_very_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is interrupted when the communicator is there, but nobody has it yet."""

    def interrupted(future: Future[Any]) -> None:
        waited(future)
        raise KeyboardInterrupt

    waited = Future.result
    uri = f'tcp://127.0.0.1:{free_port()}'
    with monkeypatch.context() as patched:
        patched.setattr(Future, 'result', interrupted)
        with pytest.raises(KeyboardInterrupt):
            sync.EchoProtocol.server(uri)
    until(lambda: not any(com.server_uri == uri for com in internals.opened(current_portal())))

    def is_free() -> bool:
        try:
            sync.EchoProtocol.server(uri).close()
        except OSError:  # the loop closes its socket in its own time
            return False
        return True

    until(is_free)


def test_logging_of_the_library_is_unchanged(
    server: sync.EchoProtocol, client: sync.EchoProtocol, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, 'main')
    client.start(REF)
    assert 'Confirmation received' in [record.getMessage() for record in caplog.records]
    assert client.logger.name == client.name == 'main'
    assert (client.role, client.protocol, client.hostname, client.port) == (
        'client', server.protocol, server.hostname, server.port,
    )  # fmt: skip
    assert 'main' in repr(client)
    assert client.encode([1, None]) == b'[1, null]'
    assert client.decode(b'[1]') == [1]
