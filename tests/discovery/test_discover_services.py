"""`Services.discover` and ``mdns:`` URIs find exactly the rigs that were asked for."""

from __future__ import annotations

import asyncio

import pytest

from echorig import EchoError, EchoTimeoutError, Services, ServicesError, ServicesTimeoutError
from echorig.discovery.options import ENVIRONMENT
from rooms import LONG, LOOPBACK, announced, new_room, seen

pytest.importorskip('zeroconf')
ON_LOOPBACK = {'interfaces': LOOPBACK}


async def test_exactly_these(lab):
    """In the order of the names; nothing is sent to any other rig."""
    room, other = new_room(), new_room()
    options = {'group': room}
    coms = {name: await lab.server('udp', name, announce=options) for name in ('camera', 'ephys', 'imaging')}
    elsewhere = await lab.server('udp', 'camera', announce={'group': other})
    await seen(other, 'camera')
    async with await Services.discover(['ephys', 'camera'], room, LONG, **ON_LOOPBACK) as rigs:
        assert {name: rig.server_uri for name, rig in rigs.items()} == {
            'ephys': coms['ephys'].server_uri,
            'camera': coms['camera'].server_uri,
        }
        assert list(rigs) == ['ephys', 'camera']
        assert rigs.timeout == LONG
        assert all(seconds > 0 for seconds in (await rigs.ping()).values())
    assert len(coms['ephys'].peers) == len(coms['camera'].peers) == 1
    assert len(coms['imaging'].peers) == len(elsewhere.peers) == 0


async def test_rigs_that_start_later(lab):
    room = new_room()
    finding = asyncio.ensure_future(Services.discover(['camera', 'ephys'], room, 0, **ON_LOOPBACK))
    await announced(lab, room, 'camera')
    assert not finding.done()
    await announced(lab, room, 'ephys')
    async with await asyncio.wait_for(finding, LONG) as rigs:
        assert list(rigs) == ['camera', 'ephys']


async def test_a_whole_group(lab):
    room = new_room()
    coms = await announced(lab, room, 'ephys', 'camera')
    async with await Services.discover(None, room, **ON_LOOPBACK) as rigs:
        assert {name: rig.server_uri for name, rig in rigs.items()} == {com.name: com.server_uri for com in coms}
        assert list(rigs) == ['camera', 'ephys']
    with pytest.raises(ServicesTimeoutError, match='no rig of this group') as caught:
        await Services.discover(None, new_room(), 0.5, **ON_LOOPBACK)
    assert 'camera (udp://' in str(caught.value)


async def test_a_name_that_is_there_twice(lab):
    """The error names both addresses; the group makes it unique, unless both are in the same."""
    name, room, other = new_room(), new_room(), new_room()
    first, second = [await lab.server('udp', name, announce={'group': group}) for group in (room, other)]
    await seen(room, name)
    await seen(other, name)
    with pytest.raises(ServicesError, match=f'2 rigs are called {name}') as caught:
        await Services.discover([name], timeout=LONG, **ON_LOOPBACK)
    assert not isinstance(caught.value, ServicesTimeoutError)
    assert type(caught.value.failures[name]) is EchoError
    for com, group in ((first, room), (second, other)):
        assert f'{name} ({com.server_uri}, group {group})' in str(caught.value)
    async with await Services.discover([name], room, LONG, **ON_LOOPBACK) as rigs:
        assert rigs[name].server_uri == first.server_uri
    third = await lab.server('udp', 'another', announce={'group': room, 'name': name})
    await announced(lab, room, 'ephys')
    for names in ([name, 'ephys'], None):
        with pytest.raises(ServicesError, match='1 of 2 rigs failed') as caught:
            await Services.discover(names, room, LONG, **ON_LOOPBACK)
        assert first.server_uri in str(caught.value)
        assert third.server_uri in str(caught.value)
        assert second.server_uri not in str(caught.value)
    assert len(second.peers) == len(third.peers) == 0


async def test_a_name_that_is_not_there(lab):
    """The error lists what was found, and what may be the cause."""
    room, other = new_room(), new_room()
    ephys = await lab.server('udp', 'ephys', announce={'group': room})
    camera = await lab.server('udp', 'camera', announce={'group': other})
    await seen(room, 'ephys')
    await seen(other, 'camera')
    with pytest.raises(ServicesTimeoutError, match='1 of 2 rigs failed') as caught:
        await Services.discover(['camera', 'ephys'], room, 2.0, **ON_LOOPBACK)
    text = str(caught.value)
    assert f'camera of group {room} was not found within 2.0 s' in text
    assert f'camera ({camera.server_uri}, group {other})' in text
    assert 'same subnet' in text
    assert 'multicast' in text
    assert 'firewalls' in text
    assert type(caught.value.failures['camera']) is EchoTimeoutError
    assert caught.value.responses == {'ephys': ephys.server_uri}
    assert len(ephys.peers) == len(camera.peers) == 0


async def test_keys_and_tls(lab, papers):
    room = new_room()
    keys = {'signed': 'k' * 16}
    signed = await lab.server('udp', 'signed', key=keys['signed'], announce={'group': room})
    await lab.server('tls', 'tls', ssl=papers.servers['good'], announce={'group': room})
    await seen(room, 'signed', 'tls')
    with pytest.raises(ValueError, match='signs its messages: give its key'):
        await Services.discover(['signed'], room, LONG, **ON_LOOPBACK)
    with pytest.raises(ValueError, match='announces no TLS, but ssl= was given'):
        await Services.discover(['signed'], room, LONG, key=keys, ssl=papers.client, **ON_LOOPBACK)
    assert len(signed.peers) == 0
    async with await Services.discover(['signed'], room, LONG, key=keys, **ON_LOOPBACK) as rigs:
        assert list(await rigs.ping()) == ['signed']
    async with await Services.discover(['tls'], room, LONG, ssl=papers.client, wait=True, **ON_LOOPBACK) as rigs:
        assert rigs['tls'].server_uri.startswith('tls://127.0.0.1:')


async def test_a_file_of_rigs(lab, tmp_path, monkeypatch):
    """Some lines have an address, and some say that the rig is to be found, by another name in the file."""
    pytest.importorskip('yaml')
    monkeypatch.setenv(ENVIRONMENT, '127.0.0.1')
    room, name = new_room(), new_room()
    fixed = await lab.answering(name='fixed')
    found = await lab.server('udp', 'camera', announce={'group': room})
    anywhere = await lab.server('tcp', name, announce=True)
    path = tmp_path / 'remote_devices.yaml'
    text = f'cam: mdns:camera?group={room}\nfixed: {fixed.server_uri}\nother: mdns:{name}\n'
    await asyncio.to_thread(path.write_text, text, 'utf-8')
    async with await Services.connect(path, LONG) as rigs:
        assert {name: rig.server_uri for name, rig in rigs.items()} == {
            'cam': found.server_uri,
            'fixed': fixed.server_uri,
            'other': anywhere.server_uri,
        }
        assert list(await rigs.ping()) == ['cam', 'fixed', 'other']
    with pytest.raises(ServicesTimeoutError, match='nobody was not found within 1'):
        await Services.connect({'cam': 'mdns:nobody', 'fixed': fixed.server_uri}, 1)
