"""What a server announces, when, and what it does if that fails."""

from __future__ import annotations

import logging

import pytest

from echorig import EchoProtocol, FoundRig, Rig, discover
from echorig.discovery import announcer, browse
from echorig.discovery import interfaces as interfaces_module
from echorig.messages import PROTOCOL_VERSION
from eventually import eventually
from rooms import LONG, LOOPBACK, announced, new_room, seen

pytest.importorskip('zeroconf')


async def test_what_is_announced(lab, papers):
    """Each kind of server has its scheme and its flags, and the port that it has."""
    room = new_room()
    secret = 'x' * 31 + 'secret'
    options = {'group': room}
    plain = await lab.server('udp', 'plain', announce=options)
    signed = await lab.server('tcp', 'signed', key=secret, announce=options)
    tls = await lab.server('tls', 'tls', ssl=papers.servers['good'], announce={**options, 'name': 'Wärme 2. Stock'})
    by_name = {rig.name: rig for rig in await seen(room, 'plain', 'signed', 'Wärme 2. Stock')}
    for name, com, scheme, is_tls, has_key in (
        ('plain', plain, 'udp', False, False),
        ('signed', signed, 'tcp', False, True),
        ('Wärme 2. Stock', tls, 'tls', True, False),
    ):
        uri = f'{scheme}://127.0.0.1:{com.port}'
        assert by_name[name] == FoundRig(name, uri, room, is_tls, has_key, PROTOCOL_VERSION, ('127.0.0.1',))


async def test_the_key_is_not_announced(lab):
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

    room, infos = new_room(), []

    def on_change(zeroconf, service_type, name, state_change):
        info = AsyncServiceInfo(service_type, name)
        if info.load_from_cache(zeroconf) and info.properties.get(b'group') == room.encode():
            infos.append(info)

    await announced(lab, room, 'camera', key='0123456789abcdef')
    opened = AsyncZeroconf(interfaces=LOOPBACK, unicast=True)
    try:
        async with AsyncServiceBrowser(opened.zeroconf, '_echorig._udp.local.', handlers=[on_change]):
            await eventually(lambda: infos, 'it is announced', LONG)
    finally:
        await opened.async_close()
    assert infos[0].properties == {
        b'name': b'camera',
        b'version': PROTOCOL_VERSION.encode(),
        b'group': room.encode(),
        b'tls': b'0',
        b'key': b'1',
    }


async def test_nobody_waits_for_it_and_closing_withdraws_it(lab, caplog):
    room = new_room()
    caplog.set_level(logging.INFO)
    async with browse(room, LOOPBACK) as changes:
        async with EchoProtocol.server('udp://127.0.0.1:0', 'camera', announce={'group': room}) as com:
            assert 'Announced' not in caplog.text
            client = await lab.client(com)
            assert await client.ping() > 0
            await eventually(lambda: changes.rigs, 'it is announced', LONG)
            await eventually(lambda: 'Announced as camera' in caplog.text, 'that is logged', LONG)
        await eventually(lambda: not changes.rigs, 'it is withdrawn', LONG)
        kinds = [(await changes.__anext__()).kind for _ in range(2)]
    assert kinds == ['found', 'removed']
    assert await discover(room, 0.5, LOOPBACK) == []


async def test_closed_before_it_was_announced(lab):
    """The background task ends, in whatever step it is; `guards` checks that."""
    for _ in range(3):
        com = await lab.server(announce=True)
        com.close()
        await com.wait_closed()


async def test_a_rig_announces_itself_each_time_that_it_is_open():
    room = new_room()
    rig = Rig('camera', announce={'group': room})
    rig.on('EXPSTART', 'EXPEND')(lambda: None)
    for _ in range(2):
        async with await rig.open('udp://127.0.0.1:0'):
            [found] = await seen(room, 'camera')
            assert found.uri == rig.server_uri
    async with await rig.open('udp://127.0.0.1:0', announce=False):
        assert await discover(room, 0.5, LOOPBACK) == []


async def test_a_server_on_all_addresses(lab):
    """It announces all that this computer has except for loopback, or just those of the chosen interfaces."""
    room = new_room()
    await lab.server('udp', 'here', host='0.0.0.0', announce={'group': room, 'interfaces': LOOPBACK})
    await lab.server('tcp', 'both', host='[::]', announce={'group': room, 'interfaces': LOOPBACK})
    here, both = sorted(await seen(room, 'here', 'both'), key=lambda rig: rig.name != 'here')
    assert here.addresses == ('127.0.0.1',)
    assert both.addresses[0] == '127.0.0.1'
    assert set(both.addresses) <= {'127.0.0.1', '::1'}


async def test_an_interface_that_is_not_there(lab, caplog, monkeypatch):
    """The server works; what fails is logged once and tried again."""
    monkeypatch.setattr(announcer, 'INTERVAL', 0.01)
    looked = []

    def local_networks():
        looked.append(1)
        return interfaces_module.local_networks()

    monkeypatch.setattr(announcer, 'local_networks', local_networks)
    server = await lab.server(host='0.0.0.0', announce={'interfaces': ['192.0.2.77']})
    await eventually(lambda: len(looked) > 5, 'it looks again')
    client = await lab.client(f'udp://127.0.0.1:{server.port}')
    assert await client.ping() > 0
    assert caplog.text.count('cannot be announced on the network') == 1


async def test_a_network_that_is_there_later(lab, caplog, monkeypatch):
    """A rig that starts before its network card has an address is announced then; after a failure that is logged."""
    monkeypatch.setattr(announcer, 'INTERVAL', 0.01)
    looked = []

    def local_networks():
        looked.append(1)
        if len(looked) < 3:
            raise OSError('no adapters yet')
        return [] if len(looked) < 6 else interfaces_module.local_networks()

    monkeypatch.setattr(announcer, 'local_networks', local_networks)
    room = new_room()
    await announced(lab, room, 'late')
    assert len(looked) >= 6
    assert caplog.text.count('late cannot be announced on the network: OSError: no adapters yet') == 1


async def test_an_address_that_changes(lab, monkeypatch):
    """It is announced with the new addresses, and not with the old ones any more."""
    monkeypatch.setattr(announcer, 'INTERVAL', 0.01)
    adapters = interfaces_module.local_networks()
    lost = []

    def local_networks():
        return [] if lost else adapters

    monkeypatch.setattr(announcer, 'local_networks', local_networks)
    room = new_room()
    async with browse(room, LOOPBACK) as changes:
        await lab.server(announce={'group': room})
        await eventually(lambda: changes.rigs, 'it is announced', LONG)
        lost.append(1)
        await eventually(lambda: not changes.rigs, 'it is withdrawn', LONG)
        lost.clear()
        await eventually(lambda: changes.rigs, 'it is announced again', LONG)
