"""A program that blocks its event loop is warned, and told where."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import threading
import time

import pytest

from eventually import eventually

NAME = 'echorig blocked loop'


def threads() -> int:
    return sum(thread.name == NAME for thread in threading.enumerate())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if 'blocked its event loop' in record.getMessage()]


def grab_frames(seconds: float) -> None:
    time.sleep(seconds)


@pytest.mark.blocks
async def test_the_place_and_the_time_are_named(lab, transport, caplog):
    server, client = await lab.pair(transport, name='camera')
    server.assign_callback('EXPSTART', lambda data, addr: grab_frames(1.5))
    await client.ping()
    await eventually(lambda: threads() == 1, 'the watch has started')
    await client.confirmed_send([2, 'ref'], timeout=10)
    [text] = await eventually(lambda: warnings(caplog), 'the warning')
    assert text.startswith(f'camera ({server.server_uri}) was blocked for 1.')
    assert 'in grab_frames' in text
    assert 'time.sleep(seconds)' in text
    assert caplog.records[-1].levelno <= logging.WARNING


@pytest.mark.blocks
async def test_short_blocks_and_idle_loops_are_not_reported(lab, caplog):
    server, client = await lab.pair()
    await client.ping()
    await eventually(lambda: threads() == 1, 'the watch has started')
    for _ in range(5):
        time.sleep(0.05)
        await asyncio.sleep(0.3)
    assert not warnings(caplog)
    assert server.is_connected


async def test_the_thread_starts_with_the_first_peer_and_ends_with_the_last_server(lab):
    first, second = await lab.server(), await lab.server()
    await asyncio.sleep(0.6)
    assert threads() == 0
    client = await lab.client(first)
    await client.ping()
    await eventually(lambda: threads() == 1, 'there is one thread for two servers')
    first.close()
    second.close()
    await eventually(lambda: threads() == 0, 'the thread has ended')


def test_it_does_not_keep_the_interpreter_alive():
    code = """
import asyncio, echorig, threading

async def main():
    server = await echorig.EchoProtocol.server('127.0.0.1:0')
    client = await echorig.EchoProtocol.client(server.server_uri)
    await client.ping()
    while threading.active_count() == 1:
        await asyncio.sleep(0.05)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, '')


@pytest.mark.skipif(sys.platform == 'win32', reason='POSIX signals')
def test_a_process_that_was_stopped_is_not_reported():
    code = """
import asyncio, echorig, logging, sys, threading

async def main():
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
    server = await echorig.EchoProtocol.server('127.0.0.1:0')
    client = await echorig.EchoProtocol.client(server.server_uri)
    await client.ping()
    while threading.active_count() == 1:
        await asyncio.sleep(0.05)
    print('ready', flush=True)
    for _ in range(40):
        await asyncio.sleep(0.05)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == 'ready\n'
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=60)
    assert 'blocked' not in out
