"""Access control by source address: real sockets of several loopback addresses."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from ipaddress import ip_address, ip_network

import pytest

import internals
from echorig import EchoProtocol, ExpMessage, Rejected, Services, ServicesError, sync
from echorig.cli.main import main
from echorig.security.allowlist import AllowList, parse_allowlist
from echorig.security.rejections import NOT_ALLOWED, UNSIGNED, Rejections
from hosts import BAD, GOOD, needs_ipv6, needs_others, stranger
from lab import RawUdp

EVERYTHING = ExpMessage.any()
MANY_HOSTS = 10_000


@pytest.fixture(params=['compiled', 'loop'])
def datagrams(request, monkeypatch):
    monkeypatch.setenv('ECHORIG_TRANSPORTS', request.param)
    return request.param


# --- entries ---


@pytest.mark.parametrize(
    ('allow', 'inside', 'outside'),
    [
        ('10.0.0.7', ['10.0.0.7', '::ffff:10.0.0.7'], ['10.0.0.8', '::10.0.0.7', 'nonsense', '']),
        ('10.0.0.0/8', ['10.0.0.7', '10.255.0.1', '::ffff:10.1.2.3'], ['11.0.0.1', '::1']),
        ('fe80::/10', ['fe80::1', 'fe80::1%4'], ['fec0::1', '10.0.0.1']),
        ('fe80::1', ['fe80::1', 'fe80::1%4', 'fe80:0:0::1%5'], ['fe80::2%4']),
        ('fe80::1%4', ['fe80::1%4'], ['fe80::1', 'fe80::1%5']),
        ('::ffff:10.0.0.7', ['10.0.0.7', '::ffff:10.0.0.7'], ['10.0.0.8']),
        ('::ffff:10.0.0.0/104', ['10.9.9.9'], ['11.0.0.1']),
        (ip_address('10.0.0.7'), ['10.0.0.7'], ['10.0.0.8']),
        (ip_network('10.0.0.0/30'), ['10.0.0.3'], ['10.0.0.4']),
        (['10.0.0.7', ip_network('192.168.0.0/16'), '::1'], ['10.0.0.7', '192.168.9.9', '::1'], ['10.0.0.8']),
        ({'10.0.0.7'}, ['10.0.0.7'], ['10.0.0.8']),
        ('localhost', ['127.0.0.1'], ['10.0.0.7']),
        ('0.0.0.0/0', ['10.0.0.7', '::ffff:1.1.1.1'], ['::1']),
    ],
    ids=repr,
)
async def test_hosts(allow, inside, outside):
    hosts = await parse_allowlist(allow)
    for _ in range(2):  # the second time from the cache
        assert [host for host in inside if host not in hosts] == []
        assert [host for host in outside if host in hosts] == []


@pytest.mark.parametrize(
    ('allow', 'error', 'says'),
    [
        ([], ValueError, 'is empty'),
        ('', ValueError, "''"),
        ('10.0.0.1/8', ValueError, '10.0.0.1/8.*host bits'),
        ('10.0.0.0/33', ValueError, '10.0.0.0/33'),
        ('camera:11001', ValueError, "'camera:11001'.*without a scheme or a port"),
        ('udp://10.0.0.1', ValueError, 'udp://10.0.0.1'),
        ('not a name', ValueError, 'not a name'),
        (['10.0.0.1', '10.0.0.256'], ValueError, '10.0.0.256'),
        ('10.0.0.1, 10.0.0.2', ValueError, '10.0.0.1, 10.0.0.2'),
        ('no-such-host.invalid', ValueError, 'Failed to resolve.*no-such-host.invalid'),
        ('fe80::1%nosuchinterface', ValueError, 'no such network interface'),
        (167772161, TypeError, 'int'),
        ([167772161], TypeError, '167772161'),
        (b'10.0.0.1', TypeError, 'bytes'),
        ([None], TypeError, 'None.*an IP address, a network'),
        (ipaddress.ip_interface('10.0.0.1/8'), TypeError, 'Interface'),
    ],
    ids=repr,
)
async def test_invalid_entries_are_refused(allow, error, says):
    with pytest.raises(error, match=says):
        await EchoProtocol.server('udp://127.0.0.1:0', allow=allow)
    with pytest.raises(error, match=says):
        await EchoProtocol.client('udp://127.0.0.1:9', allow=allow)


async def test_tables_are_bounded_for_any_number_of_senders(caplog):
    hosts = AllowList([ip_network('10.0.0.0/8')])
    rejections = Rejections(logging.getLogger('flooded'))
    for i in range(MANY_HOSTS):
        host = str(ip_address(0xC0000000 + i))
        assert host not in hosts
        rejections.count(host, NOT_ALLOWED, 'Ignoring %s', host)
    assert hosts.decide.cache_info().currsize <= 4096
    counted = rejections.snapshot()
    assert len(counted) == 257
    assert sum(each.not_allowed for each in counted.values()) == MANY_HOSTS
    assert counted['*'] == Rejected(not_allowed=MANY_HOSTS - 256)
    assert len(caplog.records) == 257
    assert 'only counted' in caplog.records[-1].getMessage()


async def test_each_reason_is_logged_once(caplog):
    rejections = Rejections(logging.getLogger('flooded'))
    for _ in range(3):
        rejections.count('10.0.0.1', NOT_ALLOWED, 'Ignoring %s', '10.0.0.1')
        rejections.count('10.0.0.1', UNSIGNED, 'Unsigned from %s', '10.0.0.1')
    assert rejections.snapshot() == {'10.0.0.1': Rejected(not_allowed=3, unsigned=3)}
    assert len(caplog.records) == 2


# --- servers ---


@needs_others
async def test_datagrams_of_other_hosts_are_rejected(lab, datagrams, caplog):
    server = await lab.server(allow=[GOOD], host='0.0.0.0')
    heard = []
    server.assign_callback(EVERYTHING, lambda data, addr, event: heard.append((data, addr[0])))
    client, enemy = await lab.client(f'udp://127.0.0.1:{server.port}'), await RawUdp.open(BAD)
    addr = (GOOD, server.port)
    for i in range(100):  # alternately and in batches: the two are never confused
        for _ in range(i % 4):
            enemy.say(b'[64, 0, "bad"]', addr)
        await client.info(0, i)
        enemy.say(b'[]', addr)
    await client.ping()
    assert heard == [([0, i], GOOD) for i in range(100)]
    assert {host for host, _ in server.peers} == {GOOD}
    while server.rejected.get(BAD, Rejected()).not_allowed < 250:
        await client.ping()
    assert server.rejected == {BAD: Rejected(not_allowed=250)}
    assert enemy.heard.empty()
    told = [record.getMessage() for record in caplog.records if BAD in record.getMessage()]
    assert len(told) == 1
    assert 'not in allow=' in told[0]


@needs_others
async def test_alternating_senders(lab, datagrams):
    """The last sender is recognized by its address object; a rejected host must not become the last sender."""
    server = await lab.server(allow=GOOD, host='0.0.0.0')
    friend, enemy = await RawUdp.open(GOOD), await RawUdp.open(BAD)
    for peer in (enemy, friend, enemy, enemy, friend, friend, enemy):
        peer.say(b'[1, null]', (GOOD, server.port))
        if peer is friend:
            assert await friend.hear() == (b'[1, null]', (GOOD, server.port))
    while server.rejected[BAD].not_allowed < 4:
        friend.say(b'[4, null]', (GOOD, server.port))
        await friend.hear()
    assert enemy.heard.empty()


@needs_others
async def test_connections_of_other_hosts_are_rejected(lab, caplog):
    server = await lab.server('tcp', allow='127.0.0.0/31', host='0.0.0.0')
    heard = []
    server.assign_callback(EVERYTHING, lambda data, addr, event: heard.append(data))
    for _ in range(3):
        async with stranger(server, BAD) as (reader, writer):
            writer.write(b'[1, "bad"]')
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 5) == b''
    client = await lab.client(f'tcp://127.0.0.1:{server.port}')
    await client.init('good')
    assert heard == [['good']]
    assert server.rejected == {BAD: Rejected(not_allowed=3)}
    assert len([record for record in caplog.records if BAD in record.getMessage()]) == 1
    assert internals.n_connections(server) == 1


@needs_ipv6
async def test_ipv6(lab, transport):
    server = await lab.server(transport, host='[::1]', allow='fe80::/10')
    client = await lab.client(server, reconnect=False)
    with pytest.raises((TimeoutError, asyncio.TimeoutError, ConnectionError)):
        await client.confirmed_send([1, None], timeout=0.1)
    assert server.rejected['::1'].not_allowed
    server = await lab.server(transport, host='[::1]', allow=['10.0.0.0/8', '::1'])
    await (await lab.client(server, allow=ip_address('::1'))).init()
    assert server.rejected == {}


@needs_ipv6
@needs_others
async def test_ipv4_through_an_ipv6_socket(lab, transport):
    server = await lab.server(transport, host='[::]', allow='127.0.0.1')
    if server._socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        pytest.skip('IPv6 sockets take no IPv4 here')
    await (await lab.client(f'{transport}://127.0.0.1:{server.port}')).init()
    other = await lab.client(f'{transport}://[::1]:{server.port}', reconnect=False)
    with pytest.raises((TimeoutError, asyncio.TimeoutError, ConnectionError)):
        await other.confirmed_send([1, None], timeout=0.1)
    assert set(server.rejected) == {'::1'}


async def test_without_allow_every_host_is_accepted(lab, transport):
    server, client = await lab.pair(transport, allow=None)
    await client.init()
    assert server.rejected == {}


# --- clients ---


async def test_nothing_is_sent_to_a_server_that_is_not_allowed(lab, transport):
    server = await lab.server(transport)
    told = []
    server.assign_callback(EVERYTHING, lambda data, addr, event: told.append(data))
    server.assign_connection_callback(told.append)
    with pytest.raises(PermissionError, match=r'camera is at 127.0.0.1, which is not in allow= \(10.0.0.0/8\)'):
        await lab.client(server, 'camera', allow='10.0.0.0/8')
    with pytest.raises(PermissionError, match='localhost'):
        await EchoProtocol.client(f'{transport}://localhost:{server.port}', allow='10.0.0.0/8')
    await (await lab.client(server, allow='127.0.0.0/8')).init('x')
    assert told[-1] == ['x']
    assert len(told) == 1 + (transport == 'tcp')


@needs_others
@pytest.mark.blocks
async def test_a_socket_connected_to_another_server(lab):
    server = await lab.server(host=BAD)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((BAD, server.port))
        with pytest.raises(PermissionError, match=BAD):
            await EchoProtocol.client(f'udp://127.0.0.1:{server.port}', allow=GOOD, sock=sock)


async def test_sets_of_rigs(lab):
    rig = await lab.answering()
    async with await Services.connect({'camera': rig.server_uri}, allow=['localhost']) as rigs:
        await rigs.init()
    with pytest.raises(ServicesError, match=r'camera.*not in allow='):
        await Services.connect({'camera': rig.server_uri}, allow=['10.0.0.0/8'])


@needs_others
def test_blocking_use():
    with sync.EchoProtocol.server('tcp://0.0.0.0:0', allow=GOOD) as server:
        with sync.EchoProtocol.client(f'tcp://127.0.0.1:{server.port}', allow=GOOD) as client:
            client.init()
        with socket.create_connection((GOOD, server.port), source_address=(BAD, 0)) as enemy:
            with contextlib.suppress(ConnectionResetError):
                assert enemy.recv(1) == b''
        assert server.rejected == {BAD: Rejected(not_allowed=1)}


def test_command_line(capsys):
    assert main(['client', '127.0.0.1:9', '--allow', '10.0.0.0/8', '--allow', '192.168.0.1']) == 1
    assert 'not in allow= (10.0.0.0/8, 192.168.0.1)' in capsys.readouterr().err
    assert main(['server', '127.0.0.1:9', '--allow', 'http://x']) == 2
    assert "'http://x'" in capsys.readouterr().err
