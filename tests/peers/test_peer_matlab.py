"""Echorig and a rig with the dialect of MATLAB; `test_peer_octave` tests the same with the language itself."""

from __future__ import annotations

import asyncio
import json
import logging
import re

import iblutil_fixtures
import pytest
import pytest_asyncio
from sessions import CALLS, LAST, session, too_often

from echorig import EchoTimeoutError, ExpMessage, ExpStatus, RemoteCallbackError, Services, ServicesError
from echorig.testing import FakeRig
from lab import REF

patience = iblutil_fixtures.patience

ANSWERS = {1: 'ready', 2: 'running', 4: 'stopped', 8: 'tidy', 16: 'halted', 32: 'ok', 64: 'noted'}


@pytest_asyncio.fixture
async def matlab():
    async with FakeRig(kind='matlab', name='matlab') as rig:
        rig.script(answer=None)
        yield rig


def answers(rig):
    """Make it answer each event with a text, as MATLAB does."""
    for event, text in ANSWERS.items():
        rig.script(event, answer=[text])


@pytest_asyncio.fixture
async def client(lab, matlab):
    return await lab.client(matlab.uri, 'timeline')


@pytest_asyncio.fixture
async def services(lab, client):
    """A MATLAB rig between two echorig rigs that answer."""
    first, last = [await lab.client(await lab.answering(name=name), name) for name in ('first', 'last')]
    return Services([first, client, last], timeout=30)


def spelled_as_json_dumps(text: str) -> bool:
    """Tell whether a message is ASCII with ", " and ": " between its parts, which is what MATLAB looks for."""
    return text.isascii() and re.sub(r'[ \t]*\]$', ']', text) == json.dumps(json.loads(text))


@pytest.mark.parametrize(
    'data', [None, 'now', 'bär 🐭 \x7f', {'foo': [1, 2.5, {'bar': None}]}, [True, False, 'a, b: c [d]'], -7]
)
async def test_short_message(client, matlab, data):
    await client.start(REF, data=data)
    heard = await matlab.wait_for()
    text = heard.frame.decode('latin-1')
    assert heard.event == ExpMessage.EXPSTART
    assert spelled_as_json_dumps(text)
    assert json.loads(text) == [2, REF, data]


@pytest.mark.parametrize('size', [513, 1000, 60_000])
async def test_long_message(client, matlab, caplog, size):
    """A message longer than MATLAB's buffer has a truncated echo, which confirms it with a warning. MATLAB fails."""
    caplog.set_level(logging.INFO, logger='timeline')
    message = [1, 'x' * (size - len('[1, ""]'))]
    assert len(client.encode(message)) == size
    notice = asyncio.ensure_future(client.on_event(0))
    await client.confirmed_send(message)
    heard = await matlab.wait_for()
    assert len(heard.frame) == 512
    texts = [record.getMessage() for record in caplog.records]
    assert any(text.startswith('Received truncated echo from timeline') for text in texts)
    assert 'Confirmation received' in texts
    assert (await asyncio.wait_for(notice, 10))[0] == ['JSON syntax error', heard.frame.decode()]
    await client.stop(data='next')
    assert json.loads((await matlab.wait_for()).frame) == [4, 'next']


async def test_truncated_in_the_middle_of_an_escape(client, matlab):
    """The 512th byte falls into an escape sequence: bytes are compared, not characters."""
    for n in range(6):
        await client.init(data='x' * n + 'ä' * 300)
        heard = await matlab.wait_for()
        assert (heard.event, len(heard.frame)) == (1, 512)


async def test_same_bytes_as_its_own_last(client, matlab):
    """MATLAB takes them for an echo: the send fails, and nothing of it is left to disturb the next.

    The text is sent as it is, so that these are the bytes. This limit is MATLAB's own.
    """
    await client.init()
    addr = client._transport.get_extra_info('sockname')
    waiting = asyncio.create_task(client.on_event('EXPSTATUS'))
    await asyncio.sleep(0)
    await matlab.send('[32, 20]', addr, timeout=10)
    assert (await asyncio.wait_for(waiting, 10))[0] == [20]
    with pytest.raises(EchoTimeoutError, match=r'timeline.*EXPSTATUS'):
        await client.confirmed_send('[32, 20]', timeout=0.1)
    await client.confirmed_send('[32, 30]')
    await client.stop()
    assert [message.event for message in matlab.received] == [1, 32, 4]


async def test_it_speaks_first(lab, matlab):
    """As a client of our server: its messages are echoed byte for byte and delivered once."""
    server = await lab.server()
    heard = []
    server.assign_callback(ExpMessage.any(), lambda data, addr, event: heard.append((event.value, data)))
    says = [
        '[64, 0, "caf\\u00e9"]',
        '[2,"2022-01-01_1_subject",{"a":[]}]',  # spelled otherwise than by json.dumps
        '[ 1 , null ]',
    ]
    for text in says:
        await matlab.send(text, (server.hostname, server.port), timeout=10)
    assert heard == [(64, [0, 'café']), (2, [REF, {'a': []}]), (1, [None])]
    await server.status('STOPPED', addr=matlab.addr)
    assert (await matlab.wait_for()).event == ExpMessage.EXPSTATUS


async def test_our_callback_fails(lab, matlab):
    """It echoes the notice and fails on it, and nothing more is sent."""
    server = await lab.server()

    def fail(data, addr):
        raise ValueError('nö')

    server.assign_callback('EXPSTART', fail)
    await matlab.send(f'[2, "{REF}", null]', (server.hostname, server.port), timeout=10)
    text = (await matlab.wait_for(0)).frame.decode('latin-1')
    assert spelled_as_json_dumps(text)
    assert json.loads(text) == [0, 'ValueError: nö', 2]
    await server.cleanup(addr=matlab.addr)


async def test_notice_quotes_the_message(client, matlab):
    """A notice in the format of MATLAB reaches the listeners of event 0, and is never echoed."""
    matlab.script('EXPINIT', notice='Undefined function')
    waiting = asyncio.create_task(client.on_event(0))
    await client.init(data='ä')
    data, addr = await asyncio.wait_for(waiting, 10)
    assert addr == matlab.addr
    assert data[0] == 'Undefined function'
    assert json.loads(data[1]) == [1, 'ä']
    await client.stop()
    assert [message.event for message in matlab.received] == [1, 4]


@pytest.mark.parametrize('interrupts', [True, False])
async def test_start_fails(services, matlab, interrupts):
    """It interrupts, or sends a notice: the error names the rig and the reason, and the set stays usable."""
    answers(matlab)
    why = 'No signal on channel 3'
    if interrupts:
        matlab.script('EXPSTART', answer=[why], answer_event='EXPINTERRUPT', times=1)
    else:
        matlab.script('EXPSTART', notice=why, times=1)
    with pytest.raises(ServicesError, match=r'timeline.*No signal on channel 3') as caught:
        await services.start(REF)
    assert not isinstance(caught.value, TimeoutError)
    assert caught.value.responses == {'first': [REF, None], 'last': [REF, None]}
    failure = caught.value.failures['timeline']
    assert isinstance(failure, RemoteCallbackError)
    assert (failure.event, failure.message) == (ExpMessage.EXPSTART, 'No signal on channel 3')
    assert failure.addr == matlab.addr

    assert await services.stop(immediately=True) == {'first': [None], 'timeline': ['halted'], 'last': [None]}
    assert (await services.start(REF))['timeline'] == ['running']


@pytest.mark.parametrize('concurrent', [True, False])
async def test_whole_session(services, matlab, concurrent):
    answers(matlab)
    for number in range(3):
        ref = f'2022-01-01_{number}_subject'
        session = [
            (services.info, ['CONNECTED', {'n': number}], {}, 64),
            (services.init, [], {}, 1),
            (services.start, [ref], {'data': 'x' * 200}, 2),
            (services.status, [ExpStatus.RUNNING], {}, 32),
            (services.status, [ExpStatus.RUNNING], {}, 32),
            (services.stop, [], {}, 4),
            (services.stop, [], {'immediately': True}, 16),
            (services.cleanup, [], {}, 8),
        ]
        for method, args, kwargs, code in session:
            responses = await method(*args, concurrent=concurrent, **kwargs)
            assert list(responses) == ['first', 'timeline', 'last']
            assert responses['timeline'] == [ANSWERS[code]]
            assert (await matlab.wait_for()).event == code
    assert len(matlab.received) == 24
    assert (
        matlab.confirmed[:23] == [[code, ANSWERS[code]] for *_, code in session * 3][:23]
    )  # and the last is under way


def becomes_busy(rig, when):
    """Make it busy for 1.5 s once: from now on, or after the echo of an event."""
    answers(rig)
    if when:
        rig.script(when, answer=[ANSWERS[when]], answer_delay=1.5, times=1)
    else:
        rig.busy(1.5)


def executed(rig):
    return [(message.event.value, message.data) for message in rig.received if message.event]


@pytest.mark.parametrize('when', [0, 1, 2, 4])
async def test_a_session_with_a_rig_that_is_busy_once(lab, matlab, client, when):
    becomes_busy(matlab, when)
    rigs = Services([client], timeout=30)
    async with rigs.watch(interval=0.05):
        assert await session(rigs) == len(CALLS)
    assert [event for event, _ in executed(matlab)] == [event for event, *_ in CALLS]
    assert too_often(executed(matlab), ANSWERS) == []


@pytest.mark.parametrize('when', [0, 1, 2, 4])
async def test_a_session_that_does_not_wait_for_a_busy_rig(lab, matlab, client, when):
    """Calls fail and others follow: no message is executed more often than it was sent, and no answer is executed."""
    becomes_busy(matlab, when)
    client.default_echo_timeout = 1.0
    rigs = Services([client], timeout=1.0)
    async with rigs.watch(interval=0.05):
        await session(rigs)
        await client.confirmed_send([64, *LAST], timeout=30)
    assert too_often(executed(matlab), ANSWERS) == []
    assert executed(matlab)[-1] == (64, LAST)
