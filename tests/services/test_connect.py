"""Opening a set of rigs, from a mapping or from a file."""

from __future__ import annotations

import asyncio
import sys
from unittest import mock

import pytest

import internals
from echorig import (
    EchoTimeoutError,
    PeerUnreachableError,
    Services,
    ServicesError,
    ServicesTimeoutError,
    Tuning,
)
from echorig.services.rigs_file import read_rigs
from eventually import eventually
from lab import REF, free_port


async def test_connect_to_all(lab, transport):
    servers = [await lab.answering(transport, f'rig{i}') for i in range(3)]
    uris = {f'r{i}': server.server_uri for i, server in enumerate(servers)}
    async with await Services.connect(uris, timeout=5.0, tuning=Tuning(tags=False), reconnect=False) as rigs:
        assert list(rigs) == ['r0', 'r1', 'r2']
        assert rigs.timeout == 5.0
        assert all(rig.tuning.tags is False and internals.reconnector(rig) is None for rig in rigs.values())
        assert list(await rigs.start(REF)) == ['r0', 'r1', 'r2']
        for seconds in (await rigs.ping()).values():
            assert 0 < seconds < 1.0
    assert not any(rig.is_connected for rig in rigs.values())
    with pytest.raises(ValueError, match='names no rigs'):
        await Services.connect({})


async def test_all_that_fail_are_named_and_the_others_closed(lab):
    good = await lab.server('tcp')
    refused = f'tcp://127.0.0.1:{free_port()}'
    left = asyncio.Event()
    good.assign_connection_callback(lambda change: left.set() if change.state == 'lost' else None)
    uris = {'good': good.server_uri, 'off': refused, 'odd': 'http://127.0.0.1', 'also good': good.server_uri}
    with pytest.raises(ServicesError, match='2 of 4 rigs failed') as caught:
        await Services.connect(uris)
    assert {name: type(error) for name, error in caught.value.failures.items()} == {
        'off': PeerUnreachableError,
        'odd': ValueError,
    }
    assert caught.value.responses == {'good': good.server_uri, 'also good': good.server_uri}
    assert refused in str(caught.value)
    await asyncio.wait_for(left.wait(), 5)
    await eventually(lambda: not internals.connections(good), 'not internals.connections(good)')


@pytest.mark.slow
@pytest.mark.blocks  # the certificates of the system are loaded from files
@pytest.mark.parametrize('cancelled', [False, True])
async def test_a_rig_that_does_not_accept(lab, cancelled):
    """Neither a rig that never answers nor giving up leaves a connection behind."""
    accepted = asyncio.Queue()

    async def mute(reader, writer):
        accepted.put_nowait(writer)
        await reader.read()
        assert await reader.read() == b''
        writer.close()
        accepted.put_nowait(None)

    raw = await asyncio.start_server(mute, '127.0.0.1', 0)
    good = await lab.server('tcp')
    uris = {'mute': f'wss://127.0.0.1:{raw.sockets[0].getsockname()[1]}', 'good': good.server_uri}
    if cancelled:
        connecting = asyncio.ensure_future(Services.connect(uris))
        await accepted.get()
        await eventually(lambda: internals.connections(good), 'internals.connections(good)')
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
    else:
        with pytest.raises(ServicesTimeoutError, match=r'mute .* within 2\.0 s') as caught:
            await Services.connect(uris, timeout=2.0)  # the certificates are read within it
        assert type(caught.value.failures['mute']) is EchoTimeoutError
        await accepted.get()
    assert await asyncio.wait_for(accepted.get(), 5) is None
    await eventually(lambda: not internals.connections(good), 'not internals.connections(good)')
    raw.close()
    await raw.wait_closed()


async def test_from_a_file_of_iblrig(lab, tmp_path):
    servers = [await lab.answering(name=f'rig{i}') for i in range(2)]
    path = tmp_path / 'remote_devices.yaml'
    text = f'# rigs\ncameras: {servers[0].server_uri}\n"neuropixel": "{servers[1].server_uri}"\n'
    await asyncio.to_thread(path.write_text, text, 'utf-8')
    for source in (path, str(path)):
        async with await Services.connect(source) as rigs:
            assert {name: rig.server_uri for name, rig in rigs.items()} == {
                'cameras': servers[0].server_uri,
                'neuropixel': servers[1].server_uri,
            }
            assert list(await rigs.init()) == ['cameras', 'neuropixel']
    with pytest.raises(FileNotFoundError):
        await Services.connect(tmp_path / 'nothing.yaml')


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('- a\n- b', 'is a list'),
        ('a: [1]', "'a'"),
        ('1: x', '1: '),
        ('a:', 'None'),
        ('a: [', 'no YAML'),
        ('word', 'str'),
    ],
)
def test_files_that_name_no_rigs(tmp_path, text, said):
    path = tmp_path / 'rigs.yaml'
    path.write_text(text)
    with pytest.raises(ValueError, match=r'rigs\.yaml') as caught:
        read_rigs(path)
    assert said in str(caught.value)


def test_files_of_few_words(tmp_path):
    path = tmp_path / 'rigs.yaml'
    path.write_text('')
    with pytest.raises(ValueError, match='names no rigs'):
        read_rigs(path)
    path.write_text('camera: udp://a\nephys: udp://b\ncamera: udp://c\n')
    with pytest.raises(ValueError, match=r"'camera' twice \(line 3\)"):
        read_rigs(path)
    with mock.patch.dict(sys.modules, yaml=None), pytest.raises(ImportError, match=r'echorig\[yaml\]'):
        read_rigs(path)
    path.write_bytes(b'a: \xff')
    with pytest.raises(ValueError, match='no YAML'):
        read_rigs(path)
