"""How lab programs and their tests use iblutil: unmodified programs, run by ``python -m echorig.compat``.

The programs are written for these tests; their patterns are those of iblrig's camera, ephys and task programs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HEAD = """
    import asyncio, threading, time, unittest
    from unittest import mock
    from unittest.mock import ANY, AsyncMock, Mock, patch

    from iblutil.io import net

    REF = '2022-01-01_1_subject'
    PATIENCE = 30.0

    def free_port():
        import socket
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(('127.0.0.1', 0))
            return sock.getsockname()[1]
"""


@pytest.fixture
def run_tests(tmp_path: Path):
    """Run the tests of a program, which must not know that it runs on echorig."""

    def run(text: str) -> None:
        assert 'echorig' not in text
        (tmp_path / 'test_program.py').write_text(textwrap.dedent(HEAD) + textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, '-m', 'echorig.compat', '-m', 'unittest', '-v', 'test_program'],
            cwd=tmp_path,
            env={**os.environ, 'PYTHONWARNINGS': 'default'},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        assert done.stderr.count('iblutil.io.net is echorig') == 1
        assert 'never awaited' not in done.stderr
        assert 'ok\n' in done.stderr

    return run


def test_a_camera_program(run_tests):
    """It waits for messages and for its camera at once, and finds out by ``task.cancelled()`` that it was closed."""
    run_tests("""
        class Camera:
            def __init__(self):
                self.status, self.done, self.log = net.base.ExpStatus.CONNECTED, asyncio.Event(), []

            async def run(self, uri):
                self.communicator = await net.app.EchoProtocol.server(uri, name='cameras')
                tasks = set()
                while True:
                    if not any(task.get_name() == 'remote' for task in tasks):
                        wait = self.communicator.on_event(net.base.ExpMessage.any())
                        tasks.add(asyncio.create_task(wait, name='remote'))
                    if not any(task.get_name() == 'camera' for task in tasks):
                        tasks.add(asyncio.create_task(self.done.wait(), name='camera'))
                    finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    for task in finished:
                        tasks.remove(task)
                        match task.get_name():
                            case 'camera':
                                self.communicator.close()
                                self.done.clear()
                            case 'remote' if task.cancelled():
                                self.log.append('cancelled')
                                for task in tasks:
                                    task.cancel()
                                return
                            case 'remote':
                                assert net.base.is_success(task)
                                await self.on_message(*task.result())

            async def on_message(self, data, addr, event):
                self.log.append(event.name)
                S = net.base.ExpStatus
                match event:
                    case net.base.ExpMessage.EXPINIT:
                        self.status = S.INITIALIZED
                        await self.communicator.init(data[0], addr=addr)
                    case net.base.ExpMessage.EXPSTART:
                        match self.status:
                            case S.INITIALIZED:
                                self.status = S.RUNNING
                        await self.communicator.start(data[0], addr=addr)
                    case net.base.ExpMessage.EXPSTATUS:
                        await self.communicator.status(self.status, addr=addr)
                    case net.base.ExpMessage.EXPEND | net.base.ExpMessage.EXPINTERRUPT:
                        self.status = S.STOPPED
                        now = event is net.base.ExpMessage.EXPINTERRUPT
                        await self.communicator.stop(addr=addr, immediately=now)

        class Test(unittest.IsolatedAsyncioTestCase):
            async def test_session(self):
                camera, uri = Camera(), f'udp://127.0.0.1:{free_port()}'
                running = asyncio.create_task(camera.run(uri))
                while not hasattr(camera, 'communicator'):
                    await asyncio.sleep(0.01)
                rigs = net.app.Services([await net.app.EchoProtocol.client(uri, 'cameras')], timeout=PATIENCE)
                self.assertEqual({'cameras': [{'exp_ref': REF}]}, await rigs.init({'exp_ref': REF}))
                await rigs.start(REF)
                self.assertEqual({'cameras': [20]}, await rigs.status(net.base.ExpStatus.RUNNING))
                await rigs.stop(immediately=True)
                camera.done.set()
                await asyncio.wait_for(running, PATIENCE)
                self.assertEqual(['EXPINIT', 'EXPSTART', 'EXPSTATUS', 'EXPINTERRUPT', 'cancelled'], camera.log)
                rigs.close()
    """)


def test_a_task_program(run_tests):
    """The main thread runs the task; another one has the event loop, and reads a queue of messages to send."""
    run_tests("""
        class Remote:
            def __init__(self, clients):
                self.clients, self.queue, self.answers, self.stopped = clients, [], {}, threading.Event()
                self.changed, self.services = threading.Condition(), None
                self.thread = threading.Thread(target=asyncio.run, args=(self.listen(),))
                self.thread.start()

            async def listen(self):
                rigs = [await net.app.EchoProtocol.client(uri, name) for name, uri in self.clients.items()]
                self.services = net.app.Services(rigs, timeout=PATIENCE)
                self.services.assign_callback('EXPSTART', lambda data, addr: None)
                while not self.stopped.is_set():
                    while self.queue:
                        message, args = self.queue.pop(0)
                        try:
                            match message:
                                case net.base.ExpMessage.EXPSTART:
                                    answers = await self.services.start(*args)
                                case net.base.ExpMessage.EXPINFO:
                                    answers = await self.services._signal(message, 'confirmed_send', [message, *args])
                                case _:
                                    answers = NotImplementedError(message)
                        except asyncio.TimeoutError as ex:
                            answers = ex
                        with self.changed:
                            self.answers[message] = answers
                            self.changed.notify()
                    await asyncio.sleep(0.01)
                self.services.close()

            def push(self, message, *args):
                message = net.base.ExpMessage.validate(message, allow_bitwise=False)
                with self.changed:
                    self.queue.append((message, args))
                    assert self.changed.wait_for(lambda: message in self.answers, timeout=PATIENCE)
                return self.answers.pop(message)

        class Test(unittest.TestCase):
            def test_session(self):
                uri, ended = f'udp://127.0.0.1:{free_port()}', threading.Event()

                async def rig():
                    com = await net.app.EchoProtocol.server(uri, 'rig')
                    tasks = set()

                    def answer(data, addr, event):
                        tasks.add(asyncio.ensure_future(com.confirmed_send([event, *data], addr)))

                    com.assign_callback(net.base.ExpMessage.any(), answer)
                    while not ended.is_set():
                        await asyncio.sleep(0.01)
                    com.close()

                thread = threading.Thread(target=asyncio.run, args=(rig(),))
                thread.start()
                remote = Remote({'rig': uri})
                while remote.services is None:
                    time.sleep(0.01)
                self.assertEqual({'rig': [REF, None]}, remote.push('EXPSTART', REF))
                self.assertEqual({'rig': [20, {'a': 1}]}, remote.push(net.base.ExpMessage.EXPINFO, 20, {'a': 1}))
                self.assertIsInstance(remote.push('EXPEND'), NotImplementedError)
                self.assertRaises(ValueError, remote.push, 'EXPBAR')
                for event, thread in ((remote.stopped, remote.thread), (ended, thread)):
                    event.set()
                    thread.join(PATIENCE)
                    self.assertFalse(thread.is_alive())
    """)


def test_a_test_suite(run_tests):
    """Tests without any network: everything of iblutil is replaced by its full name, or made after its classes."""
    run_tests("""
        async def open_rigs(uris):
            return net.app.Services([await net.app.EchoProtocol.client(uri, name) for name, uri in uris.items()])

        async def serve(uri, name) -> 'net.app.EchoProtocol':
            return await net.app.EchoProtocol.server(net.base.validate_uri(uri or net.base.hostname2ip()), name=name)

        class Test(unittest.IsolatedAsyncioTestCase):
            @patch('iblutil.io.net.app.EchoProtocol.client')
            @patch('iblutil.io.net.app.Services', spec=net.app.Services)
            async def test_client(self, services, client):
                await open_rigs({'a': 'udp://10.0.0.1', 'b': 'udp://10.0.0.2'})
                client.assert_any_await('udp://10.0.0.1', 'a')
                client.assert_any_await('udp://10.0.0.2', 'b')
                services.assert_called_once()

            @patch('iblutil.io.net.app.EchoProtocol.server')
            async def test_server(self, server):
                server.return_value = com = Mock(spec_set=net.app.EchoProtocol)
                com.name, com.server_uri, com.port, com.hostname = 'a', 'udp://127.0.0.1:11001', 11001, '127.0.0.1'
                self.assertIs(com, await serve('tcp://192.168.0.88', 'a'))
                server.assert_called_once_with('tcp://192.168.0.88:11001', name='a')
                self.assertIsInstance(com, net.base.Communicator)
                with self.assertRaises(AttributeError):
                    com.colour = 'red'

            @patch('iblutil.io.net.base.socket.gethostbyname', return_value='10.1.2.3')
            async def test_names(self, gethostbyname):
                self.assertEqual('10.1.2.3', str(net.base.hostname2ip('rig-1')))
                self.assertEqual('ws://10.1.2.3:9', net.base.validate_uri('ws://rig-1:9'))

            @patch('iblutil.io.net.base.urllib.request.urlopen')
            async def test_external(self, urlopen):
                urlopen.return_value.read.return_value = b'203.0.113.5'
                self.assertEqual('203.0.113.5', str(net.base.external_ip()))

            async def test_mocks_as_rigs(self):
                rigs = [AsyncMock(spec=net.app.EchoProtocol) for _ in range(2)]
                for i, rig in enumerate(rigs):
                    rig.name = f'rig{i}'
                    rig.on_event.return_value = ([i], ('127.0.0.1', 11001))
                services, event = net.app.Services(rigs), net.base.ExpMessage.EXPINIT
                answers = await services._signal(event, 'init', 'x', concurrent=False)
                self.assertEqual({'rig0': [0], 'rig1': [1]}, answers)

            async def test_timeouts(self):
                com = await net.app.EchoProtocol.client(f'127.0.0.1:{free_port()}', 'rig')
                error = asyncio.TimeoutError
                with patch('iblutil.io.net.app.asyncio.wait_for', side_effect=error) as wait_for:
                    with self.assertRaises(TimeoutError):
                        await com.confirmed_send([2, REF], timeout=0.2)
                wait_for.assert_awaited_once_with(ANY, timeout=0.2)
                com.close()

            def test_sockets(self):
                self.assertEqual(net.app.socket.SOCK_DGRAM, net.base.socket.SOCK_DGRAM)
                self.assertIs(net.app.asyncio, asyncio)
                with patch('iblutil.io.net.app.socket') as replaced:
                    self.assertIs(net.app.socket, replaced)
    """)
