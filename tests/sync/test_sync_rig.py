"""`sync.Rig` and `sync.Services.experiment`: the same in programs without an event loop."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from echorig import ExpStatus, RemoteCallbackError, RigLostError, ServicesError, sync
from lab import REF


def recorder(name: str, calls: list[Any]) -> sync.Rig:
    rig = sync.Rig(name)
    rig.on('EXPINIT')(lambda: calls.append('init'))

    @rig.on('EXPSTART')
    def start(exp_ref: str, data: Any) -> str:
        calls.append('start')
        if data == 'fail':
            raise RuntimeError('no light')
        rig.progress(1.0, 'recording')
        return exp_ref

    rig.on('EXPEND')(lambda: calls.append('stop'))
    rig.on('EXPCLEANUP')(lambda: calls.append('clean'))
    return rig


def run_until_closed(rig: sync.Rig, rigs: sync.Services) -> None:
    """Run an experiment whose rig is closed by another thread."""
    closing = threading.Thread(target=rig.close)
    with rigs.experiment(REF) as session:
        closing.start()
        session.sleep(60)


def test_a_session(transport: str) -> None:
    calls: list[Any] = []
    with recorder('camera', calls).open(f'{transport}://127.0.0.1:0') as rig:
        uris = {'camera': rig.server_uri}
        with sync.Services.connect(uris, wait=True, timeout=30.0) as rigs:
            rigs.wait_online(timeout=30.0)
            with rigs.experiment(REF, interrupt_timeout=2.0) as session:
                assert session.answers == {'camera': [REF, REF]}
                assert (rig.status, rig.exp_ref) == (ExpStatus.RUNNING, REF)
                session.sleep(0.01)
                session.check()
            assert calls == ['init', 'start', 'stop', 'clean']
            assert rig.status == ExpStatus.CONNECTED
            with pytest.raises(ServicesError, match='RuntimeError: no light'), rigs.experiment(REF, 'fail'):
                raise AssertionError('the block must not run')
            assert calls[4:] == ['init', 'start', 'stop', 'clean']
            with pytest.raises(ZeroDivisionError), rigs.experiment(REF):
                raise ZeroDivisionError
            assert calls[8:] == ['init', 'start', 'stop', 'clean']
            with pytest.raises(KeyboardInterrupt), rigs.experiment(REF):
                raise KeyboardInterrupt
            assert calls[12:] == ['init', 'start', 'stop', 'clean']
            with pytest.raises(RigLostError, match='camera'):
                run_until_closed(rig, rigs)
    assert rig.server_uri is None


def test_call() -> None:
    with recorder('camera', []).open('udp://127.0.0.1:0') as rig:
        assert repr(rig) == f'<Rig camera {rig.server_uri} CONNECTED>'
        with sync.EchoProtocol.client(rig.server_uri, 'camera') as camera:
            assert camera.call('EXPSTART', REF, timeout=30.0) == [REF, REF]
            assert camera.submit.call('EXPEND', timeout=30.0).result(30) == [None]
            with pytest.raises(RemoteCallbackError, match='no light'):
                camera.call('EXPSTART', REF, 'fail')


def test_a_rig_is_served_until_it_is_closed() -> None:
    rig = sync.Rig('camera')
    serving = threading.Thread(target=rig.serve, args=('udp://127.0.0.1:0',))
    serving.start()
    while rig.server_uri is None and serving.is_alive():
        serving.join(0.01)
    with sync.EchoProtocol.client(rig.server_uri, 'camera') as camera:
        assert camera.call('EXPINIT', timeout=30.0) == [None]
    rig.close()
    serving.join(30)
    assert not serving.is_alive()
