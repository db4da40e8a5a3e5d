"""Which rigs are found, how fast, and what is ignored."""

from __future__ import annotations

import asyncio
import time

import pytest

from echorig import discover, sync
from echorig.discovery import browse
from echorig.discovery.found_rig import TYPES
from eventually import eventually
from rooms import LONG, LOOPBACK, announced, new_room, seen

pytest.importorskip('zeroconf')


async def test_twenty_rigs(lab):
    """All are found by one search, in the order of their names; the time is printed."""
    room = new_room()
    names = [f'rig {i:02}' for i in range(20)]
    for number, name in enumerate(reversed(names)):
        await lab.server(['udp', 'tcp'][number % 2], name, announce={'group': room})
    await seen(room, *names)
    started = time.monotonic()
    async with browse(room, LOOPBACK) as changes:
        await eventually(lambda: len(changes.rigs) == 20, 'all are found', LONG)
        print(f'20 rigs found in {time.monotonic() - started:.2f} s')
    found = await discover(room, 3.0, LOOPBACK)
    assert [rig.name for rig in found] == names
    uris = {com.name: com.server_uri for com in lab.opened}
    assert {rig.name: rig.uri for rig in found} == uris


async def test_groups(lab):
    rooms = [new_room(), new_room()]
    for room in rooms:
        await lab.server('udp', 'camera', announce={'group': room})
    alone = new_room()
    await lab.server('udp', alone, announce=True)
    every: list = []

    async def all_found():
        every[:] = await discover(timeout=1.0, interfaces=LOOPBACK)
        return {*rooms, None} <= {rig.group for rig in every} and alone in {rig.name for rig in every}

    deadline = time.monotonic() + LONG
    while not await all_found():
        assert time.monotonic() < deadline, every
    for room in rooms:
        [rig] = [rig for rig in every if rig.group == room]
        assert await discover(room, 2.0, LOOPBACK) == [rig]
    assert [rig.group for rig in every if rig.name == alone] == [None]
    assert str(rig) == f'camera ({rig.uri}, group {rooms[1]})'


@pytest.mark.slow
async def test_it_listens_for_the_whole_time(lab):
    """A rig that announces itself while it listens is found."""
    room = new_room()
    searching = asyncio.ensure_future(discover(room, 20.0, LOOPBACK))
    await announced(lab, room, 'camera', 'ephys')
    assert not searching.done()
    assert [rig.name for rig in await searching] == ['camera', 'ephys']


async def test_browsing(lab):
    room, other = new_room(), new_room()
    async with browse(room, LOOPBACK) as changes:
        await lab.server('udp', 'elsewhere', announce={'group': other})
        [camera] = await announced(lab, room, 'camera')
        await seen(other, 'elsewhere')
        async for change in changes:
            assert (change.kind, change.rig.uri) == ('found', camera.server_uri)
            break
        camera.close()
        change = await asyncio.wait_for(changes.__anext__(), LONG)
        assert (change.kind, change.rig.uri) == ('removed', camera.server_uri)
        assert changes.rigs == []


async def test_what_is_no_rig_is_ignored(lab, caplog):
    """Anybody may announce anything; what cannot be a rig is not shown, and logged once."""
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

    room = new_room()
    group = room.encode()
    bad = [
        {},
        {b'name': b'', b'group': group},
        {b'name': b'\xff\xfe', b'group': group},
        {b'name': b'\x1b[2Jcamera', b'group': group},
        {b'name': b'camera', b'group': b'\n'},
    ]
    good = {b'name': b'camera', b'group': group}  # all else has a default
    opened = AsyncZeroconf(interfaces=LOOPBACK)
    try:
        for number, entries in enumerate([*bad, good]):
            name = f'{room}-{number}'
            info = AsyncServiceInfo(
                TYPES[1], f'{name}.{TYPES[1]}', port=5, properties=entries, server=f'{name}.local.',
                parsed_addresses=LOOPBACK,
            )  # fmt: skip
            await opened.async_register_service(info, cooperating_responders=True)
        [rig] = await seen(room, 'camera')
        found = await discover(timeout=2.0, interfaces=LOOPBACK)
    finally:
        await opened.async_close()
    assert (rig.uri, rig.tls, rig.key, rig.version) == ('tcp://127.0.0.1:5', False, False, '')
    assert rig in found
    assert all(one.name.isprintable() and one.name for one in found)
    assert 1 <= caplog.text.count('is no rig') <= 2  # once in each search


async def test_searches_at_the_same_time(lab):
    room = new_room()
    await announced(lab, room, 'camera', 'ephys')
    searches = await asyncio.gather(*(discover(room, 3.0, LOOPBACK) for _ in range(5)))
    assert [[rig.name for rig in found] for found in searches] == [['camera', 'ephys']] * 5


async def test_a_search_that_is_cancelled():
    searching = asyncio.ensure_future(discover(timeout=60, interfaces=LOOPBACK))
    await asyncio.sleep(0.2)
    searching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await searching


def test_without_an_event_loop():
    room = new_room()
    with sync.Rig('camera', announce={'group': room}).open('udp://127.0.0.1:0') as rig:
        deadline = time.monotonic() + LONG
        while not (found := sync.discover(room, 1.0, LOOPBACK)):
            assert time.monotonic() < deadline
        assert [one.uri for one in found] == [rig.server_uri]
        with sync.Services.discover(['camera'], room, interfaces=LOOPBACK) as rigs:
            assert rigs['camera'].server_uri == rig.server_uri
            assert list(rigs.ping()) == ['camera']
