"""Loss, doubling, delay and reordering beneath the exchange, and consumers that are too slow for the broker."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from brokers import needs_broker, subject
from echorig import EchoError, EchoProtocol
from eventually import eventually
from lab import REF
from nats_faults import FaultyWay
from programs import Program

pytestmark = needs_broker


@pytest.mark.parametrize('seed', [1, pytest.param(2, marks=pytest.mark.slow)])
async def test_each_confirmed_message_is_delivered_once_in_order(lab, broker, seed):
    topic, front = subject(), subject()
    rig = await EchoProtocol.server(f'{broker.uri}/{topic}', 'rig')
    lab.opened.append(rig)
    heard, told, addrs = [], [], []
    rig.assign_callback('EXPINFO', lambda data, addr: (heard.append(data[1]), addrs.append(addr)))
    async with FaultyWay(broker.uri, front, topic, seed, 0.2, 0.2, 0.1, 0.5) as way:
        main = await EchoProtocol.client(f'{broker.uri}/{front}', 'main')
        main.assign_callback('EXPINFO', lambda data, addr: told.append(data[1]))
        try:
            await asyncio.gather(*(main.confirmed_send([64, 20, n], timeout=60) for n in range(60)))
            await asyncio.gather(*(rig.confirmed_send([64, 20, n], addrs[0], timeout=60) for n in range(40)))
            await asyncio.sleep(0.6)  # the last copies arrive
        finally:
            main.close()
            await main.wait_closed()
        assert heard == list(range(60))
        assert told == list(range(40))
        assert way.n_lost > 10
        assert way.n_doubled > 10
        assert way.n_late > 10


@pytest.mark.slow
async def test_no_copy_arrives_after_its_send_has_failed(lab, broker):
    """Each copy is delayed, the usual time of this way is short."""
    topic, front = subject(), subject()
    rig = await EchoProtocol.server(f'{broker.uri}/{topic}', 'rig')
    lab.opened.append(rig)
    heard, failed = {}, {}
    rig.assign_callback('EXPINFO', lambda data, addr: heard.setdefault(data[1], []).append(time.monotonic()))
    async with FaultyWay(broker.uri, front, topic, 3, 0.3, 0.3, 0.4, 2.0):
        main = await EchoProtocol.client(f'{broker.uri}/{front}', 'main')
        try:
            await main.confirmed_send([64, 20, -1], timeout=60)
            for n in range(40):
                try:
                    await main.confirmed_send([64, 20, n], timeout=0.1)
                except EchoError:
                    failed[n] = time.monotonic()
            await asyncio.sleep(2.5)
        finally:
            main.close()
            await main.wait_closed()
    assert failed
    assert all(len(times) == 1 for times in heard.values())
    late = {n: heard[n][0] - at for n, at in failed.items() if n in heard and heard[n][0] > at + 1.0}
    assert not late


RIG = """
import asyncio, sys
from echorig import EchoProtocol

async def main():
    com = await EchoProtocol.server(sys.argv[1], 'rig')
    heard = []
    com.assign_callback('EXPINFO', lambda data, addr: heard.append(data[1]['n']))
    com.assign_callback('EXPEND', lambda data, addr: print('heard', len(heard), len(set(heard)), flush=True))
    com.assign_callback('EXPSTART', lambda data, addr: print('started', data[0], flush=True))
    print('serves', flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.blocks
@pytest.mark.timeout(180)
async def test_a_rig_that_stands_still_while_it_is_flooded(lab, broker):
    """The broker drops it as a slow consumer, or keeps what was sent; afterwards the session goes on."""
    uri = f'{broker.uri}/{subject()}'
    with Program(RIG, uri) as rig:
        await asyncio.to_thread(rig.wait_for, 'serves')
        main = await lab.client(uri)
        await main.start(REF)
        rig.send_signal(signal.SIGSTOP)
        text = 'x' * 60_000
        with pytest.raises(EchoError):
            await main.confirmed_send([2, 'LATE'], timeout=0.5)
        for n in range(1500):  # 90 MB: more than a broker keeps for one program
            try:
                main.send([64, 20, {'n': n, 'text': text}])
            except OSError:
                await asyncio.sleep(0.02)
            if n % 20 == 0:
                await asyncio.sleep(0.005)
        await asyncio.sleep(3.0)
        rig.send_signal(signal.SIGCONT)
        await main.confirmed_send([2, 'AFTER'], timeout=60)
        await asyncio.to_thread(rig.wait_for, 'started AFTER')
        await main.confirmed_send([4], timeout=60)
        line = await asyncio.to_thread(rig.wait_for, 'heard')
        _, n_heard, n_distinct = line.split()
        assert n_heard == n_distinct
        assert not any('LATE' in line for line in rig.lines)
        await eventually(lambda: main.is_connected, 'the session goes on')
