"""Blocking sets of rigs, opened by name and address from a mapping or from iblrig's file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from test_sync import PATIENCE

import internals
from echorig import EchoTimeoutError, ServicesError, sync
from echorig.sync.portal import current_portal
from echorig.testing import FakeRig
from lab import REF, free_port


@pytest.mark.parametrize('source', ['mapping', 'path', 'text'])
def test_connect(tmp_path: Path, source: str) -> None:
    with FakeRig() as camera, FakeRig('tcp://127.0.0.1:0') as ephys:
        uris = {'camera': camera.uri, 'ephys': ephys.uri}
        path = tmp_path / 'remote_devices.yaml'
        path.write_text(''.join(f'{name}: {uri}\n' for name, uri in uris.items()), 'utf-8')
        with sync.Services.connect({'mapping': uris, 'path': path, 'text': str(path)}[source]) as rigs:  # type: ignore[arg-type]
            assert rigs.start(REF) == {'camera': [REF, None], 'ephys': [REF, None]}
            assert rigs.timeout == 10.0
            assert all(type(rig) is sync.EchoProtocol for rig in rigs.values())
            assert rigs.is_connected
        assert not rigs.is_connected


def test_one_that_is_not_there_is_named_and_the_others_are_closed() -> None:
    absent = f'tcp://127.0.0.1:{free_port()}'
    before = len(internals.opened(current_portal()))
    with FakeRig('tcp://127.0.0.1:0') as rig:
        with pytest.raises(ServicesError, match='ghost'):
            sync.Services.connect({'rig': rig.uri, 'ghost': absent}, timeout=5.0)
        assert len(internals.opened(current_portal())) == before + 1  # that of the rig
        assert current_portal().run(lambda: len(asyncio.all_tasks(current_portal().loop))) < 5
    with pytest.raises((OSError, ValueError)):
        sync.Services.connect('/nowhere/remote_devices.yaml')


def test_ping_and_watch() -> None:
    """Who is there, and who comes and goes: in a mapping, in a stream, and told to a callback."""
    told: Queue[Any] = Queue()
    with FakeRig() as camera, FakeRig() as ephys:
        with sync.Services.connect({'camera': camera.uri, 'ephys': ephys.uri}) as rigs:
            assert rigs.start(REF).keys() == {'camera', 'ephys'}
            assert all(0 < seconds < PATIENCE for seconds in rigs.ping(timeout=PATIENCE).values())
            presence = rigs.watch(interval=0.02, timeout=0.5)
            with presence.events() as stream, presence:  # in this order, or the first change may come too early
                assert list(presence) == ['camera', 'ephys']
                presence.assign_callback(told.put)
                presence.assign_callback(print)
                assert presence.clear_callbacks(print) == 1

                def until(name: str, state: str) -> Any:
                    return next(change for change in stream if (change.name, change.state) == (name, state))

                until('ephys', 'online')
                ephys.power_off()
                change = until('ephys', 'offline')
                assert change.presence.error is not None
                assert presence['ephys'].state == 'offline'
                assert isinstance(rigs.submit.ping(timeout=0.2).result(PATIENCE)['ephys'], EchoTimeoutError)
                ephys.power_on()
                change = until('ephys', 'online')
                assert change in [told.get(timeout=PATIENCE) for _ in range(told.qsize())]
                rigs.close()
                assert len(list(stream)) < PATIENCE  # the watch ends with the set, and so does the stream
