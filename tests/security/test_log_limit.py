"""What peers can cause to be logged, and how much of it is."""

from __future__ import annotations

import asyncio
import logging
import warnings

import pytest

from echorig import Tuning
from echorig.security import log_limit
from echorig.security.log_limit import LogLimit
from echorig.wire._codec import encode
from rigs import RawUdp

PEER = ('127.0.0.1', 9)
BURST = Tuning().log_burst


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [100.0]
    monkeypatch.setattr(log_limit, 'monotonic', lambda: now[0])
    return now


@pytest.fixture
def written(caplog):
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_first_few_are_written_and_the_rest_summed_up(clock, written):
    limit = LogLimit(logging.getLogger('rig'), 3, 10.0)
    assert [limit.allows('errors', ('host', i % 5)) for i in range(100)] == [True] * 3 + [False] * 97
    assert written() == []
    clock[0] += 10.0
    assert limit.allows('errors', PEER)
    assert written() == ['… and 97 more errors from 5 addresses in the last 10 s (Tuning.log_burst)']
    assert limit.left_out == 97
    clock[0] += 10.0
    assert limit.allows('errors', PEER)  # nothing was left out, so there is no sum
    assert len(written()) == 1


def test_kinds_have_limits_of_their_own(clock, written):
    limit = LogLimit(logging.getLogger('rig'), 2, 10.0)
    assert [limit.allows('errors', PEER) for _ in range(3)] == [True, True, False]
    assert [limit.allows('others', PEER, 2) for _ in range(5)] == [True] * 4 + [False]
    clock[0] += 3.0
    limit.close()
    assert [line.split(' (')[0] for line in written()] == [
        '… and 1 more errors from 1 address in the last 3 s',
        '… and 1 more others from 1 address in the last 3 s',
    ]
    limit.close()
    assert len(written()) == 2


def test_addresses_are_counted_within_bounds(clock, written):
    limit = LogLimit(logging.getLogger('rig'), 1, 10.0)
    for port in range(10_000):
        limit.allows('errors', ('host', port))
    limit.close()
    assert 'and 9999 more errors from at least 4096 addresses' in written()[0]


async def test_the_sum_is_written_in_time():
    loop = asyncio.get_running_loop()
    records = []

    class Kept(logging.Handler):
        def emit(self, record):
            records.append(record.getMessage())
            done.set()

    logger, done = logging.getLogger('timely'), asyncio.Event()
    logger.addHandler(Kept())
    limit = LogLimit(logger, 1, 0.01, loop.call_later)
    assert [limit.allows('errors', PEER) for _ in range(3)] == [True, False, False]
    await asyncio.wait_for(done.wait(), 10)
    assert records[0].startswith('… and 2 more errors from 1 address in the last')
    logger.handlers.clear()
    limit.close()
    assert len(records) == 1


@pytest.mark.parametrize('burst', [None, 3])
async def test_bytes_that_are_no_message(lab, written, burst):
    """Written, and warned of, are the first; counted are all."""
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


async def test_notices_and_callbacks_that_fail(lab, written):
    """A session has many rigs, and all may fail; a flood of failures is another thing."""
    server, client = await lab.pair()
    await client.init()
    for i in range(500):
        server._receive(encode([0, f'text {i}']), ('127.0.0.1', 1024 + i))
    assert len(written()) == 10 * BURST
    server.assign_callback('EXPSTATUS', lambda data, addr: 1 / 0)
    for i in range(500):
        server._receive(encode([32, i]), ('127.0.0.1', 1024 + i))
    assert len(written()) == 20 * BURST


async def test_what_comes_from_hosts_that_are_not_the_server(lab, written):
    _, client = await lab.pair()
    for i in range(100):
        client.datagram_received(b'foo', ('192.168.0.1', 1024 + i))
    assert len(written()) == BURST


async def test_errors_of_the_system(lab, written):
    """An echo to an address that does not exist, such as port 0, is an error of the system for each datagram."""
    server = await lab.server()
    for _ in range(100):
        server.error_received(OSError(22, 'Invalid argument'))
    assert len(written()) == BURST


@pytest.mark.filterwarnings('ignore:Expected list:RuntimeWarning')
async def test_frames_that_keep_coming_back(lab, written):
    server, client = await lab.pair()
    await client.init()
    peer = await RawUdp.open()
    for i in range(60):
        for _ in range(6):
            server.datagram_received(b'bad', ('127.0.0.1', 1024 + i))
    assert sum('keep coming back' in line for line in written()) == BURST
    assert sum('Ignored' in line for line in written()) == BURST
    peer.close()
