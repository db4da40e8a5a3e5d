"""Warnings that peers can cause are logged at a limited rate."""

from __future__ import annotations

import asyncio
import logging
import warnings

import pytest

from echorig import Tuning
from echorig.security import log_limit
from echorig.security.log_limit import RateLimitedLog
from echorig.wire._codec import encode
from lab import RawUdp

PEER = ('127.0.0.1', 9)
BURST = Tuning().log_burst


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test controls."""
    now = [100.0]
    monkeypatch.setattr(log_limit, 'monotonic', lambda: now[0])
    return now


@pytest.fixture
def written(caplog):
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_first_few_are_logged_and_the_rest_summarized(clock, written):
    limit = RateLimitedLog(logging.getLogger('rig'), 3, 10.0)
    assert [limit.should_log('errors', ('host', i % 5)) for i in range(100)] == [True] * 3 + [False] * 97
    assert written() == []
    clock[0] += 10.0
    assert limit.should_log('errors', PEER)
    assert written() == ['… and 97 more errors from 5 addresses in the last 10 s (Tuning.log_burst)']
    assert limit.suppressed == 97
    clock[0] += 10.0
    assert limit.should_log('errors', PEER)  # nothing was suppressed, so there is no summary
    assert len(written()) == 1


def test_each_kind_has_its_own_limit(clock, written):
    limit = RateLimitedLog(logging.getLogger('rig'), 2, 10.0)
    assert [limit.should_log('errors', PEER) for _ in range(3)] == [True, True, False]
    assert [limit.should_log('others', PEER, 2) for _ in range(5)] == [True] * 4 + [False]
    clock[0] += 3.0
    limit.close()
    assert [line.split(' (')[0] for line in written()] == [
        '… and 1 more errors from 1 address in the last 3 s',
        '… and 1 more others from 1 address in the last 3 s',
    ]
    limit.close()
    assert len(written()) == 2


def test_addresses_are_counted_within_bounds(clock, written):
    limit = RateLimitedLog(logging.getLogger('rig'), 1, 10.0)
    for port in range(10_000):
        limit.should_log('errors', ('host', port))
    limit.close()
    assert 'and 9999 more errors from at least 4096 addresses' in written()[0]


async def test_the_summary_is_logged_in_time():
    loop = asyncio.get_running_loop()
    records = []

    class Kept(logging.Handler):
        def emit(self, record):
            records.append(record.getMessage())
            done.set()

    logger, done = logging.getLogger('timely'), asyncio.Event()
    logger.addHandler(Kept())
    limit = RateLimitedLog(logger, 1, 0.01, loop.call_later)
    assert [limit.should_log('errors', PEER) for _ in range(3)] == [True, False, False]
    await asyncio.wait_for(done.wait(), 10)
    assert records[0].startswith('… and 2 more errors from 1 address in the last')
    logger.handlers.clear()
    limit.close()
    assert len(records) == 1


@pytest.mark.parametrize('burst', [None, 3])
async def test_malformed_frames(lab, written, burst):
    """The first ones are logged and warned about; all are counted."""
    tuning = Tuning() if burst is None else Tuning(log_burst=burst)
    server, client = await lab.pair(tuning=tuning)
    await client.init()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for i in range(500):
            server._receive(b'bad %d' % i, ('127.0.0.1', 1024 + i % 50))
    assert len(caught) == (burst or BURST)
    assert all(line.startswith('Ignored ') for line in written())
    assert len(written()) == (burst or BURST)
    assert sum(peer.malformed for peer in server.peers.values()) == server.peers.malformed == 500
    server.close()
    assert f'… and {500 - (burst or BURST)} more that were no message from 50 addresses' in written()[-1]
    assert len(written()) == (burst or BURST) + 1


async def test_notices_and_failing_callbacks(lab, written):
    """The limit is higher, because all rigs of a session may fail at once."""
    server, client = await lab.pair()
    await client.init()
    for i in range(500):
        server._receive(encode([0, f'text {i}']), ('127.0.0.1', 1024 + i))
    assert len(written()) == 10 * BURST
    server.assign_callback('EXPSTATUS', lambda data, addr: 1 / 0)
    for i in range(500):
        server._receive(encode([32, i]), ('127.0.0.1', 1024 + i))
    assert len(written()) == 20 * BURST


async def test_packets_of_unexpected_hosts(lab, written):
    _, client = await lab.pair()
    for i in range(100):
        client.datagram_received(b'foo', ('192.168.0.1', 1024 + i))
    assert len(written()) == BURST


async def test_system_errors(lab, written):
    """An echo to an invalid address, such as port 0, causes a system error for each datagram."""
    server = await lab.server()
    for _ in range(100):
        server.error_received(OSError(22, 'Invalid argument'))
    assert len(written()) == BURST


@pytest.mark.filterwarnings('ignore:Expected list:RuntimeWarning')
async def test_frames_that_are_repeated_endlessly(lab, written):
    server, client = await lab.pair()
    await client.init()
    peer = await RawUdp.open()
    for i in range(60):
        for _ in range(6):
            server.datagram_received(b'bad', ('127.0.0.1', 1024 + i))
    assert sum('keep coming back' in line for line in written()) == BURST
    assert sum('Ignored' in line for line in written()) == BURST
    peer.close()
