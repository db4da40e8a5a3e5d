"""Calls on many rigs at once: the messages leave one right after the other, and every promise of a call holds."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from typing import Any
from unittest import mock

import pytest

import internals
from echorig import ConnectionClosedError, EchoProtocol, EchoTimeoutError, Services, ServicesError
from echorig.communicator._pipeline import PreparedSend, send_prepared
from echorig.communicator.direct_send import DirectSender
from echorig.wire._codec import as_bytes
from eventually import eventually
from lab import REF

N = 10


@pytest.fixture
async def lab_of_clients(lab):
    """A server that answers, its clients by name, and the names in the order of arrival."""
    server = await lab.server('udp', 'rig')
    clients = [await lab.client(server.server_uri, f'rig{i}') for i in range(N)]
    arrived: list[int] = []
    ports: dict[int, int] = {}

    def start(data: list[Any], addr: tuple[str, int]) -> Any:
        arrived.append(ports[addr[1]])
        return server.start(data[0], ports[addr[1]], addr=addr)

    server.assign_callback('EXPSTART', start)
    for i, client in enumerate(clients):
        await client.ping()
        ports[client._transport.get_extra_info('sockname')[1]] = i
    return clients, arrived


async def test_rigs_are_sent_to_in_order(lab_of_clients):
    clients, arrived = lab_of_clients
    rigs = Services(clients)
    for _ in range(5):
        arrived.clear()
        assert await rigs.start(REF) == {f'rig{i}': [REF, i] for i in range(N)}
        assert arrived == list(range(N))


async def test_nothing_runs_between_two_sends(lab_of_clients, monkeypatch):
    """All messages are with the system before the loop does anything else."""
    clients, _ = lab_of_clients
    loop = asyncio.get_running_loop()
    turns: list[int] = []
    turn = 0

    def count() -> None:
        nonlocal turn
        turn += 1
        handle[0] = loop.call_soon(count)

    handle = [loop.call_soon(count)]
    for client in clients:
        pipeline = internals.pipeline(client)

        def send(frame: bytes, addr: Any, real: Any = pipeline.transport) -> None:
            if frame.startswith(b'[2,'):
                turns.append(turn)
            real.sendto(frame)

        pipeline.route = send
    await Services(clients).start(REF)
    handle[0].cancel()
    assert len(turns) >= N  # the echoes of the answers follow
    assert len(set(turns[:N])) == 1


async def test_a_closed_rig_in_the_middle(lab_of_clients):
    clients, arrived = lab_of_clients
    clients[4].close()
    with pytest.raises(ServicesError, match='1 of 10 rigs failed: rig4: ConnectionClosedError') as caught:
        await Services(clients).start(REF)
    assert set(caught.value.responses) == {f'rig{i}' for i in range(N) if i != 4}
    assert isinstance(caught.value.failures['rig4'], ConnectionClosedError)
    assert arrived == [i for i in range(N) if i != 4]


async def test_a_rig_whose_socket_refuses_in_the_middle(lab_of_clients):
    """An error of the system for one rig: the others are sent to, and it is tried again until the time-out."""
    clients, arrived = lab_of_clients
    pipeline = internals.pipeline(clients[4])
    failures = [OSError(105, 'No buffer space available')] * 2

    def send(frame: bytes, addr: Any) -> None:
        if failures:
            raise failures.pop()
        pipeline.transport.sendto(frame)

    pipeline.route = send
    assert list(await Services(clients).start(REF)) == [f'rig{i}' for i in range(N)]
    assert sorted(arrived) == list(range(N))
    assert arrived[:-1] == [i for i in range(N) if i != 4]
    assert not failures


@pytest.mark.parametrize('method', ['start', 'confirmed_send'])
@pytest.mark.parametrize('of', ['object', 'class'])
async def test_a_method_that_was_replaced_is_called(lab_of_clients, method, of):
    clients, arrived = lab_of_clients
    real = getattr(EchoProtocol, method)
    calls: list[str] = []

    async def replaced(self: EchoProtocol, *args: Any, **kwargs: Any) -> None:
        if self in clients:
            calls.append(self.name)
        await real(self, *args, **kwargs)

    if of == 'object':
        setattr(clients[4], method, replaced.__get__(clients[4]))
        expected = ['rig4']
        answers = await Services(clients).start(REF)
    else:
        expected = [client.name for client in clients]
        with mock.patch.object(EchoProtocol, method, replaced):
            answers = await Services(clients).start(REF)
    assert calls == expected
    assert answers == {f'rig{i}': [REF, i] for i in range(N)}
    assert sorted(arrived) == list(range(N))


async def test_a_cancelled_call_stops_sending(lab):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(('127.0.0.1', 0))
        client = await lab.client(f'udp://127.0.0.1:{silent.getsockname()[1]}', 'rig')
        calling = asyncio.ensure_future(Services([client]).start(REF))
        await eventually(client.awaiting_response, 'the message waits for its echo')
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert not client.awaiting_response()


async def test_a_failure_is_known_to_the_client(lab):
    """As after a send of its own; `watch` needs it."""
    rig = await lab.server('udp', 'rig')
    client = await lab.client(rig.server_uri, 'rig')
    await client.ping()
    rig.close()
    client.default_echo_timeout = 0.05
    with pytest.raises(ServicesError):
        await Services([client]).start(REF)
    assert isinstance(client.last_failure.error, EchoTimeoutError)


async def test_nothing_is_left_after_many_calls(lab_of_clients):
    clients, _ = lab_of_clients
    rigs = Services(clients)
    await rigs.start(REF)
    tasks = len(asyncio.all_tasks())
    for _ in range(100):
        await rigs.start(REF)
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks, 'no call leaves a task')
    assert not any(entries for client in clients for entries in client._callbacks.values())
    assert not any(client.awaiting_response() for client in clients)


async def test_a_closed_client_is_forgotten(lab):
    client = await EchoProtocol.client('udp://127.0.0.1:9', 'rig')
    assert DirectSender.of(client, 'start') is not None
    receiver_id, reference = client.receiver_id, weakref.ref(client)
    client.close()
    await client.wait_closed()
    del client

    def is_forgotten() -> bool:
        gc.collect()
        return reference() is None

    await eventually(is_forgotten, 'the client is collected')

    class Other:
        pass

    other = Other()
    other.receiver_id = receiver_id
    assert DirectSender.of(other, 'start') is None


async def test_an_unexpected_error_of_one_transport(lab_of_clients):
    clients, arrived = lab_of_clients

    def fail(frame: bytes, addr: Any) -> None:
        raise ZeroDivisionError

    internals.pipeline(clients[4]).route = fail
    with pytest.raises(ServicesError, match='1 of 10 rigs failed: rig4: ZeroDivisionError'):
        await Services(clients).start(REF)
    assert arrived == [i for i in range(N) if i != 4]


async def test_another_encoder_is_used(lab_of_clients, monkeypatch):
    clients, _ = lab_of_clients
    encoded: list[Any] = []

    def encode(data: Any) -> bytes:
        encoded.append(data)
        return as_bytes(data)

    monkeypatch.setattr(clients[4], 'encode', encode, raising=False)
    await Services(clients).start(REF)
    await clients[4].start(REF)
    assert [list(data[1:]) for data in encoded] == [[REF, None], [REF, None]]


@pytest.mark.parametrize('item', [None, 'text', PreparedSend.__new__(PreparedSend)])
def test_what_is_no_prepared_send_is_refused(item):
    with pytest.raises(TypeError):
        send_prepared([item])
