"""Tests of `lab_program` without hardware, with the fixtures of echorig."""

import pytest
from lab_program import run_session

from echorig import ServicesError, sync

REF = '2026-01-31_1_mouse7'


def test_a_session(echorig_session):
    services, rigs = echorig_session(3)
    assert run_session(services, REF) == ['rig0', 'rig1', 'rig2']
    assert [message.event.name for message in rigs['rig1'].received] == ['EXPINIT', 'EXPSTART', 'EXPEND']


def test_a_camera_that_fails_interrupts_the_others(echorig_session):
    services, rigs = echorig_session(2)
    rigs['rig1'].script('EXPSTART', notice='OSError: no disk left')
    with pytest.raises(ServicesError, match='rig1: .*no disk left'):
        run_session(services, REF)
    assert rigs['rig0'].wait_for('EXPINTERRUPT').data == [None]


def test_a_bad_network(fake_rig, lossy_link):
    link = lossy_link(fake_rig.uri, loss=0.2, seed=7)
    with sync.EchoProtocol.client(link.uri, 'camera') as camera:
        for number in range(50):
            camera.confirmed_send([64, 20, number], timeout=10)
    assert [message.data[1] for message in fake_rig.received] == list(range(50))  # each once, in order


async def test_in_an_async_test(fake_rigs):
    from echorig import Services

    rigs = {rig.name: rig.uri for rig in fake_rigs(2, kind='iblutil')}
    async with await Services.connect(rigs) as services:
        assert list(await services.init()) == ['rig0', 'rig1']


def test_latency(fake_rig, echo_latency):
    """With --benchmark-save and --benchmark-compare: has our rig become slower?"""
    assert not echo_latency(fake_rig.uri, rounds=20) > 1.0
