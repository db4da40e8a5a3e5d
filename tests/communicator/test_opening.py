"""Opening a communicator with and without ``await``; its `repr`; the public names."""

from __future__ import annotations

import asyncio
import inspect
from unittest import mock

import pytest

import echorig
from echorig import EchoProtocol, Services, sync


async def test_async_with_and_without_await(transport):
    async with (
        EchoProtocol.server(f'{transport}://127.0.0.1:0', 'rig') as server,
        EchoProtocol.client(server.server_uri, 'main') as client,
        await EchoProtocol.client(server.server_uri, 'other') as other,
    ):
        await client.confirmed_send([1, None])
        await other.confirmed_send([1, None])
    assert not any(com.is_connected for com in (server, client, other))


async def test_a_body_that_raises_closes_the_communicator(transport):
    with pytest.raises(ZeroDivisionError):
        async with EchoProtocol.server(f'{transport}://127.0.0.1:0') as server:
            raise ZeroDivisionError
    assert not server.is_connected


async def test_tasks_and_time_limits():
    made = [
        await asyncio.create_task(EchoProtocol.server('127.0.0.1:0')),
        await asyncio.ensure_future(EchoProtocol.server('127.0.0.1:0')),
        await asyncio.wait_for(EchoProtocol.server('127.0.0.1:0'), 10),
        *await asyncio.gather(EchoProtocol.server('127.0.0.1:0'), EchoProtocol.server('127.0.0.1:0')),
    ]
    for com in made:
        assert com.is_connected
        com.close()
        await com.wait_closed()


async def test_an_error_and_a_cancelled_task():
    with pytest.raises(ValueError, match='Unknown scheme'):
        async with EchoProtocol.client('http://127.0.0.1'):
            pass
    task = asyncio.create_task(EchoProtocol.server('127.0.0.1:0'))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize('name', ['client', 'server'])
def test_they_are_coroutine_functions(name):
    function = getattr(EchoProtocol, name)
    assert inspect.iscoroutinefunction(function)
    assert inspect.isfunction(function)
    assert inspect.isroutine(function)
    assert list(inspect.signature(function).parameters) == ['server_uri', 'name', 'log', 'kwargs']
    assert function.__doc__.count('server_uri : str')


async def test_mocks_of_them_are_asynchronous():
    for double in (mock.create_autospec(EchoProtocol), mock.Mock(spec=EchoProtocol)):
        opening = double.client('udp://127.0.0.1')
        assert asyncio.iscoroutine(opening)
        await opening
    with pytest.raises(TypeError):
        mock.create_autospec(EchoProtocol).client()
    with mock.patch.object(EchoProtocol, 'client') as client:
        client.return_value = 7
        assert await EchoProtocol.client('udp://127.0.0.1') == 7


async def test_repr_of_communicators(transport):
    server = await EchoProtocol.server(f'{transport}://127.0.0.1:0', 'rig')
    client = await EchoProtocol.client(server.server_uri, 'main')
    assert repr(server) == f"<echorig.EchoProtocol 'rig', server at {server.server_uri}, listening>"
    assert repr(client) == f"<echorig.EchoProtocol 'main', client of {server.server_uri}, connected>"
    rigs = Services([client])
    assert repr(rigs) == f'<echorig.Services of 1 rig: main ({server.server_uri}, connected)>'
    for com in (client, server):
        com.close()
        await com.wait_closed()
    assert repr(server).endswith(', closed>')
    assert repr(client).endswith(', closed>')
    assert repr(rigs).endswith(', not connected)>')


def test_repr_of_blocking_ones():
    with sync.EchoProtocol.server('127.0.0.1:0', 'rig') as server:
        assert repr(server) == f"<echorig.sync.EchoProtocol 'rig', server at {server.server_uri}, listening>"
        with sync.EchoProtocol.client(server.server_uri, 'main') as client:
            rigs = sync.Services([client])
            assert repr(rigs) == f'<echorig.sync.Services of 1 rig: main ({server.server_uri}, connected)>'
        assert repr(client).endswith(', closed>')
    assert repr(server).endswith(', closed>')


def test_dir_shows_public_names_only():
    assert dir(echorig) == sorted(echorig.__all__)
