"""`Services.experiment`: every end of an experiment reaches every rig."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import pytest_asyncio

import internals
from echorig import (
    EchoProtocol,
    ExpStatus,
    Progress,
    RemoteCallbackError,
    Rig,
    RigLostError,
    Services,
    ServicesError,
    ServicesTimeoutError,
)
from eventually import eventually
from lab import REF, free_port


class Scene:
    """Rigs that record their calls, and a set of clients of them."""

    def __init__(self) -> None:
        self.calls: dict[str, list[str]] = {}
        self.rigs: dict[str, Rig] = {}
        self.fails: set[tuple[str, str]] = set()
        self.services: Services

    async def open(self, names: list[str], transport: str, **kwargs: Any) -> Services:
        for name in names:
            self.rigs[name] = await self.rig(name).open(f'{transport}://127.0.0.1:0')
        uris = {name: rig.server_uri for name, rig in self.rigs.items()}
        self.services = await Services.connect(uris, wait=True, **{'timeout': 30.0, **kwargs})
        return self.services

    def rig(self, name: str) -> Rig:
        rig, calls = Rig(name), self.calls.setdefault(name, [])

        def handler(event: str) -> Any:
            def work() -> None:
                calls.append(event)
                if (name, event) in self.fails:
                    raise RuntimeError(f'{event} fails')
                if event == 'EXPINIT':
                    rig.progress(0.5, 'warming up')

            return work

        for event in ('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPINTERRUPT', 'EXPCLEANUP'):
            rig.on(event)(handler(event))
        return rig

    async def close(self) -> None:
        self.services.close()
        await asyncio.gather(*(rig.wait_closed() for rig in self.services.values()))
        for rig in self.rigs.values():
            await rig.__aexit__(None, None, None)


@pytest_asyncio.fixture
async def scene():
    scene = Scene()
    yield scene
    await scene.close()


ORDINARY = ['EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP']
INTERRUPTED = ['EXPINIT', 'EXPSTART', 'EXPINTERRUPT', 'EXPCLEANUP']


async def test_an_ordinary_experiment(scene, transport):
    rigs = await scene.open(['camera', 'ephys'], transport)
    reports: list[Progress] = []
    experiment = rigs.experiment(REF, {'fps': 60}, on_progress=reports.append)
    async with experiment as session:
        assert session is experiment
        assert session.answers == {'camera': [REF, None], 'ephys': [REF, None]}
        assert [rig.status for rig in scene.rigs.values()] == [ExpStatus.RUNNING] * 2
        await session.sleep(0.01)
        session.check()
        await eventually(lambda: len(session.progress) == 2, 'each rig has reported')
        report = session.progress['camera']
        assert (report.name, report.event, report.fraction, report.text) == ('camera', 'EXPINIT', 0.5, 'warming up')
        assert set(session.watch) == {'camera', 'ephys'}
    assert scene.calls == {'camera': ORDINARY, 'ephys': ORDINARY}
    assert {report.name for report in reports} == {'camera', 'ephys'}
    with pytest.raises(RuntimeError, match='entered once'):
        async with experiment:
            pass


async def test_an_error_in_the_block(scene, transport):
    rigs = await scene.open(['camera', 'ephys'], transport)
    with pytest.raises(ZeroDivisionError):
        async with rigs.experiment(REF):
            raise ZeroDivisionError
    assert scene.calls == {'camera': INTERRUPTED, 'ephys': INTERRUPTED}


async def test_a_cancellation(scene, transport):
    rigs = await scene.open(['camera', 'ephys'], transport)
    begun = asyncio.Event()

    async def work() -> None:
        async with rigs.experiment(REF) as session:
            begun.set()
            await session.sleep(3600)

    task = asyncio.ensure_future(work())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # the rigs are interrupted all the same
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scene.calls == {'camera': INTERRUPTED, 'ephys': INTERRUPTED}


@pytest.mark.parametrize('event', ['EXPINIT', 'EXPSTART'])
async def test_a_rig_that_fails_at_the_beginning(scene, transport, event):
    rigs = await scene.open(['camera', 'ephys'], transport)
    scene.fails.add(('camera', event))
    with pytest.raises(ServicesError) as caught:
        async with rigs.experiment(REF):
            raise AssertionError('the block must not run')
    assert isinstance(caught.value.failures['camera'], RemoteCallbackError)
    assert f'RuntimeError: {event} fails' in str(caught.value)
    for calls in scene.calls.values():
        assert calls[-2:] == ['EXPINTERRUPT', 'EXPCLEANUP']
    assert [rig.status for rig in scene.rigs.values()] == [ExpStatus.CONNECTED] * 2


async def test_the_experiment_of_another_main_pc_goes_on(scene, lab):
    """Only the rigs that accepted the second experiment are interrupted."""
    rigs = await scene.open(['camera', 'ephys'], 'udp')
    other = Services([await lab.client(scene.rigs[name].server_uri, name) for name in ('camera', 'ephys')])
    await other['camera'].call('EXPSTART', REF)
    with pytest.raises(ServicesError, match=f'AlreadyRunning: camera is RUNNING {REF}'):
        async with rigs.experiment(REF):
            raise AssertionError('the block must not run')
    assert scene.calls == {'camera': ['EXPSTART'], 'ephys': ['EXPINIT', 'EXPINTERRUPT', 'EXPCLEANUP']}
    assert scene.rigs['camera'].status == ExpStatus.RUNNING
    await rigs.stop(immediately=True)  # who knows better can stop it
    assert scene.rigs['camera'].status == ExpStatus.STOPPED


async def test_a_rig_that_fails_to_stop(scene):
    rigs = await scene.open(['camera', 'ephys'], 'udp')
    scene.fails.add(('camera', 'EXPEND'))
    with pytest.raises(ServicesError, match='EXPEND fails'):
        async with rigs.experiment(REF):
            pass
    assert scene.calls['camera'] == ['EXPINIT', 'EXPSTART', 'EXPEND', 'EXPINTERRUPT', 'EXPCLEANUP']
    assert scene.rigs['camera'].status == ExpStatus.CONNECTED


async def test_a_rig_that_ends_in_the_middle(scene, transport):
    rigs = await scene.open(['camera', 'ephys'], transport)

    async def run() -> None:
        async with rigs.experiment(REF) as session:
            async with scene.rigs['ephys']:
                pass
            await session.sleep(3600)

    with pytest.raises(RigLostError, match='ephys') as caught:
        await run()
    assert list(caught.value.failures) == ['ephys']
    assert scene.calls['camera'] == INTERRUPTED


async def test_a_silent_rig_is_lost_and_the_others_are_interrupted(scene, lab):
    """The block is cancelled wherever it waits."""
    rigs = await scene.open(['camera', 'ephys'], 'udp')

    async def run() -> None:
        async with rigs.experiment(REF, interrupt_timeout=1.0):
            await _silence(scene.rigs['ephys'])
            await asyncio.sleep(3600)

    with pytest.raises(RigLostError, match='ephys went offline'):
        await run()
    assert scene.calls['camera'] == INTERRUPTED
    await asyncio.sleep(0)  # no cancellation is left over


async def _silence(rig: Rig) -> None:
    """Close the socket of a rig as the end of its process does, without any message."""
    service = internals.service_of(rig)
    service.com.close()
    await service.com.wait_closed()


@pytest.mark.parametrize('policy', ['warn', 'function'])
async def test_a_rig_that_is_lost_may_be_tolerated(scene, caplog, policy):
    rigs = await scene.open(['camera', 'ephys'], 'udp', timeout=1.0)
    changes: list[Any] = []
    on_lost: Any = 'warn' if policy == 'warn' else changes.append
    caplog.set_level(logging.WARNING)

    async def run() -> None:
        async with rigs.experiment(REF, on_rig_lost=on_lost, interrupt_timeout=1.0) as session:
            await _silence(scene.rigs['ephys'])
            await eventually(lambda: 'ephys went offline' in caplog.text, 'it is logged', within=30)
            session.check()

    with pytest.raises(ServicesTimeoutError):  # it cannot be stopped
        await run()
    assert [(change.name, change.state) for change in changes] == ([] if policy == 'warn' else [('ephys', 'offline')])
    assert scene.calls['camera'][-2:] == ['EXPINTERRUPT', 'EXPCLEANUP']


async def test_the_loss_is_raised_where_the_block_sleeps(scene):
    """The block may handle it; the rigs are interrupted at its end all the same."""
    rigs = await scene.open(['camera', 'ephys'], 'udp')
    caught: list[str] = []

    async def run() -> None:
        async with rigs.experiment(REF) as session:
            closing = asyncio.ensure_future(scene.rigs['ephys'].__aexit__(None, None, None))
            try:
                await session.sleep(3600)
            except RigLostError as ex:
                caught.append(str(ex))
            await closing

    with pytest.raises(RigLostError, match='ephys'):
        await run()
    assert len(caught) == 1
    assert scene.calls['camera'] == INTERRUPTED


async def test_a_cancellation_that_the_block_swallows_leaves_nothing_behind(scene):
    rigs = await scene.open(['camera', 'ephys'], 'udp')

    async def run() -> None:
        async with rigs.experiment(REF):
            closing = asyncio.ensure_future(scene.rigs['ephys'].__aexit__(None, None, None))
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                raise ZeroDivisionError from None
            finally:
                await closing

    with pytest.raises(ZeroDivisionError):
        await run()
    task: Any = asyncio.current_task()
    assert not hasattr(task, 'cancelling') or task.cancelling() == 0
    await asyncio.sleep(0)
    assert scene.calls['camera'] == INTERRUPTED


async def test_plain_rigs_that_only_confirm_are_sent_everything(lab):
    """A rig that never answers is sent cleanup all the same, in bounded time."""
    server = await lab.server()
    got: list[str] = []
    server.assign_callback(31, lambda data, addr, event: got.append(event.name))
    rigs = Services([await lab.client(server, 'plain')], timeout=0.2)
    with pytest.raises(ServicesTimeoutError, match='did not answer EXPINIT'):
        async with rigs.experiment(REF, interrupt_timeout=0.5):
            pass
    assert got[0] == 'EXPINIT'
    assert 'EXPINTERRUPT' in got
    assert got[-1] == 'EXPCLEANUP'


async def test_what_is_refused(lab):
    rigs = await lab.services(1)
    for reference in ('mouse7', '2026-13-01_1_mouse7'):
        with pytest.raises(ValueError, match='date_number_subject'):
            rigs.experiment(reference)
    for reference in (5, {'date': '2026-01-31'}):
        with pytest.raises((TypeError, ValueError), match='exp_ref'):
            rigs.experiment(reference)
    rigs.experiment('mouse7', check_exp_ref=False)
    with pytest.raises(ValueError, match="'raise', 'warn' or a function"):
        rigs.experiment(REF, on_rig_lost='ignore')
    with pytest.raises(TypeError, match='on_progress'):
        rigs.experiment(REF, on_progress=5)
    with pytest.raises(ValueError, match='interrupt_timeout'):
        rigs.experiment(REF, interrupt_timeout=-1)


# --- rigs that start later ---


async def test_rigs_that_start_later(transport):
    port = free_port()
    uri = f'{transport}://127.0.0.1:{port}'
    connecting = asyncio.ensure_future(Services.connect({'camera': uri}, timeout=60.0, wait=True))
    await asyncio.sleep(0.3)
    assert not connecting.done()
    async with await EchoProtocol.server(uri):
        rigs = await connecting
        assert rigs.is_connected
        async with rigs:
            await rigs.wait_online(timeout=30.0)


async def test_rigs_that_do_not_start(transport):
    uris = {name: f'{kind}://127.0.0.1:{free_port()}' for name, kind in (('camera', transport), ('ephys', 'tcp'))}
    with pytest.raises(ServicesTimeoutError, match=r'camera .* is not online within 0\.5 s') as caught:
        await Services.connect(uris, timeout=0.5, wait=True)
    assert list(caught.value.failures) == ['camera', 'ephys']


async def test_waiting_names_the_rigs_that_are_missing(lab):
    here = await lab.client(await lab.server(), 'here')
    gone = await lab.client(f'udp://127.0.0.1:{free_port()}', 'gone')
    with pytest.raises(ServicesTimeoutError, match=r'gone is not online after 0\.3 s') as caught:
        await Services([here, gone]).wait_online(0.3)
    assert list(caught.value.failures) == ['gone']
