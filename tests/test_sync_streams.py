"""Streams read by threads: in order, nothing lost, bounded, and ended with what they tell of."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

import pytest

from echorig import ConnectionClosedError, EchoTimeoutError, ExpMessage, sync
from echorig.sync.process import background
from rigs import REF
from test_sync import PATIENCE, in_thread, until


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
    until(lambda: not background()._waiting)


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
