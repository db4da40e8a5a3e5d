"""Sets of rigs: all are told, failures are named, nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
from unittest import mock

import pytest

import internals
from echorig import (
    ConnectionClosedError,
    EchoError,
    EchoProtocol,
    EchoTimeoutError,
    ExpMessage,
    RemoteCallbackError,
    Services,
    ServicesError,
    ServicesTimeoutError,
)
from eventually import eventually
from lab import REF, RawUdp, free_port
from secrets_watch import token
from systems import RefusedError
from tagging import is_ping, strip_tag


async def test_a_whole_session(lab, transport):
    async with await lab.services(3, transport) as rigs:
        assert rigs.is_connected
        assert await rigs.init({'a': 1}) == {f'rig{i}': [{'a': 1}] for i in range(3)}
        assert await rigs.start(REF) == {f'rig{i}': [REF, None] for i in range(3)}
        assert await rigs.status('RUNNING') == {f'rig{i}': [20] for i in range(3)}
        assert await rigs.info(20, 'x') == {f'rig{i}': [20, 'x'] for i in range(3)}
        assert await rigs.stop('x') == {f'rig{i}': ['x'] for i in range(3)}
        assert await rigs.stop(immediately=True) == {f'rig{i}': [None] for i in range(3)}
        assert await rigs.cleanup() == {f'rig{i}': [None] for i in range(3)}
        assert await rigs.start(REF, concurrent=False) == {f'rig{i}': [REF, None] for i in range(3)}
        assert list(await internals.call_rigs(rigs, 'EXPINFO', 'confirmed_send', [64, 0, 'y'])) == list(rigs)
    assert not rigs.is_connected


@pytest.mark.parametrize('n', [1, 100])
async def test_an_answer_that_comes_with_the_echo_1000_times(lab, transport, n):
    servers = [await lab.server(transport, f'rig{i}') for i in range(n)]
    for server in servers:  # the answer leaves in the same turn as the echo
        server.assign_callback('EXPSTART', lambda data, addr, rig=server: rig.send([2, *data], addr))
    rigs = Services([await lab.client(rig, f'rig{i}') for i, rig in enumerate(servers)], timeout=30)
    for com in rigs.values():
        com.default_echo_timeout = 30.0
    for k in range(1000 // n):
        assert await rigs.start(f'{REF}{k}') == {f'rig{i}': [f'{REF}{k}', None] for i in range(n)}


async def test_order_and_no_waiting_for_echoes(lab):
    peers = [await RawUdp.open() for _ in range(3)]
    rigs = Services([await lab.client(peer.uri, f'rig{i}') for i, peer in enumerate(peers)], timeout=5.0)
    pings = [asyncio.ensure_future(com.ping()) for com in rigs.values()]
    for peer in peers:  # whoever is not known is sent pings before the first message
        peer.say(*await asyncio.wait_for(peer.heard.get(), 10))
    await asyncio.gather(*pings)
    told: list[int] = []
    for peer, com in zip(peers, rigs.values(), strict=True):  # one not known yet would be asked first what it is
        pinging = asyncio.ensure_future(com.ping(timeout=5.0))
        peer.say(*await peer.heard.get())
        await pinging
    for call, order in ((lambda: rigs.init(), [0, 1, 2]), (lambda: rigs.cleanup(), [2, 1, 0])):
        told.clear()
        for i, com in enumerate(rigs.values()):
            com._transport = mock.Mock(wraps=com._transport)
            com._transport.is_closing.return_value = False
            com._transport.sendto.side_effect = lambda data, addr=None, i=i: (
                mock.DEFAULT if is_ping(data) else told.append(i) or mock.DEFAULT
            )
        call_ = asyncio.ensure_future(call())
        heard = [await peer.hear() for peer in peers]  # all three before anybody has echoed
        assert told == order
        for peer, (data, addr) in zip(peers, heard, strict=True):
            peer.say(data, addr)
            peer.say(strip_tag(data), addr)
        assert len(await call_) == 3
        for com in rigs.values():
            com._transport = com._transport._mock_wraps
        for peer in peers:
            await peer.hear()  # the echo of the answer
    for peer in peers:
        peer.close()


async def test_silent_refusing_and_closing_rigs_are_named_and_the_others_answer(lab, transport):
    silent = await lab.server(transport, 'silent')
    refusing = await lab.server(transport, 'refusing')
    closing = await lab.answering(transport, 'closing')
    good = [await lab.answering(transport, f'good{i}') for i in range(3)]
    names = ['good0', 'silent', 'good1', 'refusing', 'closing', 'good2']
    servers = {com.name: com for com in (silent, refusing, closing, *good)}
    rigs = Services([await lab.client(servers[name], name) for name in names], timeout=0.5)

    def refuse(data, addr):
        raise ValueError('no disk left')

    refusing.assign_callback('EXPSTART', refuse)
    closing.clear_callbacks(ExpMessage.any())
    closing.assign_callback('EXPSTART', lambda data, addr: rigs['closing'].close())
    with pytest.raises(ServicesTimeoutError) as caught:
        await rigs.start(REF)
    error = caught.value
    assert error.responses == {f'good{i}': [REF, None] for i in range(3)}
    assert {name: type(ex) for name, ex in error.failures.items()} == {
        'silent': EchoTimeoutError, 'refusing': RemoteCallbackError, 'closing': ConnectionClosedError,
    }  # fmt: skip
    for text in ('silent', 'refusing', 'closing', 'no disk left', 'EXPSTART', '3 of 6'):
        assert text in str(error)
    refusal = error.failures['refusing']
    assert (refusal.event, refusal.message, refusal.addr) == (
        2,
        'ValueError: no disk left',
        (refusing.hostname, refusing.port),
    )
    # The next call works: two failed rigs answer again, the closed one says what it is.
    for server in (silent, refusing):
        server.clear_callbacks('EXPSTART')
        server.assign_callback('EXPINIT', lambda data, addr, s=server: s.send([1, *data], addr))
    with pytest.raises(ServicesError, match='closing') as caught:
        await rigs.init(1)
    assert sorted(caught.value.responses) == ['good0', 'good1', 'good2', 'refusing', 'silent']
    assert not isinstance(caught.value, TimeoutError)
    assert list(caught.value.failures) == ['closing']


async def test_udp_rigs_that_are_not_there(lab):
    peer = await RawUdp.open()
    rig = await lab.answering()
    clients = {'off': f'udp://127.0.0.1:{free_port()}', 'mute': peer.uri, 'good': rig.server_uri}
    rigs = Services([await lab.client(uri, name) for name, uri in clients.items()], timeout=1.0)
    for com in rigs.values():
        com.default_echo_timeout = 0.2
    for concurrent in (True, False):
        with pytest.raises(TimeoutError if not hasattr(asyncio, 'timeout') else asyncio.TimeoutError) as caught:
            await rigs.start(REF, concurrent=concurrent)
        assert list(caught.value.responses) == ['good']
        assert isinstance(caught.value.failures['off'], RefusedError)
        assert 'did not echo' in str(caught.value.failures['mute'])
    peer.close()


async def test_interruption_and_notices_of_other_kinds_fail_the_rig_at_once(lab):
    rig = await lab.server(name='matlab')
    client = await lab.client(rig, 'matlab')
    rigs = Services([client], timeout=None)
    answers = [
        ([16, 'no laser'], 'EXPINTERRUPT: no laser'),
        ([0, 'failed', '[2, "ref", null]'], 'failed'),
        ([0, 'no event named'], 'no event named'),
    ]
    for answer, text in answers:
        rig.clear_callbacks('EXPSTART')
        rig.assign_callback('EXPSTART', lambda data, addr, answer=answer: rig.send(answer, addr))
        with pytest.raises(ServicesError, match=text):
            await asyncio.wait_for(rigs.start(REF), 5)
    # A notice for another event is none of this call's business.
    rig.clear_callbacks('EXPSTART')
    rig.assign_callback('EXPSTART', lambda data, addr: (rig.send([0, 'other', 1], addr), rig.send([2, 'fine'], addr)))
    assert await rigs.start(REF) == {'matlab': ['fine']}
    # An interruption is the answer to an interruption.
    rig.assign_callback('EXPINTERRUPT', lambda data, addr: rig.send([16, 'stopped'], addr))
    assert await rigs.stop(immediately=True) == {'matlab': ['stopped']}


@pytest.mark.parametrize('answer_first', [True, False])
async def test_of_an_answer_and_a_failure_in_one_turn_the_first_counts(lab, answer_first):
    server = await lab.server()
    client = await lab.client(server, 'rig')
    rigs = Services([client], timeout=None)
    call = asyncio.ensure_future(rigs.start(REF))
    await server.on_event('EXPSTART')
    await eventually(lambda: not client.awaiting_response(), 'not client.awaiting_response()')
    await asyncio.sleep(0)
    for message in [b'[2, "fine"]', b'[0, "failed"]'][:: 1 if answer_first else -1]:
        client._receive(message, (server.hostname, server.port))
    if answer_first:
        assert await call == {'rig': ['fine']}
    else:
        with pytest.raises(ServicesError, match='failed'):
            await call


@pytest.mark.parametrize('concurrent', [True, False])
async def test_a_rig_that_cannot_be_told_fails_alone(concurrent):
    async def cancelled(*args, **kwargs):
        raise asyncio.CancelledError

    def raising(*args, **kwargs):
        raise LookupError('no such thing')

    clients = {name: mock.AsyncMock(spec=EchoProtocol) for name in ('good', 'cancelled', 'raising', 'odd', 'deaf')}
    for name, client in clients.items():
        client.name = name
        client.on_event.return_value = ([name], ('127.0.0.1', 1))
    clients['cancelled'].start = cancelled
    clients['raising'].start = raising
    clients['odd'].start = mock.Mock(return_value=7)  # cannot be awaited
    clients['deaf'].on_event.side_effect = asyncio.CancelledError
    with pytest.raises(ServicesError) as caught:
        await Services(clients.values()).start(REF, concurrent=concurrent)
    assert caught.value.responses == {'good': ['good']}
    kinds = {name: type(failure) for name, failure in caught.value.failures.items()}
    assert kinds == {'cancelled': EchoError, 'raising': LookupError, 'odd': TypeError, 'deaf': EchoError}
    assert 'deaf did not answer EXPSTART before the wait for it was cancelled' in str(caught.value)


async def test_nothing_is_left_behind(lab):
    good, silent = await lab.answering(), await lab.server(name='silent')
    rigs = Services([await lab.client(good, 'good'), await lab.client(silent, 'silent')], timeout=0.02)
    before = asyncio.all_tasks()
    for _ in range(10):
        with pytest.raises(ServicesTimeoutError):
            await rigs.start(REF)
    for turns in range(8):  # cancelled at each of its steps
        for concurrent in (True, False):
            call = asyncio.ensure_future(rigs.start(REF, concurrent=concurrent))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises((asyncio.CancelledError, ServicesTimeoutError)):
                await call
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() - before == set()
    for com in rigs.values():
        assert not any(com._callbacks.values())
        assert not internals.waiters(com)
    gc.collect()


async def test_closed_while_awaited(lab):
    servers = [await lab.server(name=f'rig{i}') for i in range(2)]
    rigs = Services([await lab.client(server, server.name) for server in servers], timeout=None)
    for call in (lambda: rigs.start(REF), lambda: rigs.await_all('EXPEND')):
        waiting = asyncio.ensure_future(call())
        for server in servers if call.__code__.co_names[0] == 'start' else []:
            await server.on_event('EXPSTART')
        await asyncio.sleep(0.02)
        rigs['rig0'].close()
        if not waiting.done():
            rigs['rig1'].close()
        with pytest.raises(ServicesError) as caught:
            await asyncio.wait_for(waiting, 5)
        assert isinstance(caught.value.failures['rig0'], ConnectionClosedError)


async def test_await_all(lab):
    servers = [await lab.server(name=f'rig{i}') for i in range(2)]
    rigs = Services([await lab.client(server, server.name) for server in servers], timeout=1.0)
    addrs = []
    for server, rig in zip(servers, rigs.values(), strict=True):
        got = asyncio.create_task(server.on_event('EXPINIT'))
        await rig.init()
        addrs.append((await got)[1])
    waiting = asyncio.ensure_future(rigs.await_all('EXPEND'))
    await asyncio.sleep(0)
    for i, (server, addr) in enumerate(zip(servers, addrs, strict=True)):
        await server.stop(i, addr=addr)
    assert await waiting == {'rig0': [0], 'rig1': [1]}
    rigs.timeout = 0.05
    with pytest.raises(ServicesTimeoutError, match=r'2 of 2.*rig0 did not answer EXPEND'):
        await rigs.await_all('EXPEND')


async def test_callbacks_of_the_set(lab):
    server = await lab.server()
    rigs = Services([await lab.client(server, f'c{i}') for i in range(2)])
    addrs = []
    server.assign_callback('EXPINIT', lambda data, addr: addrs.append(addr))
    for rig in rigs.values():
        await rig.init()
    plain, wrapped, compound = mock.Mock(), mock.Mock(), mock.Mock()
    both = ExpMessage.EXPEND | ExpMessage.EXPCLEANUP
    rigs.assign_callback('EXPEND', plain)
    rigs.assign_callback('EXPEND', wrapped, return_service=True)
    rigs.assign_callback(both, compound, return_service=True)
    source = (server.hostname, server.port)
    for addr, rig in zip(addrs, rigs.values(), strict=True):
        await server.stop('x', addr=addr)
        wrapped.assert_called_with(['x'], source, rig)
        compound.assert_called_with(['x'], source, ExpMessage.EXPEND, rig)
    assert plain.call_count == 2
    assert rigs.clear_callbacks('EXPEND', wrapped) == {'c0': 1, 'c1': 1}
    assert rigs.clear_callbacks(both, compound) == {'c0': 2, 'c1': 2}
    assert rigs.clear_callbacks('EXPEND') == {'c0': 1, 'c1': 1}
    with pytest.raises(TypeError):
        rigs.assign_callback('EXPEND', 'foo')
    with pytest.raises(TypeError):
        rigs.assign_callback('EXPEND', 'foo', return_service=True)


async def test_the_set_cannot_be_changed(lab):
    server = await lab.server()
    one, two = await lab.client(server, 'one'), await lab.client(server, 'two')
    rigs = Services([one, two])
    assert (list(rigs), rigs.timeout) == (['one', 'two'], 10.0)
    with pytest.raises(TypeError):
        rigs['one'] = two
    with pytest.raises(TypeError):
        rigs.pop('one')
    with pytest.raises(TypeError, match='not None'):
        Services([one, None])
    with pytest.raises(ValueError, match="'one'"):
        Services([one, await lab.client(server, 'one')])
    with pytest.raises(ValueError, match='no rigs'):
        Services([])


async def test_mocks_of_rigs_are_told_as_documented():
    clients = [mock.AsyncMock(spec=EchoProtocol), mock.AsyncMock(spec=EchoProtocol)]
    rigs = Services(clients)
    await rigs.init([42])
    await rigs.start(REF)
    await rigs.info(20, {'a': 1})
    await rigs.status(30)
    await rigs.stop(immediately=True)
    await rigs.cleanup(data='x')
    alyx = mock.MagicMock()
    await rigs.alyx(alyx)
    for client in clients:
        client.init.assert_awaited_once_with(data=[42])
        client.start.assert_awaited_once_with(REF, data=None)
        client.info.assert_awaited_once_with(20, data={'a': 1})
        client.status.assert_awaited_once_with(30)
        client.stop.assert_awaited_once_with(data=None, immediately=True)
        client.cleanup.assert_awaited_once_with(data='x')
        client.alyx.assert_awaited_once_with(alyx)
    for i, client in enumerate(clients):
        client.name = f'client_{i}'
        client.on_event.return_value = ([i], ('127.0.0.1', 1))
    for concurrent in (True, False):
        answers = await internals.call_rigs(Services(clients), ExpMessage.EXPINIT, 'init', 'foo', concurrent=concurrent)
        assert answers == {'client_0': [0], 'client_1': [1]}
    rigs.close()
    clients[0].close.assert_called_once()


async def test_alyx_to_all(lab):
    class Alyx:
        base_url, user, _token, is_logged_in = 'https://alyx.example', 'mouse', {'token': token()}, True

    servers = [await lab.server(name=f'rig{i}') for i in range(2)]
    heard = []
    for server in servers:
        server.assign_callback('ALYX', lambda data, addr: heard.append(data))
    peer = await RawUdp.open()
    good = [await lab.client(server, server.name) for server in servers]
    assert await Services(good).alyx(Alyx()) is None
    assert heard == [['https://alyx.example', {'mouse': {'token': token()}}]] * 2
    mute = await lab.client(peer.uri, 'mute')
    mute.default_echo_timeout = 0.05
    with pytest.raises(ServicesTimeoutError, match='mute') as caught:
        await Services([mute, *good]).alyx(Alyx())
    assert token() not in str(caught.value)
    assert len(heard) == 4
    peer.close()


# --- pings and time-outs ---


async def test_which_rigs_are_there(lab):
    rig, peer = await lab.server(), await RawUdp.open()
    off = f'udp://127.0.0.1:{free_port()}'
    clients = {'on': rig.server_uri, 'off': off, 'mute': peer.uri}
    rigs = Services([await lab.client(uri, name) for name, uri in clients.items()])
    answers = await rigs.ping(timeout=0.2)
    assert list(answers) == ['on', 'off', 'mute']
    assert 0 < answers['on'] < 0.2
    assert isinstance(answers['off'], RefusedError)
    assert type(answers['mute']) is EchoTimeoutError
    with pytest.raises(ValueError, match='Timeout must be non-zero number'):
        await rigs.ping(0)
    peer.close()
    mocks = Services([mock.AsyncMock(spec=EchoProtocol)])
    assert len(await mocks.ping()) == 1


async def test_answers_are_due_before_the_echo(lab):
    """The time-out of the set holds, though a rig that is silent would be given longer to confirm."""
    peer, good = await RawUdp.open(), await lab.answering()
    rigs = Services([await lab.client(peer.uri, 'mute'), await lab.client(good, 'good')], timeout=0.1)
    rigs['mute'].default_echo_timeout = 3600.0
    with pytest.raises(ServicesTimeoutError, match='mute did not echo EXPSTART within 0') as caught:
        await asyncio.wait_for(rigs.start(REF), 10)
    assert list(caught.value.responses) == ['good']
    assert not rigs['mute'].awaiting_response()
    peer.close()


@pytest.mark.parametrize('timeout', [None, 0])
async def test_without_limit(lab, timeout):
    rig = await lab.server()
    rigs = Services([await lab.client(rig)], timeout=timeout)
    asked = asyncio.get_running_loop().create_future()
    rig.assign_callback('EXPINIT', asked)
    calling = asyncio.ensure_future(rigs.init())
    _, addr = await asked
    await asyncio.sleep(0.05)
    assert not calling.done()
    await rig.init('now', addr=addr)
    assert await calling == {'client': ['now']}
