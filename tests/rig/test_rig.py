"""`Rig`: handlers, answers, failures, cancellation, status, and the loss of the main PC."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
import pytest_asyncio

from echorig import (
    EchoProtocol,
    EchoTimeoutError,
    ExpMessage,
    ExpStatus,
    RemoteCallbackError,
    Rig,
    Services,
)
from echorig.rig.handlers import Handler
from echorig.rig.job import Cancelled, Job
from echorig.rig.worker import Worker
from echorig.testing import LossyLink
from eventually import eventually
from lab import REF

OTHER_REF = '2022-01-01_2_subject'


@pytest_asyncio.fixture
async def opened():
    """Open rigs, and close them at the end of the test."""
    rigs: list[Rig] = []

    async def open_rig(rig: Rig, transport: str = 'udp', **kwargs: Any) -> Rig:
        rigs.append(await rig.open(f'{transport}://127.0.0.1:0', **kwargs))
        return rig

    yield open_rig
    for rig in rigs:
        await rig.__aexit__(None, None, None)


def recorder(name: str = 'camera') -> tuple[Rig, list[Any]]:
    """Return a rig with handlers for all events of a session, and the list of their calls."""
    rig, calls = Rig(name), []

    @rig.on('EXPINIT')
    async def init(data: Any) -> str:
        calls.append(('init', data))
        return 'ready'

    @rig.on('EXPSTART')
    def start(exp_ref: str, data: Any) -> dict[str, Any]:
        calls.append(('start', exp_ref, data))
        return {'thread': threading.current_thread() is not threading.main_thread()}

    @rig.on('EXPEND', 'EXPINTERRUPT')
    def stop() -> None:
        calls.append(('stop',))

    @rig.on('EXPCLEANUP')
    async def cleanup() -> None:
        calls.append(('cleanup',))

    return rig, calls


async def test_a_session(lab, opened, transport):
    rig, calls = recorder()
    await opened(rig, transport)
    camera = await lab.client(rig.server_uri, 'camera')
    rigs = Services([camera])
    for _ in range(2):
        assert await rigs.init({'fps': 60}) == {'camera': ['ready']}
        assert (rig.status, rig.exp_ref) == (ExpStatus.INITIALIZED, None)
        assert await rigs.start(REF, 5) == {'camera': [REF, {'thread': True}]}
        assert (rig.status, rig.exp_ref) == (ExpStatus.RUNNING, REF)
        assert await rigs.status('RUNNING') == {'camera': [ExpStatus.RUNNING]}
        assert await rigs.info('RUNNING') == {'camera': [ExpStatus.RUNNING, {'name': 'camera', 'exp_ref': REF}]}
        assert await rigs.stop() == {'camera': [None]}
        assert rig.status == ExpStatus.STOPPED
        assert await rigs.cleanup() == {'camera': [None]}
        assert rig.status == ExpStatus.CONNECTED
    assert calls == [('init', {'fps': 60}), ('start', REF, 5), ('stop',), ('cleanup',)] * 2


async def test_plain_functions_run_in_one_thread(lab, opened):
    rig, threads = Rig('camera'), set()
    for event in ('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP'):
        rig.on(event)(lambda: threads.add(threading.get_ident()))
    await opened(rig)
    rigs = Services([await lab.client(rig.server_uri, 'camera')])
    await rigs.init()
    await rigs.start(REF)
    await rigs.stop()
    await rigs.cleanup()
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_a_rig_without_handlers_keeps_its_status_and_refuses_work(lab, opened):
    rig = await opened(Rig('camera'))
    camera = await lab.client(rig.server_uri, 'camera')
    assert await camera.call('EXPINIT') == [None]
    assert rig.status == ExpStatus.INITIALIZED
    for event, args in (('EXPSTART', (REF,)), ('EXPEND', ())):
        with pytest.raises(RemoteCallbackError, match=f'has no handler of {event}: register one'):
            await camera.call(event, *args)
    assert await camera.call('EXPCLEANUP') == [None]
    assert await camera.call('EXPSTATUS', 'CONNECTED') == [ExpStatus.CONNECTED]


@pytest.mark.parametrize('is_async', [False, True])
async def test_a_failure_is_answered_at_once_with_type_text_and_traceback(lab, opened, transport, is_async, caplog):
    rig = Rig('camera')

    def open_shutter() -> None:
        raise OSError(5, 'no shutter')

    if is_async:

        @rig.on('EXPSTART')
        async def start() -> None:
            open_shutter()
    else:
        rig.on('EXPSTART')(lambda: open_shutter())
    await opened(rig, transport)
    camera = await lab.client(rig.server_uri, 'camera')
    caplog.set_level(logging.ERROR)
    with pytest.raises(RemoteCallbackError) as caught:
        await camera.call('EXPSTART', REF, timeout=60.0)
    text = str(caught.value)
    assert text.startswith('camera failed on EXPSTART: OSError: [Errno 5] no shutter\n')
    assert 'in open_shutter' in text
    assert 'echorig/rig' not in text.replace('\\', '/')
    assert caught.value.event == ExpMessage.EXPSTART
    assert any('in open_shutter' in record.getMessage() for record in caplog.records)
    assert rig.status == ExpStatus.CONNECTED
    assert await camera.call('EXPINIT') == [None]


async def test_a_failure_is_confirmed_on_a_bad_link(lab, opened):
    """A notice that is lost is sent again, and each is delivered once."""
    rig, n = Rig('camera'), 0

    @rig.on('EXPINIT')
    async def init() -> None:
        nonlocal n
        n += 1
        raise ValueError(f'number {n}')

    await opened(rig)
    async with LossyLink(rig.server_uri, loss=0.3, seed=3) as link:
        camera = await lab.client(link.uri, 'camera')
        camera.default_echo_timeout = 30.0
        for i in range(1, 21):
            with pytest.raises(RemoteCallbackError, match=f'ValueError: number {i}\n'):
                await camera.call('EXPINIT', timeout=60.0)


async def test_what_json_cannot_hold_is_a_failure(lab, opened):
    rig = Rig('camera')
    rig.on('EXPINIT')(lambda: object())
    await opened(rig)
    camera = await lab.client(rig.server_uri, 'camera')
    with pytest.raises(RemoteCallbackError, match='the answer cannot be sent'):
        await camera.call('EXPINIT')


async def test_a_running_rig_refuses_to_start_again(lab, opened):
    rig, calls = recorder()
    await opened(rig)
    camera = await lab.client(rig.server_uri, 'camera')
    await camera.call('EXPSTART', REF)
    for event, args in (('EXPINIT', ()), ('EXPSTART', (OTHER_REF,))):
        with pytest.raises(RemoteCallbackError, match=f'is RUNNING {REF}: send EXPEND or EXPINTERRUPT'):
            await camera.call(event, *args)
    assert rig.exp_ref == REF
    await camera.call('EXPINTERRUPT')
    await camera.call('EXPSTART', OTHER_REF)
    assert calls == [('start', REF, None), ('stop',), ('start', OTHER_REF, None)]
    await camera.call('EXPEND')


async def test_cleanup_stops_a_running_rig_first(lab, opened):
    rig, calls = recorder()
    await opened(rig)
    camera = await lab.client(rig.server_uri, 'camera')
    await camera.call('EXPSTART', REF)
    await camera.call('EXPCLEANUP')
    assert calls == [('start', REF, None), ('stop',), ('cleanup',)]
    assert rig.status == ExpStatus.CONNECTED


async def test_the_handler_of_end_interrupts_only_what_has_started(lab, opened):
    rig, calls = Rig('camera'), []
    rig.on('EXPSTART')(lambda: calls.append('start'))
    rig.on('EXPEND')(lambda: calls.append('stop'))
    await opened(rig)
    camera = await lab.client(rig.server_uri, 'camera')
    await camera.call('EXPINIT')
    await camera.call('EXPINTERRUPT')
    assert (calls, rig.status) == ([], ExpStatus.STOPPED)
    await camera.call('EXPSTART', REF)
    await camera.call('EXPINTERRUPT')
    assert (calls, rig.status) == (['start', 'stop'], ExpStatus.STOPPED)


# --- long work ---


@pytest.mark.parametrize('by', ['EXPINTERRUPT', 'EXPEND'])
@pytest.mark.parametrize('is_async', [False, True])
async def test_long_work_is_cancelled(lab, opened, is_async, by):
    rig, begun, stopped = Rig('camera'), threading.Event(), []
    if is_async:

        @rig.on('EXPSTART')
        async def start() -> None:
            begun.set()
            await asyncio.sleep(3600)
    else:

        @rig.on('EXPSTART')
        def start() -> None:
            begun.set()
            while True:
                rig.progress(0.5, 'recording')
                threading.Event().wait(0.01)

    rig.on('EXPEND')(lambda: stopped.append(rig.is_cancelled))
    await opened(rig)
    camera = await lab.client(rig.server_uri, 'camera')
    starting = asyncio.ensure_future(camera.call('EXPSTART', REF, timeout=60.0))
    await eventually(begun.is_set, 'the handler runs')
    assert await camera.call('EXPSTATUS', 'RUNNING') == [ExpStatus.CONNECTED]  # answered while it works
    assert await camera.call(by, timeout=60.0) == [None]
    with pytest.raises(RemoteCallbackError, match=f'EXPSTART was cancelled by {by}'):
        await starting
    assert (stopped, rig.status) == ([False], ExpStatus.STOPPED)


async def test_work_that_does_not_end_is_abandoned_and_stopped_again(lab, opened):
    """It may switch something on after the stop. Until it ends, the main PC is told, and nothing begins."""
    rig, begun, end, stops = Rig('camera'), threading.Event(), threading.Event(), []

    @rig.on('EXPSTART')
    def start() -> None:
        begun.set()
        end.wait(60)

    rig.on('EXPEND')(lambda: stops.append(end.is_set()))
    await opened(rig)
    camera = await lab.client(rig.server_uri, 'camera')
    starting = asyncio.ensure_future(camera.call('EXPSTART', REF, timeout=60.0))
    await eventually(begun.is_set, 'the handler runs')
    try:
        with pytest.raises(RemoteCallbackError, match='cancelled work of EXPSTART has not ended on camera'):
            await camera.call('EXPINTERRUPT', timeout=60.0)
        assert stops == [False]
        with pytest.raises(RemoteCallbackError, match='cancelled'):
            await starting
        with pytest.raises(RemoteCallbackError, match='has not ended'):
            await camera.call('EXPINIT', timeout=60.0)
    finally:
        end.set()
    await eventually(lambda: len(stops) == 2, 'it is stopped again')
    assert stops == [False, True]
    assert await camera.call('EXPINIT', timeout=60.0) == [None]


async def test_work_that_ends_when_it_is_abandoned(monkeypatch):
    """Its late end is reported after it was abandoned, not before."""
    order: list[str] = []
    job = Job(ExpMessage.EXPSTART, [REF, None], ('127.0.0.1', 1))
    job.on_abandoned = lambda: order.append('abandoned')
    job.on_late_end = lambda: order.append('ended')
    end, worker = threading.Event(), Worker('test')
    loop = asyncio.get_running_loop()
    # The function ends in the moment of the cancellation, before anything that waits for it has run.
    monkeypatch.setattr(loop, 'call_later', lambda delay, function: call_now.append(function))
    call_now: list[Any] = []
    running = asyncio.ensure_future(job.run(Handler(ExpMessage.EXPSTART, lambda: end.wait(60)), worker))
    await asyncio.sleep(0)
    job.cancel('the test')
    monkeypatch.undo()
    call_now[0]()
    end.set()
    with pytest.raises(Cancelled):
        await running
    await eventually(lambda: len(order) == 2, 'both are reported')
    assert order == ['abandoned', 'ended']


async def test_progress_outside_of_a_handler_is_refused():
    with pytest.raises(RuntimeError, match='call it in one'):
        Rig('camera').progress(0.5)


# --- the main PC ---


async def test_the_loss_of_the_main_pc(opened, transport, caplog):
    rig, lost = Rig('camera'), []
    rig.on('EXPSTART')(lambda: None)
    rig.on('EXPEND')(lambda: None)
    rig.on_lost(lambda: lost.append(rig.status))
    await opened(rig, transport)
    async with await EchoProtocol.client(rig.server_uri, 'camera') as camera:
        await camera.call('EXPSTART', REF)
    await eventually(lambda: lost, 'the handler is called', within=30)
    assert lost == [ExpStatus.RUNNING]
    assert 'The main PC is gone while the rig is RUNNING' in caplog.text
    async with await EchoProtocol.client(rig.server_uri, 'camera') as camera:  # another run of it
        assert await camera.call('EXPEND') == [None]
        assert await camera.call('EXPCLEANUP') == [None]


async def test_a_rig_that_ends_stops_its_work_and_informs_the_main_pc(lab, transport):
    rig, calls = recorder()
    await rig.open(f'{transport}://127.0.0.1:0')
    camera = await lab.client(rig.server_uri, 'camera')
    interrupts = []
    camera.assign_callback('EXPINTERRUPT', lambda data, addr: interrupts.append(data))
    async with rig:
        await camera.call('EXPSTART', REF)
    assert calls == [('start', REF, None), ('stop',)]
    assert interrupts == [['camera has ended its program']]
    assert rig.server_uri is None


async def test_a_rig_that_ends_begins_nothing(lab, opened):
    """What waits behind a slow EXPINIT is refused, and the work of a running experiment is stopped at once."""
    rig, calls, begun = Rig('camera'), [], threading.Event()

    @rig.on('EXPINIT')
    def init() -> None:
        begun.set()
        while not rig.is_cancelled:
            threading.Event().wait(0.01)

    rig.on('EXPSTART')(lambda: calls.append('start'))
    rig.on('EXPEND')(lambda: calls.append('stop'))
    await opened(rig)
    camera = await lab.client(rig.server_uri, 'camera')
    initializing = asyncio.ensure_future(camera.call('EXPINIT', timeout=60.0))
    starting = asyncio.ensure_future(camera.call('EXPSTART', REF, timeout=60.0))
    await eventually(begun.is_set, 'the handler runs')
    await eventually(lambda: not camera.awaiting_response(), 'both are confirmed')
    await rig.__aexit__(None, None, None)
    assert calls == []
    for call in (initializing, starting):
        call.cancel()
    ends = await asyncio.gather(initializing, starting, return_exceptions=True)
    assert all(isinstance(end, RemoteCallbackError | asyncio.CancelledError) for end in ends), ends


@pytest.mark.parametrize('error', [SystemExit(3), GeneratorExit(), StopIteration(5), asyncio.CancelledError()])
@pytest.mark.parametrize('is_async', [False, True])
async def test_no_error_of_a_handler_stops_the_rig(lab, opened, is_async, error):
    rig = Rig('camera')

    def fail() -> None:
        raise error

    async def fail_later() -> None:
        raise error

    rig.on('EXPINIT')(fail_later if is_async else fail)
    await opened(rig)
    camera = await lab.client(rig.server_uri, 'camera')
    for _ in range(2):
        with pytest.raises(RemoteCallbackError, match=type(error).__name__):
            await camera.call('EXPINIT', timeout=60.0)
    assert await camera.call('EXPCLEANUP', timeout=60.0) == [None]


async def test_a_coroutine_that_a_plain_function_returns_is_cancelled(lab, opened):
    rig, begun = Rig('camera'), asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.sleep(3600)

    rig.on('EXPSTART')(lambda: work())
    rig.on('EXPEND')(lambda: None)
    await opened(rig)
    camera = await lab.client(rig.server_uri, 'camera')
    starting = asyncio.ensure_future(camera.call('EXPSTART', REF, timeout=60.0))
    await begun.wait()
    assert await camera.call('EXPEND', timeout=60.0) == [None]
    with pytest.raises(RemoteCallbackError, match='cancelled by EXPEND'):
        await starting


async def test_a_stop_that_hangs_is_interrupted(lab, opened):
    rig, begun, end = Rig('camera'), threading.Event(), threading.Event()
    rig.on('EXPSTART')(lambda: None)

    @rig.on('EXPEND')
    def stop() -> None:
        begun.set()
        end.wait(60)

    rig.on('EXPINTERRUPT')(lambda: 'aborted')
    await opened(rig)
    camera = await lab.client(rig.server_uri, 'camera')
    await camera.call('EXPSTART', REF)
    stopping = asyncio.ensure_future(camera.call('EXPEND', timeout=60.0))
    await eventually(begun.is_set, 'the handler runs')
    try:
        assert await camera.call('EXPINTERRUPT', timeout=60.0) == ['aborted']
        with pytest.raises(RemoteCallbackError, match='EXPEND was cancelled by EXPINTERRUPT'):
            await stopping
    finally:
        end.set()
    assert rig.status == ExpStatus.STOPPED


async def test_another_main_pc_does_not_take_over_the_watch(lab, opened):
    rig, lost = Rig('camera'), []
    rig.on('EXPSTART')(lambda: None)
    rig.on('EXPEND')(lambda: None)
    rig.on_lost(lambda: lost.append(1))
    await opened(rig, 'tcp')
    camera = await lab.client(rig.server_uri, 'camera')
    await camera.call('EXPSTART', REF)
    async with await EchoProtocol.client(rig.server_uri, 'other') as other:
        with pytest.raises(RemoteCallbackError, match='AlreadyRunning'):
            await other.call('EXPINIT')
    await camera.call('EXPSTATUS', 'RUNNING')
    assert lost == []
    camera.close()
    await camera.wait_closed()
    await eventually(lambda: lost, 'the loss of its main PC is noticed', within=30)


# --- misuse ---


def test_handlers_that_are_refused():
    rig = Rig('camera')
    rig.on('EXPSTART')(lambda exp_ref: None)
    with pytest.raises(ValueError, match='EXPSTART has a handler already'):
        rig.on('EXPSTART')(lambda: None)
    with pytest.raises(
        TypeError, match=r'called with \(exp_ref, data\), or with fewer arguments, and .* needs \(a, b, c\)'
    ):
        Rig('camera').on('EXPSTART')(lambda a, b, c: None)
    with pytest.raises(TypeError, match='needs'):
        rig.on('EXPEND')(lambda *, speed: None)
    with pytest.raises(ValueError, match='Unknown event'):
        rig.on('START')
    with pytest.raises(TypeError, match=r"write @rig\.on\('EXPSTART'\)"):
        rig.on(lambda: None)
    with pytest.raises(TypeError, match='must be a function'):
        rig.on('EXPEND')(5)

    def generator():
        yield

    with pytest.raises(TypeError, match='generator'):
        rig.on('EXPEND')(generator)
    with pytest.raises(TypeError, match='takes no arguments'):
        rig.on_lost(lambda addr: None)
    assert repr(rig) == '<Rig camera not open CONNECTED>'


async def test_a_rig_is_opened_once(opened):
    rig = await opened(Rig('camera'))
    with pytest.raises(RuntimeError, match='open already'):
        await rig.open('udp://127.0.0.1:0')


async def test_tokens_reach_the_handler_and_no_log(lab, opened, caplog):
    rig, found = Rig('camera'), []
    caplog.set_level(logging.DEBUG)

    @rig.on('ALYX')
    def token(base_url: str, tokens: dict[str, str]) -> None:
        found.append((base_url, tokens))
        raise ValueError(str(tokens))

    await opened(rig)
    camera = await lab.client(rig.server_uri, 'camera')
    await camera.confirmed_send([128, 'https://alyx', {'user': 'secret of the test'}])
    await eventually(lambda: found, 'the handler is called')
    assert found == [('https://alyx', {'user': 'secret of the test'})]
    await eventually(lambda: 'ALYX failed' in caplog.text, 'it is logged')
    assert 'secret of the test' not in caplog.text


# --- call ---


async def test_call_waits_for_the_answer_not_the_confirmation(lab, transport):
    server = await lab.answering(transport)
    client = await lab.client(server)
    assert await client.call('EXPSTART', REF, {'fps': 60}) == [REF, {'fps': 60}]
    assert await client.call(ExpMessage.EXPINFO, 'RUNNING', 'x') == [20, 'x']
    silent = await lab.client(await lab.server(transport))
    with pytest.raises(EchoTimeoutError, match='confirmed, but did not answer EXPINIT'):
        await silent.call('EXPINIT', timeout=0.2)


async def test_call_checks_its_arguments(lab):
    server, client = await lab.pair()
    for reference in ('mouse7', '2026-02-30_1_mouse7', '2026-01-31_mouse7', '', None):
        with pytest.raises(ValueError, match='date_number_subject, such as 2026-01-31_1_mouse7'):
            await client.call('EXPSTART', reference)
    with pytest.raises(ValueError, match='for clients'):
        await server.call('EXPINIT')
    with pytest.raises(ValueError, match='use alyx'):
        await client.call('ALYX')
    with pytest.raises(TypeError):
        await client.call('EXPINIT', 1, 2, 3)
    answering = await lab.client(await lab.answering())
    assert await answering.call('EXPSTART', 'mouse7', check_exp_ref=False) == ['mouse7', None]
