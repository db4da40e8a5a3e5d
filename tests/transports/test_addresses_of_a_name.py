"""A TCP client tries all addresses of a name, and looks the name up again when it has lost its connection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from echorig import ConnectionClosedError, EchoProtocol, PeerUnreachableError, Services
from echorig.tuning import InternalTuning
from eventually import eventually
from hosts import needs_ipv6, needs_others

REF = '2026-01-31_1_mouse'


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the addresses of the name ``rig``; a test may change them."""
    found: list[str] = []

    async def lookup(host: str) -> list[str]:
        return list(found) if host.rstrip('.') == 'rig' else [host]

    monkeypatch.setattr('echorig.resolver.lookup', lookup)
    return found


@needs_others
@pytest.mark.parametrize('order', [['127.0.0.9', '127.0.0.1'], ['127.0.0.1', '127.0.0.9']])
async def test_the_address_that_accepts_is_used(addresses: list[str], order: list[str]) -> None:
    addresses[:] = order
    async with await EchoProtocol.server('tcp://127.0.0.1:0', 'rig') as rig:
        async with await EchoProtocol.client(f'tcp://rig:{rig.port}', 'main') as com:
            await com.start(REF)
            await com.status('RUNNING', addr=('rig', rig.port))
            assert [*com.peers] == [('127.0.0.1', rig.port)]


@needs_ipv6
async def test_ipv6_is_tried_too(addresses: list[str]) -> None:
    addresses[:] = ['127.0.0.1', '::1']
    async with await EchoProtocol.server('tcp://[::1]:0', 'rig') as rig:
        async with await EchoProtocol.client(f'tcp://rig:{rig.port}', 'main') as com:
            await com.start(REF)


@needs_others
async def test_the_error_names_all_addresses(addresses: list[str]) -> None:
    addresses[:] = ['127.0.0.8', '127.0.0.9']
    with pytest.raises(PeerUnreachableError, match=r'rig \(tcp://127.0.0.8:\d+, tcp://127.0.0.9:\d+\)'):
        await EchoProtocol.client('tcp://rig:9', 'rig')


@needs_others
async def test_only_allowed_addresses_are_tried(addresses: list[str]) -> None:
    addresses[:] = ['127.0.0.9', '127.0.0.1']
    async with await EchoProtocol.server('tcp://0.0.0.0:0', 'rig') as rig:
        uri = f'tcp://rig:{rig.port}'
        async with await EchoProtocol.client(uri, 'main', allow='127.0.0.1') as com:
            await com.start(REF)
            assert [host for host, _ in com.peers] == ['127.0.0.1']
        with pytest.raises(PermissionError, match=r'at 127.0.0.9, 127.0.0.1, which is not in allow='):
            await EchoProtocol.client(uri, 'main', allow='10.0.0.0/8')


@pytest.fixture
def contexts() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return the options of a server and a client by scheme; the certificate is for the name ``rig``."""
    authority = pytest.importorskip('trustme').CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert('rig').configure_cert(server)
    authority.configure_trust(client)
    return {'tcp': ({}, {}), 'wss': ({'ssl': server}, {'ssl': client})}


@needs_others
@pytest.mark.parametrize('scheme', ['tcp', 'wss'])
async def test_a_rig_with_a_new_address_is_found(addresses: list[str], scheme: str, contexts: dict[str, Any]) -> None:
    """It has got another one by DHCP; what is sent afterwards arrives once."""
    options = contexts[scheme]
    tuning = InternalTuning(first_reconnect_delay=0.01, max_reconnect_delay=0.05)
    addresses[:] = ['127.0.0.1']
    rig = await EchoProtocol.server(f'{scheme}://127.0.0.1:0', 'rig', **options[0])
    received: list[Any] = []
    async with await EchoProtocol.client(f'{scheme}://rig:{rig.port}', 'main', tuning=tuning, **options[1]) as com:
        await com.init('before')
        rig.close()
        await rig.wait_closed()
        moved = await EchoProtocol.server(f'{scheme}://127.0.0.9:{rig.port}', 'rig', **options[0])
        async with moved:
            moved.assign_callback('EXPINIT', lambda data, addr: received.append(data[0]))
            addresses[:] = ['127.0.0.9']
            await eventually(lambda: com.is_connected, 'it has reconnected', within=20)
            await com.init('after')
            assert (com.server_uri, com.hostname) == (f'{scheme}://127.0.0.9:{rig.port}', '127.0.0.9')
            assert [*com.peers] == [('127.0.0.9', rig.port)]
            await com.status('RUNNING', addr=('rig', rig.port))
            await eventually(lambda: received, 'it was received')
            assert received == ['after']
            com.close()
            with pytest.raises(ConnectionClosedError, match=f'main .{scheme}://127.0.0.9:'):
                await com.init()


@needs_others
async def test_a_rig_that_was_started_again_elsewhere(addresses: list[str]) -> None:
    """Its restart is counted under its new address."""
    tuning = InternalTuning(first_reconnect_delay=0.01, max_reconnect_delay=0.05)
    addresses[:] = ['127.0.0.1']
    rig = await EchoProtocol.server('tcp://127.0.0.1:0', 'rig')
    async with await EchoProtocol.client(f'tcp://rig:{rig.port}', 'main', tuning=tuning) as com:
        await com.init()
        async with Services([com]).watch(0.02) as presence:
            await eventually(lambda: presence['main'].round_trip, 'it was pinged')
            rig.close()
            await rig.wait_closed()
            addresses[:] = ['127.0.0.9']
            async with await EchoProtocol.server(f'tcp://127.0.0.9:{rig.port}', 'rig'):
                await eventually(lambda: presence['main'].restarts == 1, 'it was restarted', within=20)
                assert com.peers['127.0.0.9', rig.port].restarts == 1


async def test_a_rig_is_found_where_it_was_while_no_name_server_answers(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = InternalTuning(first_reconnect_delay=0.01, max_reconnect_delay=0.05)
    addresses[:] = ['127.0.0.1']
    rig = await EchoProtocol.server('tcp://127.0.0.1:0', 'rig')
    async with await EchoProtocol.client(f'tcp://rig:{rig.port}', 'main', tuning=tuning) as com:
        await com.init()

        async def fail(host: str) -> list[str]:
            if host == 'rig':
                raise ValueError('Temporary failure in name resolution')
            return [host]

        monkeypatch.setattr('echorig.resolver.lookup', fail)
        rig.close()
        await rig.wait_closed()
        async with await EchoProtocol.server(f'tcp://127.0.0.1:{rig.port}', 'rig'):
            await eventually(lambda: com.is_connected, 'it has reconnected', within=20)
            await com.init()


@needs_others
async def test_all_addresses_are_tried_from_a_local_address(addresses: list[str]) -> None:
    addresses[:] = ['127.0.0.9', '127.0.0.1']
    async with await EchoProtocol.server('tcp://127.0.0.1:0', 'rig') as rig:
        senders: list[Any] = []
        rig.assign_callback('EXPINIT', lambda data, addr: senders.append(addr))
        async with await EchoProtocol.client(f'tcp://rig:{rig.port}', 'main', local_addr=('127.0.0.7', 0)) as com:
            await com.init()
            assert [host for host, _ in senders] == ['127.0.0.7']


async def test_the_certificate_of_a_name_with_a_final_dot(addresses: list[str], contexts: dict[str, Any]) -> None:
    addresses[:] = ['127.0.0.1']
    async with await EchoProtocol.server('wss://127.0.0.1:0', 'rig', **contexts['wss'][0]) as rig:
        async with await EchoProtocol.client(f'wss://rig.:{rig.port}', 'main', **contexts['wss'][1]) as com:
            await com.init()


@needs_ipv6
@pytest.mark.parametrize('port', ['any', 'given'])
async def test_a_server_on_all_ipv6_addresses_serves_ipv4(transport: str, port: str) -> None:
    uri = f'{transport}://[::]:0'
    if port == 'given':
        async with await EchoProtocol.server(uri) as other:
            uri = f'{transport}://[::]:{other.port}'
    async with await EchoProtocol.server(uri, 'rig') as rig:
        for host in ('127.0.0.1', '[::1]'):
            async with await EchoProtocol.client(f'{transport}://{host}:{rig.port}', 'main') as com:
                await asyncio.wait_for(com.status('RUNNING'), 10)


@needs_ipv6
async def test_an_ipv4_client_of_a_server_on_all_ipv6_addresses(transport: str) -> None:
    """It is sent to by its IPv4 address; over TCP it is shown so, too."""
    async with await EchoProtocol.server(f'{transport}://[::]:0', 'rig', allow='127.0.0.1') as rig:
        senders: list[Any] = []
        rig.assign_callback('EXPINIT', lambda data, addr: senders.append(addr))
        async with await EchoProtocol.client(f'{transport}://127.0.0.1:{rig.port}', 'main') as com:
            await com.init()
            ((host, port),) = senders
            for addr in ((host, port), ('127.0.0.1', port), ('::ffff:127.0.0.1', port)):
                await rig.status('RUNNING', addr=addr)
            if transport == 'tcp':
                assert host == '127.0.0.1'
                assert [*rig.peers] == [('127.0.0.1', port)]
