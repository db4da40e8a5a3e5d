"""A set of rigs, some of them iblutil rigs: our Services over all, and iblutil's over echorig rigs."""

from __future__ import annotations

import asyncio

import iblutil_fixtures
import pytest
from iblutil_peer import IblutilProcess, RemoteError

from echorig import EchoTimeoutError, ExpStatus, Services, ServicesTimeoutError
from eventually import eventually
from lab import REF, Lab

pytest.importorskip('iblutil')
patience, iblutil = iblutil_fixtures.patience, iblutil_fixtures.iblutil

EVENTS = ['EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP', 'EXPINTERRUPT', 'EXPSTATUS', 'EXPINFO']
# The rigs in an order in which no kind and no transport stands together.
THEIRS = {'camera': 'udp', 'daq': 'ws', 'sync': 'udp'}
OURS = {'screen': 'tcp', 'stage': 'udp', 'laser': 'udp'}
ORDER = ['camera', 'screen', 'daq', 'stage', 'sync', 'laser']
SESSION = [
    ('info', ['CONNECTED', {'task': 'wheel'}], {}, [0, {'task': 'wheel'}]),
    ('init', [{'trials': 100}], {}, [{'trials': 100}]),
    ('start', [REF], {'data': 'go'}, [REF, 'go']),
    ('status', [ExpStatus.RUNNING], {}, [20]),
    ('status', [ExpStatus.RUNNING], {}, [20]),
    ('stop', [], {'data': 'done'}, ['done']),
    ('stop', [], {'immediately': True}, [None]),
    ('cleanup', [], {}, [None]),
]


async def mixed(iblutil: IblutilProcess, lab: Lab, timeout: float) -> Services:
    """Open three iblutil and three echorig rigs, all of which answer each event with the same event."""
    coms = {}
    for name, scheme in THEIRS.items():
        uri, _ = await iblutil.do('open', com=name, role='server', uri=f'{scheme}://127.0.0.1')
        await iblutil.do('listen', com=name, how='answer', events=EVENTS)
        coms[name] = await lab.client(uri, name)
    for name, scheme in OURS.items():
        coms[name] = await lab.client(await lab.answering(scheme, f'{name} rig'), name)
    return Services([coms[name] for name in ORDER], timeout=timeout)


@pytest.mark.parametrize('concurrent', [True, False])
async def test_whole_session(iblutil, lab, concurrent):
    """Two sessions: each rig receives each message once, and its answer is in the result under its name."""
    services = await mixed(iblutil, lab, timeout=30)
    assert services.is_connected
    told = []
    services.assign_callback('EXPSTART', lambda data, addr, rig: told.append((rig.name, data)), return_service=True)
    for _ in range(2):
        for method, args, kwargs, data in SESSION:
            responses = await getattr(services, method)(*args, concurrent=concurrent, **kwargs)
            assert list(responses.items()) == [(name, data) for name in ORDER]
            # Over TCP iblutil would take our echo of its answer and our next message for one.
            await iblutil.has_answered(*THEIRS)
    assert sorted(told) == sorted(2 * [(name, [REF, 'go']) for name in ORDER])
    heard = [iblutil.heard.get_nowait() for _ in range(2 * len(SESSION) * len(THEIRS))]
    assert [sum(what['com'] == name for what in heard) for name in THEIRS] == [2 * len(SESSION)] * 3
    assert await iblutil.nothing_more('camera')


async def test_one_without_an_answer(iblutil, lab):
    """The error names an iblutil rig that confirms but never answers. The next call works."""
    services = await mixed(iblutil, lab, timeout=3)
    await iblutil.call('sync', 'clear_callbacks', 'EXPSTART')
    with pytest.raises(ServicesTimeoutError, match='sync') as caught:
        await services.start(REF)
    assert list(caught.value.failures) == ['sync']
    assert isinstance(caught.value.failures['sync'], EchoTimeoutError)
    assert caught.value.responses == {name: [REF, None] for name in ORDER if name != 'sync'}
    await iblutil.has_answered('camera', 'daq')
    services.timeout = 30
    assert await services.stop() == {name: [None] for name in ORDER}
    await iblutil.has_answered(*THEIRS)


async def test_one_that_is_gone(iblutil, lab):
    """The error names an iblutil rig that has closed itself. The others have answered, and answer the next call."""
    services = await mixed(iblutil, lab, timeout=30)
    await iblutil.do('close', com='sync')
    services['sync'].default_echo_timeout = 1.0
    with pytest.raises(ServicesTimeoutError, match='sync') as caught:
        await services.init()
    assert list(caught.value.failures) == ['sync']
    await iblutil.has_answered('camera', 'daq')
    rest = Services([rig for name, rig in services.items() if name != 'sync'], timeout=30)
    assert await rest.start(REF) == {name: [REF, None] for name in ORDER if name != 'sync'}
    await iblutil.has_answered('camera', 'daq')


async def test_their_services_over_our_rigs(iblutil, lab):
    """iblutil's Services runs a session over echorig rigs that answer right behind the echo.

    It can do so over UDP only, and only with ``concurrent=True``: otherwise it begins to listen too late.
    """
    names = ['stage', 'laser', 'screen']
    for name in names:
        rig = await lab.answering('udp', name)
        await iblutil.do('open', com=name, role='client', uri=rig.server_uri)
    for _ in range(3):
        for method, args, kwargs, data in SESSION:
            responses = await iblutil.do(
                'services', coms=names, method=method, args=args, timeout=20, **kwargs, concurrent=True
            )
            assert responses == dict.fromkeys(names, data)


async def test_their_services_over_a_rig_that_is_silent(iblutil, lab):
    """The time-out of iblutil's Services names the rig that did not answer; the echorig rigs continue."""
    await iblutil.do('open', com='stage', role='client', uri=(await lab.answering('udp', 'stage')).server_uri)
    silent = await lab.server('udp', 'laser')
    _, addr = await iblutil.do('open', com='laser', role='client', uri=silent.server_uri)
    with pytest.raises(RemoteError, match='laser') as caught:
        await iblutil.do('services', coms=['stage', 'laser'], method='init', args=[], timeout=0.5)
    assert caught.value.kind == 'TimeoutError'
    await iblutil.do('listen', com='laser', how='report', events=['EXPINIT'])
    await silent.init(data='late', addr=tuple(addr))
    assert (await iblutil.hear())['data'] == ['late']


async def test_a_watch_disturbs_no_session(iblutil, lab):
    """Presence detection pings echorig rigs, but not known iblutil rigs, since a ping could close them."""
    services = await mixed(iblutil, lab, timeout=30)
    async with services.watch(interval=0.005) as watch:
        await eventually(
            lambda: all(rig.state == 'online' for rig in watch.values()),
            'all rigs are online',
        )
        before = {}
        for round_ in range(3):
            for method, args, kwargs, data in SESSION:
                responses = await getattr(services, method)(*args, **kwargs)
                assert list(responses.items()) == [(name, data) for name in ORDER]
                await iblutil.has_answered(*THEIRS)
            if not round_:
                before = {name: statistics(services[name]) for name in ORDER}
            await eventually(
                lambda: statistics(services['stage']).confirmed >= before['stage'].confirmed + 100,
                '100 more messages are confirmed',
            )
        assert [(rig.state, rig.restarts) for rig in watch.values()] == [('online', 0)] * len(ORDER)
        for name in THEIRS:
            assert (before[name].kind, statistics(services[name]).kind) == ('legacy', 'legacy')
            assert statistics(services[name]).sent - before[name].sent == 2 * len(SESSION)


def statistics(com):
    return next(iter(com.peers.values()))


@pytest.mark.blocks
async def test_a_watch_waits_for_a_rig_that_is_busy_for_longer_than_a_call(iblutil, lab, tmp_path):
    """A rig that has confirmed is online; another message now would be taken for the echo of its answer."""
    ready = tmp_path / 'ready'
    uri, _ = await iblutil.do('open', com='camera', role='server', uri='udp://127.0.0.1')
    await iblutil.do('listen', com='camera', how='answer', events=['EXPSTART'], until=str(ready))
    await iblutil.do('listen', com='camera', how='answer', events=['EXPINIT', 'EXPEND'])
    services = Services([await lab.client(uri, 'camera')], timeout=30)
    await services.init()
    await iblutil.has_answered('camera')
    async with services.watch(interval=0.005) as watch:
        services.timeout = 0.3
        with pytest.raises(ServicesTimeoutError, match='camera'):
            await services.start(REF)
        before = statistics(services['camera'])
        await asyncio.sleep(0.3)
        assert statistics(services['camera']).sent == before.sent
        assert watch['camera'].state == 'online'
        assert watch['camera'].last_heard == before.last_seen
        ready.touch()
        await iblutil.has_answered('camera')
        assert watch['camera'].last_heard > before.last_seen
        services.timeout = 30
        assert await services.stop() == {'camera': [None]}
        await iblutil.has_answered('camera')
