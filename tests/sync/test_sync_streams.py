"""Streams read by threads: in order, nothing lost, bounded, and ended with what they tell of."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

import pytest
from test_sync import PATIENCE, in_thread, until

import internals
from echorig import ConnectionClosedError, EchoTimeoutError, ExpMessage, sync
from echorig.events._reply_context import current_request
from echorig.sync.portal import current_portal
from lab import REF


@pytest.fixture
def pair(transport: str) -> Iterator[tuple[sync.EchoProtocol, sync.EchoProtocol]]:
    with sync.EchoProtocol.server(f'{transport}://127.0.0.1:0', 'rig') as server:
        with sync.EchoProtocol.client(server.server_uri, 'main') as client:
            yield server, client


def test_a_loop_that_takes_its_time_loses_nothing(pair: Any) -> None:
    server, client = pair
    heard = []
    with server.events(limit=2000) as stream:
        sending = in_thread(lambda: [client.info(20, number) for number in range(1000)])
        for data, addr, event in stream:
            assert event == ExpMessage.EXPINFO
            heard.append(data[1])
            if data[1] % 100 == 0:
                server.info(20, 'half', addr=addr)  # meanwhile others come
            if data[1] == 999:
                break
        sending.result(PATIENCE)
        assert stream.dropped == 0
    assert heard == list(range(1000))


def test_get(pair: Any) -> None:
    server, client = pair
    with server.events('EXPSTART') as stream, server.events(0) as notices:
        with pytest.raises(EchoTimeoutError, match=r'0\.01 s'):
            stream.get(timeout=0.01)
        client.init()
        client.start(REF)
        data, addr, event = stream.get(timeout=PATIENCE)
        assert (data, event.name) == ([REF, None], 'EXPSTART')
        client.start(REF)
        assert len(stream) == 1
        assert stream.get(timeout=1e-9)[0] == [REF, None]
        waiting = in_thread(stream.get)
        client.start('last')
        assert waiting.result(PATIENCE)[0] == ['last', None]
        client.send([0, 'ValueError: x', 2])
        assert notices.get(timeout=PATIENCE)[0] == ['ValueError: x', 2]
    with pytest.raises(ConnectionClosedError, match='ended'):
        stream.get()
    assert list(stream) == []


def test_bounded(pair: Any, caplog: pytest.LogCaptureFixture) -> None:
    server, client = pair
    with server.events(limit=5) as stream:
        for number in range(20):
            client.info(20, number)
        assert (stream.limit, stream.dropped, len(stream)) == (5, 15, 5)
        assert [stream.get(PATIENCE)[0][1] for _ in range(5)] == list(range(15, 20))
    assert any(record.levelno == logging.WARNING and 'oldest is dropped' in record.message for record in caplog.records)
    with pytest.raises(ValueError, match='limit'):
        server.events(limit=0)


def test_several_threads_share_a_stream(pair: Any) -> None:
    server, client = pair
    heard: list[int] = []
    with server.events() as stream:

        def read() -> None:
            for data, _, _ in stream:
                heard.append(data[1])

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(200):
            client.info(20, number)
        until(lambda: len(heard) == 200)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert sorted(heard) == list(range(200))


def test_closing_ends_the_iteration(pair: Any) -> None:
    server, client = pair
    heard = []

    def read() -> None:
        with client.events() as stream:
            began.set()
            for data, _, _ in stream:
                heard.append(data)

    began = threading.Event()
    peer = server.submit.on_event('EXPINIT')
    client.init()
    reading = in_thread(read)
    assert began.wait(PATIENCE)
    server.info(20, 'x', addr=peer.result(PATIENCE)[1])
    until(lambda: heard)
    client.close()
    with pytest.raises(ConnectionClosedError, match='main'):
        reading.result(PATIENCE)
    assert heard == [[20, 'x']]
    until(lambda: not internals.endless_calls(current_portal()))


def test_on_the_background_thread(pair: Any) -> None:
    """A callback that would wait for the next message is told so."""
    server, client = pair
    with server.events() as stream:
        notice = client.submit.on_event(0)
        server.assign_callback('EXPINIT', lambda data, addr: stream.get())
        client.init()
        assert 'would wait for itself' in notice.result(PATIENCE)[0][0]


def test_connections() -> None:
    """A server whose clients come and go tells streams and callbacks, on the background thread."""
    changes: Queue[Any] = Queue()
    with sync.EchoProtocol.server('tcp://127.0.0.1:0', 'rig') as server, server.connection_events() as stream:
        server.assign_connection_callback(changes.put)
        server.assign_connection_callback(print)
        assert server.clear_connection_callbacks(print) == 1
        with sync.EchoProtocol.client(server.server_uri, 'main') as client:
            client.init()
        told = [stream.get(PATIENCE) for _ in range(2)]
        assert [change.state for change in told] == ['connected', 'lost']
        assert [changes.get(timeout=PATIENCE) for _ in range(2)] == told


@pytest.mark.parametrize('limit', [None, PATIENCE, float('inf')])
@pytest.mark.parametrize('read', ['on_event', 'get'])
def test_what_is_sent_next_is_the_answer(pair: Any, read: str, limit: float | None) -> None:
    """The message that was read is known to the thread that reads, with a time limit and without one."""
    server, client = pair

    def rig() -> Any:
        with server.events('EXPSTART') as stream:
            ready.set()
            data = stream.get(limit)[0] if read == 'get' else server.on_event('EXPSTART', timeout=limit)[0]
            request = current_request.get()
            assert request is not None
            return data, request.event

    for number in range(3):
        ready = threading.Event()
        reading = in_thread(rig)
        assert ready.wait(PATIENCE)
        if read == 'on_event' and number == 0:
            until(lambda: internals.waiters(server.asynchronous))
        client.start(f'{REF}{number}')
        assert reading.result(PATIENCE) == ([f'{REF}{number}', None], ExpMessage.EXPSTART)


@pytest.mark.parametrize('event', ['EXPINFO', ExpMessage.any()])
def test_a_message_whose_future_was_cancelled_is_the_next(pair: Any, event: Any) -> None:
    """The future is cancelled when the message is there already, and the background thread has yet to hand it over."""
    server, client = pair
    reading = server.submit.on_event(event)
    client.info(20, 'first')
    assert reading.result(PATIENCE)[0] == [20, 'first']
    reading = server.submit.on_event(event)
    until(lambda: internals.waiters(server.asynchronous))
    cancelled: Queue[bool] = Queue()
    server.assign_callback('EXPINFO', lambda data, addr: data[1] == 'second' and cancelled.put(reading.cancel()))
    client.info(20, 'second')
    assert cancelled.get(timeout=PATIENCE)
    client.info(20, 'third')
    for expected in 'second', 'third':
        assert server.on_event(event, timeout=PATIENCE)[0] == [20, expected]
        request = current_request.get()
        assert request is not None
        assert request.event == ExpMessage.EXPINFO
