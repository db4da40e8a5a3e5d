"""Messages of echorig do not close an unmodified iblutil rig, which closes on the first wrong echo."""

from __future__ import annotations

import iblutil_fixtures
import pytest
from iblutil_peer import PATIENCE
from sessions import CALLS, session

from echorig import ExpMessage, Services
from eventually import eventually
from lab import REF

pytest.importorskip('iblutil')
patience, iblutil = iblutil_fixtures.patience, iblutil_fixtures.iblutil

N_CALLS = 12


async def rig(process, scheme, how='answer'):
    uri, _ = await process.do('open', com='theirs', role='server', uri=f'{scheme}://127.0.0.1')
    await process.do('listen', com='theirs', how=how)
    return uri


async def block(process, seconds):
    """Stop its reading for a time."""
    await process.do('block', seconds=seconds)
    assert (await process.hear())['event'] == 'blocked'


async def executed(process, n):
    """Return the events and data that its callbacks received."""
    heard = [await process.hear() for _ in range(n)]
    assert await process.nothing_more('theirs')
    return [(ExpMessage[what['event']].value, what['data']) for what in heard]


@pytest.mark.parametrize('tells', ['at once', 'after a ping'])
async def test_a_rig_that_is_blocked_at_first_contact(iblutil, lab, tells):
    """A ping after the message would arrive while it waits for the echo of its answer."""
    uri = await rig(iblutil, 'udp')
    client = await lab.client(uri, 'theirs')
    rigs = Services([client], timeout=PATIENCE)
    await block(iblutil, 0.3)
    if tells == 'after a ping':
        assert await client.ping(timeout=PATIENCE) > 0
        await block(iblutil, 0.3)
    assert await rigs.start(REF) == {'theirs': [REF, None]}
    await iblutil.has_answered('theirs')
    assert await rigs.stop() == {'theirs': [None]}
    await iblutil.has_answered('theirs')
    assert await executed(iblutil, 2) == [(2, [REF, None]), (4, [None])]
    assert await iblutil.do('state', com='theirs') == [True, False]


async def test_a_rig_that_is_blocked_for_longer_than_it_is_waited_for(iblutil, lab):
    """The message follows some pings, and nothing follows the message."""
    uri = await rig(iblutil, 'udp', 'report')
    client = await lab.client(uri, 'theirs')
    async with Services([client]).watch(interval=0.05, timeout=0.1) as presence:
        await block(iblutil, 1.0)
        with pytest.raises(TimeoutError):
            await client.confirmed_send([2, REF], timeout=0.3)
        assert await executed(iblutil, 1) == [(2, [REF])]
        await client.init(1)
        assert await executed(iblutil, 1) == [(1, [1])]
        assert presence['theirs'].last_heard
    assert await iblutil.do('state', com='theirs') == [True, False]


@pytest.mark.parametrize('scheme', ['udp', 'tcp'])
async def test_a_session_under_a_watch(iblutil, lab, scheme):
    rigs = Services([await lab.client(await rig(iblutil, scheme), 'theirs')], timeout=PATIENCE)
    async with rigs.watch(interval=0.02) as presence:
        assert await session(rigs) == len(CALLS)
        await eventually(lambda: presence['theirs'].state == 'online', 'it is online')
    for _ in CALLS:
        await iblutil.has_answered('theirs')
    heard = await executed(iblutil, len(CALLS))
    assert [event for event, _ in heard] == [event for event, *_ in CALLS]
    assert await iblutil.do('state', com='theirs') == [True, False]


@pytest.mark.parametrize('scheme', ['tcp', 'ws'])
async def test_twelve_calls_over_tcp(iblutil, lab, scheme):
    """It reads two messages that arrive together as one, so none may directly follow our echo of its answer."""
    client = await lab.client(await rig(iblutil, scheme), 'theirs')
    rigs = Services([client], timeout=PATIENCE)
    for number in range(N_CALLS):
        assert await rigs.info('RUNNING', number) == {'theirs': [20, number]}
        await iblutil.has_answered('theirs')
    assert await executed(iblutil, N_CALLS) == [(64, [20, number]) for number in range(N_CALLS)]
    assert await iblutil.do('state', com='theirs') == [True, False]
