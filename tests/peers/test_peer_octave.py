"""Echorig and a rig in Octave, with the real `jsondecode`: what is sent to it, and how often it executes what.

Needs Octave 7 or newer with its package sockets (``apt install octave octave-sockets``).
"""

from __future__ import annotations

import asyncio
import json
import time

import iblutil_fixtures
import pytest
from iblutil_peer import PATIENCE
from octave_peer import ANSWERS, OctaveRig
from sessions import CALLS, LAST, session, too_often

from echorig import ExpMessage, RemoteCallbackError, Services, ServicesError
from lab import REF

patience = iblutil_fixtures.patience


async def until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f'waited in vain for {what}'
        await asyncio.sleep(0.01)


async def test_it_answers(lab):
    """Messages in Latin-1 work too; pings and messages longer than its buffer do not."""
    async with OctaveRig() as rig:
        client = await lab.client(rig.uri, 'octave')
        services = Services([client], timeout=PATIENCE)
        assert await services.init({'a': [1, 2.5, None], 'b': 'ä'}) == {'octave': ['ready']}
        assert await services.info('RUNNING', 'now') == {'octave': ['für']}
        assert await services.stop() == {'octave': ['stopped']}
        assert client.peers[client.hostname, client.port].kind == 'legacy'
        notices = []
        client.assign_callback(0, lambda data, addr: notices.append(data))
        assert await client.ping() > 0
        assert await services.cleanup() == {'octave': ['tidy']}
        assert notices == []
        with pytest.raises(ServicesError) as caught:
            await services.start(REF, 'x' * 1000)
        failure = caught.value.failures['octave']
        assert isinstance(failure, RemoteCallbackError)
        assert (failure.event, failure.message.partition(':')[0]) == (ExpMessage.EXPSTART, 'jsondecode')
        assert await services.start(REF) == {'octave': ['running']}
        await until(lambda: len(rig.executed) == 5, 'the report of the last message')
        assert rig.received == [
            (1, [{'a': [1, 2.5, None], 'b': 'ä'}]),
            (64, [20, 'now']),
            (4, [None]),
            (8, [None]),
            (2, [REF, None]),
        ]


async def test_our_callback_fails(lab):
    """It echoes our notice, fails on it and sends a notice of its own, which is ignored."""
    async with OctaveRig() as rig:
        client = await lab.client(rig.uri, 'octave')

        def fail(data, addr):
            raise ValueError('no disk')

        client.assign_callback('EXPINIT', fail)
        notices = []
        client.assign_callback(0, lambda data, addr: notices.append(data))
        services = Services([client], timeout=PATIENCE)
        for _ in range(3):
            assert await services.init() == {'octave': ['ready']}
            assert await services.status('RUNNING') == {'octave': ['ok']}
        await until(lambda: len(rig.executed) == 6, 'the report of the last message')
        assert notices == []
        assert [event for event, _ in rig.executed] == [1, 32] * 3


@pytest.mark.parametrize('when', [0, 1, 2, 4])
async def test_a_session_with_a_rig_that_is_busy_once(lab, when):
    """It is busy for 1.5 s before it reads, or with one event; each message is executed once."""
    async with OctaveRig(busy=(when, 1.5)) as rig:
        services = Services([await lab.client(rig.uri, 'octave')], timeout=PATIENCE)
        async with services.watch(interval=0.1):
            assert await session(services) == len(CALLS)
        await until(lambda: len(rig.executed) >= len(CALLS), 'the report of the last message')
        assert [event for event, _ in rig.executed] == [event for event, *_ in CALLS]
        assert too_often(rig.received, ANSWERS) == []


@pytest.mark.parametrize('when', [0, 1, 2, 4])
async def test_a_session_that_does_not_wait_for_a_busy_rig(lab, when):
    """Calls fail and others follow: no message is executed more often than it was sent, and no answer is executed."""
    async with OctaveRig(busy=(when, 1.5)) as rig:
        client = await lab.client(rig.uri, 'octave')
        client.default_echo_timeout = 1.0
        services = Services([client], timeout=1.0)
        async with services.watch(interval=0.1):
            await session(services)
            await client.confirmed_send([64, *LAST], timeout=PATIENCE)
        await until(lambda: json.loads(rig.executed[-1][1])[1:] == LAST, 'the last message')
        assert too_often(rig.received, ANSWERS) == []
