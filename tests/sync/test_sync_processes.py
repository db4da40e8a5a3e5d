"""Blocking use at the edges of a process: Ctrl-C, the end of the interpreter, forks. Each program is a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from systems import needs_fork

SUPPORT = Path(__file__).parents[1] / 'support'
PATIENCE = 30.0  # seconds; only a failure waits that long
on_each_loop = pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
posix = pytest.mark.skipif(sys.platform == 'win32', reason='signals and forks of POSIX')

BEGIN = """
import os, signal, socket, sys, threading, time
import internals
from echorig import *
from echorig import sync
from echorig.sync.portal import Portal, current_portal

def interrupt():
    # Press Ctrl-C, but only once the main thread waits for the end of a call.
    while True:
        frame = sys._current_frames()[threading.main_thread().ident]
        waits = frame.f_code is threading.Condition.wait.__code__
        while frame is not None and frame.f_code is not Portal.call.__code__:
            frame = frame.f_back
        if waits and frame is not None:
            return os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.001)

silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(('127.0.0.1', 0))
silent.settimeout(20)
rig = sync.EchoProtocol.server('127.0.0.1:0', 'rig')
answer = lambda data, addr, event: rig.submit.confirmed_send([event, *data], addr) and None
rig.assign_callback(ExpMessage.any(), answer)
main = sync.EchoProtocol.client(rig.server_uri, 'main')
mute = sync.EchoProtocol.client(f'127.0.0.1:{silent.getsockname()[1]}', 'mute')
rigs = sync.Services([main])
"""


def start(loop: str, code: str, *options: str, begin: str = BEGIN) -> subprocess.Popen[str]:
    path = [str(SUPPORT), *filter(None, [os.environ.get('PYTHONPATH')])]
    return subprocess.Popen(
        [sys.executable, '-u', '-X', 'faulthandler', *options, '-c', begin + textwrap.dedent(code)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'ECHORIG_LOOP': loop, 'PYTHONPATH': os.pathsep.join(path)},
    )


def run(loop: str, code: str, *options: str, begin: str = BEGIN) -> tuple[int, str, str]:
    """Run a program to its end; return its exit code and what it wrote."""
    with start(loop, code, *options, begin=begin) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    return process.returncode, out, err


# --- Ctrl-C ---


@posix
@on_each_loop
@pytest.mark.parametrize(
    'call',
    [
        "main.on_event('EXPEND')",
        "main.on_event('EXPEND', timeout=60)",
        'mute.confirmed_send([1, None], timeout=60)',
        "sync.Services([main, mute], timeout=None).await_all('EXPSTATUS')",
        'main.wait_closed()',
    ],
)
def test_ctrl_c_cancels_the_call_and_nothing_else(loop: str, call: str) -> None:
    code = f"""
        import asyncio

        heard = []
        main.assign_callback('EXPINFO', lambda data, addr: heard.append(data))
        for _ in range(5):
            thread = threading.Thread(target=interrupt)
            try:
                thread.start()
                {call}
            except KeyboardInterrupt:
                print('interrupted')
            thread.join()
        main.default_echo_timeout = 20
        print(rigs.info(20, 'x'), heard)
        portal = current_portal()
        names = [task.get_coro().__qualname__ for task in portal.run(lambda: asyncio.all_tasks(portal.loop))]
        print([name for name in names if 'run' not in name and 'work' not in name])
        print(internals.endless_calls(current_portal()))
        print(mute.awaiting_response())
    """
    expected = "{'main': [20, 'x']} [[20, 'x']]\n[]\nset()\nFalse\n"
    assert run(loop, code) == (0, 'interrupted\n' * 5 + expected, '')


@posix
@on_each_loop
def test_what_ctrl_c_interrupts_while_it_closes_is_closed_all_the_same(loop: str) -> None:
    """Here a callback keeps the background thread, so that nothing has begun when the wait for it is interrupted."""
    code = """
        def interrupted(function, *args):
            began, go_on = threading.Event(), threading.Event()
            current_portal().loop.call_soon_threadsafe(lambda: (began.set(), go_on.wait(20)))
            began.wait(20)
            thread = threading.Thread(target=interrupt)
            try:
                thread.start()
                function(*args)
                print('not interrupted')
            except KeyboardInterrupt:
                pass
            thread.join()
            go_on.set()

        def left():
            streams = internals.event_queue(main.asynchronous).streams
            return current_portal().run(lambda: (internals.n_watching(rigs.asynchronous), len(streams)))

        no_error = None, None, None
        watch, stream = rigs.watch(), main.events()
        interrupted(watch.__enter__)
        interrupted(stream.__enter__)
        print(left())
        watch, other, stream = rigs.watch(), rigs.watch(), main.events()
        for entered in watch, other, stream:
            entered.__enter__()
        print(left())
        interrupted(watch.__exit__, *no_error)
        interrupted(other.close)
        interrupted(stream.__exit__, *no_error)
        print(left())
        rigs.watch().__enter__()
        interrupted(rigs.close)
        interrupted(mute.close)
        interrupted(rig.__exit__, *no_error)
        print(left(), main.is_connected, mute.is_connected, rig.is_connected, len(internals.opened(current_portal())))
    """
    expected = '(0, 0)\n(2, 1)\n(0, 0)\n(0, 0) False False False 0\n'
    assert run(loop, code) == (0, expected, '')


@posix
@on_each_loop
def test_a_signal_handler_may_call(loop: str) -> None:
    """As one does that ends an experiment on SIGTERM, while the program waits for the rigs."""
    code = """
        def end(*_):
            print(rigs.stop(immediately=True))
            sys.exit(3)
        signal.signal(signal.SIGTERM, end)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        main.on_event('EXPEND')
    """
    assert run(loop, code) == (3, "{'main': [None]}\n", '')


@posix
@on_each_loop
def test_ctrl_c_that_nobody_catches(loop: str) -> None:
    """One traceback, that of the interruption, and the process is gone; a thread that waits does not keep it."""
    code = """
        threading.Thread(target=rig.on_event, args=('EXPEND',)).start()
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        main.on_event('EXPEND')
    """
    code_, out, err = run(loop, code)
    assert (code_, out) == (-signal.SIGINT, '')
    assert err.count('Traceback') == 1
    assert err.endswith('KeyboardInterrupt\n')


# --- leaving the interpreter ---

LEAVING = {
    'nobody waits': '',
    'open, with work under way': 'main.submit.on_event("EXPEND"); mute.submit.confirmed_send([1, None], timeout=60)',
    'a daemon thread waits without limit': """
        threading.Thread(target=main.on_event, args=('EXPEND',), daemon=True).start()
    """,
    'a daemon thread waits with a limit': """
        threading.Thread(target=mute.confirmed_send, args=([1, None], None, 60), daemon=True).start()
        silent.recv(100)
    """,
    'a thread waits without limit': """
        threading.Thread(target=main.on_event, args=('EXPEND',)).start()
    """,
    'a thread waits again and again': """
        def work():
            while True:
                try:
                    main.on_event('EXPEND')
                except Exception as ex:
                    print(ex)
        threading.Thread(target=work).start()
    """,
    'a thread waits for a future': """
        threading.Thread(target=lambda: main.submit.on_event('EXPEND').result()).start()
    """,
    'a thread of a pool waits': """
        from concurrent.futures import ThreadPoolExecutor
        ThreadPoolExecutor().submit(main.on_event, 'EXPEND')
    """,
    'a thread waits for rigs without limit': """
        rigs.timeout = None
        threading.Thread(target=rigs.await_all, args=('EXPEND',)).start()
    """,
    'a thread waits for an echo without limit': """
        threading.Thread(target=mute.confirmed_send, args=([1, None], None, float('inf'))).start()
        silent.recv(100)
    """,
    'threads wait for ever in other ways': """
        mute.default_echo_timeout = float('inf')
        stream = main.events('EXPEND')
        stream.__enter__()
        for function, args in [
            (mute.info, (0,)), (mute.submit.cleanup().result, ()), (main.on_event, ('EXPEND', float('inf'))),
            (stream.get, (float('inf'),)), (sync.Services([mute], float('inf')).await_all, ('EXPEND',)),
        ]:
            threading.Thread(target=function, args=args).start()
        silent.recv(100)
    """,
    'many daemon threads call': """
        def work():
            while True:
                main.start('ref')
        for _ in range(20):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.1)
    """,
    'a callback blocks': """
        began = threading.Event()
        def block(data, addr):
            began.set()
            time.sleep(60)
        rig.assign_callback('EXPEND', block)
        main.submit.stop()
        began.wait()
    """,
    'over TCP': """
        other = sync.EchoProtocol.server('tcp://127.0.0.1:0', 'other')
        com = sync.EchoProtocol.client(other.server_uri)
        threading.Thread(target=com.on_event, args=('EXPEND',)).start()
        com.start('ref')
    """,
    'sys.exit': 'silent.detach(); sys.exit(0)',
    'an atexit handler tells the rigs': """
        import atexit
        atexit.register(lambda: (rigs.stop(), rigs.close()))
    """,
}


@pytest.mark.slow
@on_each_loop
@pytest.mark.parametrize('case', LEAVING)
def test_leaving_the_interpreter(loop: str, case: str) -> None:
    """Whatever waits: the process ends, without a word, and leaves no socket and no loop open."""
    options = ('-W', 'always::ResourceWarning')
    if case == 'a callback blocks':  # its thread, and so its loop, ends with the process
        options = ()
    code = textwrap.dedent(LEAVING[case]) + '\nsilent.detach()'
    code_, out, err = run(loop, code, *options)
    assert (code_, out, err) == (0, '', '')


@on_each_loop
def test_threads_go_on_after_the_main_thread(loop: str) -> None:
    """Calls that have a limit are made and answered: a thread that is no daemon is the program now."""
    code = """
        def session():
            threading.main_thread().join()
            print(rigs.init(), rigs.start('ref'), rigs.stop())
            other = sync.EchoProtocol.client(rig.server_uri, 'other')
            other.start('ref')
            try:
                main.on_event('EXPEND', timeout=0.01)
            except EchoTimeoutError:
                print('timeout')
            try:
                mute.confirmed_send([1, None], timeout=0.01)
            except EchoTimeoutError:
                print('timeout')
        threading.Thread(target=session).start()
    """
    expected = "{'main': [None]} {'main': ['ref', None]} {'main': [None]}\ntimeout\ntimeout\n"
    assert run(loop, code) == (0, expected, '')


@on_each_loop
def test_first_use_after_the_main_thread(loop: str) -> None:
    """Where Python still starts threads then, a wait without limit ends here too; where not, it says so."""
    code = """
        import threading
        from echorig import sync
        def session():
            threading.main_thread().join()
            try:
                with sync.EchoProtocol.server('127.0.0.1:0', 'rig') as rig:
                    rig.on_event('EXPEND')
            except RuntimeError as ex:
                assert 'thread' in str(ex), ex
        threading.Thread(target=session).start()
    """
    assert run(loop, code, '-W', 'always::ResourceWarning', begin='') == (0, '', '')


@on_each_loop
def test_calls_at_the_very_end(loop: str) -> None:
    """What runs after everything is closed, a finalizer here, is told so; closing is not an error."""
    code = """
        import atexit, echorig
        class Last:
            def __del__(self):
                main.close()
                rigs.close()
                try:
                    main.start('ref')
                except ConnectionClosedError as ex:
                    os.write(1, str(ex).encode())
        sys.last = Last()
        sys.modules['kept'] = last = Last.__new__(Last)
        del sys.last
        def leave():
            del sys.modules['kept']
            globals().pop('last')
        current_portal().stop()
        leave()
        print(main.is_connected)
    """
    code_, out, err = run(loop, code)
    assert (code_, err) == (0, '')
    assert 'The interpreter is ending' in out
    assert out.endswith('False\n')


# --- forks ---

FORKED = """
        def expect(call):
            try:
                call()
            except ConnectionClosedError as ex:
                assert 'fork' in str(ex) and str(os.getppid()) in str(ex) and str(os.getpid()) in str(ex), ex
            else:
                raise AssertionError('no error')

        def in_child():
            for call in (lambda: main.start('ref'), lambda: rig.on_event('EXPEND'), lambda: rigs.init(),
                         lambda: main.submit.ping(), lambda: main.assign_callback('EXPEND', print),
                         lambda: main.peers, lambda: rigs.submit.start('ref'), lambda: sync.Services([main]).start('')):
                expect(call)
            assert not main.is_connected and not rigs.is_connected
            main.close(); rigs.close(); rig.close()
            with sync.EchoProtocol.server('127.0.0.1:0', 'new') as new:
                with sync.EchoProtocol.client(new.server_uri) as com:
                    waiting = new.submit.on_event('EXPSTART')
                    com.start('in child')
                    assert waiting.result(20)[0] == ['in child', None]
            with sync.EchoProtocol.client(rig.server_uri) as com:  # the parent's rig
                assert sync.Services([com]).start('across') == {com.name: ['across', None]}
            assert [thread.name for thread in threading.enumerate()].count('echorig.sync') == 1

        def check_parent():
            for _ in range(20):
                assert rigs.start('parent') == {'main': ['parent', None]}
            assert main.is_connected
            print('parent works')
"""


@needs_fork
@on_each_loop
@pytest.mark.parametrize('end', ['os._exit(0)', 'sys.exit(0)', 'del main, rig, rigs, mute; import gc; gc.collect()'])
def test_fork(loop: str, end: str) -> None:
    """What is inherited says so; what is new works; the parent notices nothing, however the child ends."""
    code = (
        FORKED
        + f"""
        waiting = main.submit.on_event('EXPSTATUS')
        rigs.start('before')
        for _ in range(3):
            pid = os.fork()
            if not pid:
                in_child()
                check_parent = lambda: None
                {end}
                break
            assert os.waitpid(pid, 0)[1] == 0
            check_parent()
        else:
            rigs['main'].status(10)
            assert waiting.result(20)[0] == [10]
            print('end')
    """
    )
    code_, out, err = run(loop, code, '-W', 'ignore::DeprecationWarning')
    assert (code_, out, err) == (0, 'parent works\n' * 3 + 'end\n', '')


@needs_fork
@on_each_loop
def test_multiprocessing_by_fork(loop: str) -> None:
    """The workers of a pool are forks; each talks to the rig of the parent with a communicator of its own."""
    code = (
        FORKED
        + """
        import multiprocessing
        def work(number):
            in_child()
            with sync.EchoProtocol.client(rig.server_uri, 'worker') as com:
                return sync.Services([com]).info(20, number)['worker'][1]
        context = multiprocessing.get_context('fork')
        with context.Pool(3) as pool:
            print(sorted(pool.map(work, range(6))))
        process = context.Process(target=in_child)
        process.start()
        process.join()
        print(process.exitcode)
        check_parent()
    """
    )
    code_, out, err = run(loop, code, '-W', 'ignore::DeprecationWarning')
    assert (code_, out, err) == (0, '[0, 1, 2, 3, 4, 5]\n0\nparent works\n', '')


@pytest.mark.slow
@needs_fork
@on_each_loop
def test_fork_while_threads_wait(loop: str) -> None:
    """The child has only the thread that forked; nothing that the others held keeps it."""
    code = (
        FORKED
        + """
        stop = threading.Event()
        def work():
            while not stop.is_set():
                main.start('busy')
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            pid = os.fork()
            if not pid:
                with sync.EchoProtocol.client(rig.server_uri) as com:
                    com.start('child')
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for thread in threads:
            thread.join()
        check_parent()
    """
    )
    code_, out, err = run(loop, code, '-W', 'ignore::DeprecationWarning')
    assert (code_, out, err) == (0, 'parent works\n', '')


def test_no_thread_before_it_is_needed() -> None:
    code = """
        import threading
        from echorig import sync
        print(threading.active_count())
    """
    done: Any = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert (done.stdout, done.stderr) == ('1\n', '')
