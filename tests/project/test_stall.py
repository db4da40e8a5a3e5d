"""Data received during a stall is read before a timer expires."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from math import inf

import pytest

import internals
from echorig import stall
from echorig.stall import StallMonitor, after_poll, call_later, wait, wait_for
from eventually import eventually

LONG = 0.8  # seconds that a loop is blocked; clearly longer than the shortest stall that a monitor detects


class Pipe:
    """Two connected sockets; the loop reads one of them."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for sock in (self.near, self.far):
            sock.setblocking(False)
        self.read: list[bytes] = []
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(self.far, self.on_readable)
        self.on_read = lambda: None

    def on_readable(self) -> None:
        self.read.append(self.far.recv(100))
        self.on_read()

    def put(self, data: bytes) -> None:
        self.near.send(data)

    def close(self) -> None:
        self.loop.remove_reader(self.far)
        self.near.close()
        self.far.close()


@pytest.fixture(params=['timer', 'soon', 'task', 'reader'])
def place(request):
    """Where in its iteration the loop is blocked."""
    return request.param


async def run_in(place: str, function) -> None:
    """Call a function in a timer, by call_soon(), in a task, or in a reader."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def work() -> None:
        function()
        over.set()

    if place == 'timer':
        loop.call_later(0.01, work)
    elif place == 'soon':
        loop.call_soon(work)
    elif place == 'reader':
        pipe = Pipe()
        pipe.on_read = work
        pipe.put(b'go')
        await over.wait()
        pipe.close()
        return
    else:
        await asyncio.sleep(0)
        work()
    await over.wait()


# --- after a look at the sockets ---


async def test_sockets_are_read_first(place):
    pipe, found = Pipe(), []

    def work() -> None:
        pipe.put(b'x')
        after_poll(pipe.loop, lambda: found.append(list(pipe.read)))

    await run_in(place, work)
    await eventually(lambda: found, 'found')
    assert found == [[b'x']]
    pipe.close()


async def test_sockets_are_read_within_two_iterations_of_a_timer():
    """A timer's call_soon() runs before the loop polls its sockets; a call_soon() of that callback runs after it."""
    pipe, found = Pipe(), []

    def work() -> None:
        pipe.put(b'x')
        pipe.loop.call_soon(look)

    def look() -> None:
        found.append(list(pipe.read))
        pipe.loop.call_soon(lambda: found.append(list(pipe.read)))

    await run_in('timer', work)
    await eventually(lambda: len(found) >= 2, 'len(found) >= 2')
    assert found == [[], [b'x']]
    pipe.close()


async def test_reading_continues_while_there_is_progress():
    pipe, found = Pipe(), []
    for waiting in range(100):  # as many as the socket takes, of which the loop reads one in a turn
        try:
            pipe.put(b'%d' % waiting)
        except BlockingIOError:
            break
    else:
        waiting = 100
    after_poll(pipe.loop, lambda: found.append(len(pipe.read)), lambda: len(pipe.read))
    await eventually(lambda: found, 'found')
    assert found == [waiting]
    pipe.close()


async def test_endless_progress_is_limited():
    loop, turns = asyncio.get_running_loop(), [0]
    over = loop.create_future()

    def more() -> int:
        turns[0] += 1
        return turns[0]

    after_poll(loop, lambda: over.set_result(None), more)
    await asyncio.wait_for(over, 30)
    assert 900 < turns[0] < 1100


@pytest.mark.parametrize('turns', range(15))
async def test_cancel_at_any_time(turns):
    loop, called = asyncio.get_running_loop(), []
    later = [call_later(loop, 0.0, lambda n=number: called.append(n)) for number in (1, 2)]
    for _ in range(turns):
        await asyncio.sleep(0)
    before = list(called)
    for handle in later:
        handle.cancel()
        handle.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert called == before
    assert called in ([], [1, 2])
    assert called or turns < 11


@pytest.mark.parametrize('first', ['sleep', 'cancel'])
@pytest.mark.parametrize('turns', range(12))
async def test_a_sleep_is_cancelled_in_any_turn(turns, first):
    """Also in the turn in which its time is over, when its task has not run yet."""
    loop = asyncio.get_running_loop()

    def count(left: int) -> None:
        if left:
            loop.call_soon(count, left - 1)
        else:
            task.cancel()

    if first == 'cancel':
        loop.call_soon(count, turns + 1)
    task = loop.create_task(stall.sleep(0.0))
    if first == 'sleep':
        loop.call_soon(count, turns)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)


async def test_a_callback_is_not_referenced_afterwards():
    loop = asyncio.get_running_loop()

    class Owner:
        def expire(self) -> None:
            pass

    for cancelled in (True, False):
        owner = Owner()
        later = call_later(loop, 60.0 if cancelled else 0.001, owner.expire)
        if cancelled:
            later.cancel()
        else:
            await asyncio.sleep(0.1)
        known = weakref.ref(owner)
        del owner
        gc.collect()
        assert known() is None


@pytest.mark.blocks
async def test_a_late_timer_reads_first(place):
    pipe, found = Pipe(), []
    call_later(pipe.loop, 0.1, lambda: found.append(list(pipe.read)))

    def block() -> None:
        pipe.put(b'echo')
        time.sleep(0.3)

    await run_in(place, block)
    await eventually(lambda: found, 'found')
    assert found == [[b'echo']]
    pipe.close()


async def test_a_timer_is_not_early_and_may_be_infinite(monkeypatch):
    loop, called = asyncio.get_running_loop(), []
    never = [call_later(loop, inf, lambda: called.append(inf)), call_later(loop, 1e12, lambda: called.append(1e12))]
    monkeypatch.setattr(stall, '_LONGEST_SLEEP', 0.02)
    begun = time.monotonic()
    call_later(loop, 0.09, lambda: called.append(time.monotonic() - begun))
    await eventually(lambda: called, 'called')
    assert called[0] >= 0.085  # uvloop counts milliseconds
    for handle in never:
        handle.cancel()


# --- waiting ---


async def test_wait_and_wait_for():
    async def work(delay: float, result: object) -> object:
        await asyncio.sleep(delay)
        if isinstance(result, Exception):
            raise result
        return result

    assert await wait_for(work(0.0, 1), None) == 1
    assert await wait_for(work(0.01, 2), 10.0) == 2
    with pytest.raises(LookupError):
        await wait_for(work(0.0, LookupError()), 10.0)
    with pytest.raises(asyncio.TimeoutError):
        await wait_for(work(60.0, 3), 0.02)
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    with pytest.raises(asyncio.TimeoutError):
        await wait_for(future, 0.0)
    assert future.cancelled()
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    done.set_result(4)
    assert await wait_for(done, 0.0) == 4
    await wait([], 10.0)
    tasks = [asyncio.ensure_future(work(delay, delay)) for delay in (0.0, 0.01, 60.0)]
    await wait(tasks[:2], None)
    await wait(tasks, 0.02)
    assert [task.done() for task in tasks] == [True, True, False]
    tasks[2].cancel()


async def test_result_of_a_task_that_ignores_cancellation():
    async def stubborn(result: object) -> object:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if isinstance(result, Exception):
                raise result from None
        return result

    assert await wait_for(stubborn(5), 0.01) == 5
    with pytest.raises(LookupError):
        await wait_for(stubborn(LookupError()), 0.01)


@pytest.mark.parametrize('turns', range(6))
@pytest.mark.parametrize('limit', [None, 10.0])
async def test_a_cancellation_is_never_lost(turns, limit):
    """Not even if the result is set in the same iteration; and the inner task is done."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    inner: list[asyncio.Task] = []

    async def work() -> object:
        inner.append(asyncio.current_task())
        return await future

    task = asyncio.ensure_future(wait_for(work(), limit))
    await asyncio.sleep(0.01)
    future.set_result(1)
    for _ in range(turns):
        await asyncio.sleep(0)
    late = not task.cancel()
    try:
        assert await task == 1
        assert late
    except asyncio.CancelledError:
        assert not late
    assert inner[0].done()


@pytest.mark.blocks
async def test_data_of_a_stall_reaches_its_reader_through_tasks(place):
    pipe = Pipe()
    came = pipe.loop.create_future()
    pipe.on_read = lambda: came.set_result(pipe.read[-1])

    async def chain(depth: int) -> bytes:
        if not depth:
            return await came
        return await asyncio.ensure_future(chain(depth - 1))

    waiting = asyncio.ensure_future(wait_for(chain(3), 0.1))

    def block() -> None:
        pipe.put(b'echo')
        time.sleep(0.3)

    await asyncio.sleep(0.01)
    await run_in(place, block)
    assert await waiting == b'echo'
    pipe.close()


# --- for how long a loop stood still ---


async def test_no_stall_while_the_loop_runs():
    loop = asyncio.get_running_loop()
    monitor = StallMonitor.of(loop)
    assert monitor.stall_time() == 0.0
    monitor.subscribe()
    monitor.subscribe()
    assert monitor.stall_time() == 0.0
    assert StallMonitor.of(loop) is monitor
    longest, until = 0.0, loop.time() + 1.0
    while loop.time() < until:
        before = time.monotonic()
        await asyncio.sleep(0.01)
        if time.monotonic() - before < 0.2:  # or this machine did stand still
            longest = max(longest, monitor.stall_time())
    assert longest == 0.0
    monitor.unsubscribe()
    assert internals.monitor_timer(monitor) is not None
    monitor.unsubscribe()
    assert internals.monitor_timer(monitor) is None
    assert monitor.stall_time() == 0.0


@pytest.mark.slow
@pytest.mark.blocks
@pytest.mark.parametrize('offset', [0.0, 0.2])
async def test_stall_time_after_a_stall(place, offset):
    """For each place where the loop may be blocked, and at different times before the next tick."""
    pipe = Pipe()
    monitor = StallMonitor.of(pipe.loop)
    monitor.subscribe()
    told: list[float] = []
    pipe.on_read = lambda: told.append(monitor.stall_time())
    begun = time.monotonic()
    await asyncio.sleep(0.3 + offset)

    def block() -> None:
        pipe.put(b'old')
        time.sleep(LONG)

    await run_in(place, block)
    await eventually(lambda: told, 'told')
    assert LONG * 0.9 <= told[0] < time.monotonic() - begun
    await until_it_runs(monitor)
    while told[-1]:  # more than once if this machine stands still again
        assert time.monotonic() - begun < 30
        pipe.put(b'new')
        await asyncio.sleep(0.01)
    monitor.unsubscribe()
    pipe.close()


async def until_it_runs(monitor: StallMonitor) -> None:
    """Wait until the stall time is 0.0 again."""
    until = time.monotonic() + 30
    while monitor.stall_time():
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


@pytest.mark.blocks
@pytest.mark.parametrize('tick_first', [True, False])
async def test_a_timer_that_blocks_just_before_or_after_the_tick(tick_first):
    pipe = Pipe()
    monitor = StallMonitor.of(pipe.loop)
    told: list[float] = []
    pipe.on_read = lambda: told.append(monitor.stall_time())

    def block() -> None:
        pipe.put(b'old')
        time.sleep(LONG)

    if tick_first:
        monitor.subscribe()
        pipe.loop.call_later(internals.STALL_TICK, block)
    else:
        pipe.loop.call_later(internals.STALL_TICK, block)
        monitor.subscribe()
    time.sleep(internals.STALL_TICK + 0.01)  # so that both are due in the same turn
    await eventually(lambda: told, 'told')
    assert told[0] >= LONG * 0.9
    await until_it_runs(monitor)
    monitor.unsubscribe()
    pipe.close()


@pytest.mark.blocks
async def test_all_data_of_a_stall_has_a_stall_time():
    pipe = Pipe()
    monitor = StallMonitor.of(pipe.loop)
    progress = lambda: len(pipe.read)  # noqa: E731
    monitor.subscribe(progress)
    told: list[float] = []
    pipe.on_read = lambda: told.append(monitor.stall_time())
    put = 0
    try:
        for put in range(50):
            pipe.put(b'%d' % put)
        put = 50
    except BlockingIOError:
        pass
    time.sleep(LONG)
    await eventually(lambda: len(told) >= put, 'len(told) >= put')
    assert min(told) >= LONG * 0.9
    await until_it_runs(monitor)
    monitor.unsubscribe(progress)
    pipe.close()


@pytest.mark.blocks
async def test_one_stall_after_another():
    monitor = StallMonitor.of(asyncio.get_running_loop())
    monitor.subscribe()
    for _ in range(3):
        time.sleep(0.6)
        assert monitor.stall_time() >= 0.6
        await asyncio.sleep(0)
    await until_it_runs(monitor)
    monitor.unsubscribe()


@pytest.mark.parametrize('make', [asyncio.SelectorEventLoop, None])
def test_a_monitor_does_not_keep_its_loop(make):
    if make is None:
        uvloop = pytest.importorskip('uvloop')
        make = uvloop.new_event_loop
    loop = make()
    monitor = StallMonitor.of(loop)
    monitor.subscribe()
    loop.close()
    known = weakref.ref(loop)
    assert StallMonitor.of(loop) is monitor
    del loop, monitor
    gc.collect()
    assert known() is None


STOPPED = """
import asyncio, socket, sys, time
from echorig.stall import StallMonitor, call_later
kind, path = sys.argv[1:]
if kind == 'uvloop':
    import uvloop
    make = uvloop.new_event_loop
else:
    make = asyncio.SelectorEventLoop

async def main():
    loop = asyncio.get_running_loop()
    monitor = StallMonitor.of(loop)
    monitor.subscribe()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(path)
    sock.setblocking(False)
    read = []
    loop.add_reader(sock, lambda: read.append((sock.recv(100), monitor.stall_time())))
    over = loop.create_future()
    call_later(loop, 1.0, lambda: over.set_result(None))
    print('ready', flush=True)
    await over
    print(read, flush=True)

loop = make()
loop.run_until_complete(main())
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, 'SIGSTOP'), reason='processes cannot be stopped')
@pytest.mark.parametrize('kind', ['asyncio', 'uvloop'])
def test_a_stopped_process(kind, tmp_path):
    """Its poll returns without events, long after its timer was due."""
    if kind == 'uvloop':
        pytest.importorskip('uvloop')
    path = str(tmp_path / 'socket')
    process = subprocess.Popen([sys.executable, '-c', STOPPED, kind, path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == 'ready\n'
        time.sleep(0.3)  # it polls
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b'echo', path)
        time.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        [(data, still)] = eval(process.stdout.readline())
        assert data == b'echo'
        assert still >= 1.4
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
