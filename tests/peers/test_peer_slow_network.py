"""Rigs of both kinds on a network that is slow and unsteady, but loses nothing: nobody notices who is who.

Each rig is behind a link of its own, on which datagrams take 0 to 60 ms; those of one rig stay in order, those of
different rigs overtake each other. That is longer than echorig waits before it sends again. iblutil has no way
to tell a duplicate, so none may reach it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack

import iblutil_fixtures
import pytest
from iblutil_peer import PATIENCE, IblutilProcess

from echorig import Services
from echorig.testing import LossyLink
from lab import REF

pytest.importorskip('iblutil')
patience = iblutil_fixtures.patience

N_RIGS = 10  # of each kind
N_MESSAGES = 20
SLOW = {'jitter': 0.06}
THEIRS = [f'theirs{i}' for i in range(N_RIGS)]
OURS = [f'ours{i}' for i in range(N_RIGS)]


async def opened(stack, names):
    """Start a process for each name, with a rig in it; return the processes and the rigs' URIs."""
    processes = await asyncio.gather(*(stack.enter_async_context(IblutilProcess()) for _ in names))
    uris = [
        (await process.do('open', com=name, role='server', uri='udp://127.0.0.1'))[0]
        for process, name in zip(processes, names, strict=True)
    ]
    return processes, uris


async def links(stack, uris):
    return [await stack.enter_async_context(LossyLink(uri, **SLOW, seed=i)) for i, uri in enumerate(uris)]


def everyone(answer):
    return dict.fromkeys([*THEIRS, *OURS], answer)


def drain(queue):
    return [queue.get_nowait() for _ in range(queue.qsize())]


@pytest.mark.blocks
async def test_one_after_another(lab):
    """Numbered messages to twenty rigs at once: each is confirmed, and delivered once and in order."""
    async with AsyncExitStack() as stack:
        processes, uris = await opened(stack, THEIRS)
        for process, name in zip(processes, THEIRS, strict=True):
            await process.do('listen', com=name, how='report')
        rigs = [await lab.server(name=name) for name in OURS]
        heard = [[] for _ in rigs]
        for rig, numbers in zip(rigs, heard, strict=True):
            rig.assign_callback('EXPINFO', lambda data, addr, numbers=numbers: numbers.append(data[1]))
        between = await links(stack, [*uris, *(rig.server_uri for rig in rigs)])
        clients = [await lab.client(link.uri, name) for link, name in zip(between, [*THEIRS, *OURS], strict=True)]

        async def tell(client):
            for number in range(N_MESSAGES):
                await client.confirmed_send([64, 20, number], timeout=PATIENCE)

        await asyncio.gather(*map(tell, clients))
        assert heard == [list(range(N_MESSAGES))] * N_RIGS
        for process, name in zip(processes, THEIRS, strict=True):
            assert await process.do('state', com=name) == [True, False]
            assert [what['data'][1] for what in drain(process.heard)] == list(range(N_MESSAGES))
        kinds = Counter(known.kind for client in clients for known in client.peers.values())
        assert kinds == {'legacy': N_RIGS, 'echorig': N_RIGS}


@pytest.mark.blocks
async def test_session(lab):
    """Sessions with twenty rigs that answer directly after the echo: each callback runs once, each answer arrives."""
    async with AsyncExitStack() as stack:
        processes, uris = await opened(stack, THEIRS)
        for process, name in zip(processes, THEIRS, strict=True):
            await process.do('listen', com=name, how='answer')
        rigs = [await lab.answering(name=name) for name in OURS]
        between = await links(stack, [*uris, *(rig.server_uri for rig in rigs)])
        clients = [await lab.client(link.uri, name) for link, name in zip(between, [*THEIRS, *OURS], strict=True)]
        services = Services(clients, timeout=10)
        for _ in range(3):
            assert await services.init() == everyone([None])
            assert await services.start(REF) == everyone([REF, None])
            assert await services.stop() == everyone([None])
        for process, name in zip(processes, THEIRS, strict=True):
            for _ in range(9):
                await process.has_answered(name)
            assert [what['event'] for what in drain(process.heard)] == ['EXPINIT', 'EXPSTART', 'EXPEND'] * 3
            assert await process.do('state', com=name) == [True, False]
            assert await process.nothing_more(name)


@pytest.mark.blocks
async def test_the_incumbent_alone(lab):
    """The same with iblutil at both ends, which shows that the link does not exceed its abilities."""
    async with AsyncExitStack() as stack:
        names = THEIRS[:3]
        processes, uris = await opened(stack, names)
        main = await stack.enter_async_context(IblutilProcess())
        for process, name, link in zip(processes, names, await links(stack, uris), strict=True):
            await process.do('listen', com=name, how='answer')
            await main.do('open', com=name, role='client', uri=link.uri)
        for method, args, event in (('init', [], 'EXPINIT'), ('start', [REF], 'EXPSTART'), ('stop', [], 'EXPEND')):
            answers = await main.do('services', coms=names, method=method, args=args, timeout=PATIENCE)
            assert sorted(answers) == names
            for process, name in zip(processes, names, strict=True):
                assert (await process.hear())['event'] == event
                await process.has_answered(name)


@pytest.mark.skipif(sys.platform == 'win32', reason='needs SIGSTOP')
@pytest.mark.parametrize('known', [False, True])
async def test_busy_rig(lab, known):
    """A busy iblutil rig reads our message late and answers it; nothing closes it."""
    async with IblutilProcess() as process:
        uri, _ = await process.do('open', com='rig', role='server', uri='udp://127.0.0.1')
        await process.do('listen', com='rig', how='answer')
        client = await lab.client(uri, 'rig')
        if known:
            await client.ping()
        answer = asyncio.create_task(client.on_event('EXPINIT'))
        process.process.send_signal(signal.SIGSTOP)
        sending = asyncio.create_task(client.init())
        await asyncio.sleep(0.1)  # this is how long it is busy
        process.process.send_signal(signal.SIGCONT)
        await sending
        await asyncio.wait_for(answer, PATIENCE)
        await process.has_answered('rig')
        assert await process.do('state', com='rig') == [True, False]
        assert (await process.hear())['event'] == 'EXPINIT'
        assert await process.nothing_more('rig')
