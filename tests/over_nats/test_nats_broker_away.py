"""A broker that restarts, stands still, dies or is cut off, while a session goes on.

Each message is confirmed and delivered once, or fails with an error. None is delivered after its sender was told that
it failed.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import Any

import pytest

from brokers import needs_broker, running_broker, running_cluster, subject
from echorig import EchoError, EchoProtocol
from eventually import eventually
from lab import REF
from nats_relay import Relay
from programs import Program

pytestmark = [needs_broker, pytest.mark.blocks]

SLACK = 0.5  # seconds, of a loaded machine, between the moment of a delivery and that of its record


class Session:
    """A rig, its main PC, and what they have done: the sends with their outcomes, and the deliveries."""

    def __init__(self, rig: EchoProtocol, main: EchoProtocol) -> None:
        self.rig, self.main = rig, main
        self.failed: dict[int, float] = {}
        self.confirmed: set[int] = set()
        self.delivered: dict[int, list[float]] = {}
        self.n_sent = 0
        rig.assign_callback('EXPINFO', self._on_info)

    def _on_info(self, data: list[Any], addr: Any) -> None:
        self.delivered.setdefault(data[1], []).append(time.monotonic())

    async def send(self, timeout: float) -> bool:
        """Send one message; return whether it was confirmed."""
        self.n_sent += 1
        number = self.n_sent
        try:
            await self.main.confirmed_send([64, 20, number], timeout=timeout)
        except EchoError:
            self.failed[number] = time.monotonic()
            return False
        self.confirmed.add(number)
        return True

    def check(self) -> None:
        """Compare the deliveries with the outcomes."""
        for number, times in self.delivered.items():
            assert len(times) == 1, f'message {number} was delivered {len(times)} times'
            if number in self.failed:
                late = times[0] - self.failed[number]
                assert late <= SLACK, f'message {number} was delivered {late:.3f} s after it had failed'
        missing = self.confirmed - set(self.delivered)
        assert not missing, f'confirmed, and not delivered: {missing}'
        assert len(self.confirmed) + len(self.failed) == self.n_sent


async def session(lab: Any, rig_broker: str, main_broker: str, **options: Any) -> Session:
    topic = subject()
    rig = await EchoProtocol.server(f'{rig_broker}/{topic}', 'rig', **options)
    lab.opened.append(rig)
    main = await EchoProtocol.client(f'{main_broker}/{topic}', 'main', **options)
    lab.opened.append(main)
    made = Session(rig, main)
    assert await made.send(20.0)
    return made


async def keep_sending(running: Session, over: asyncio.Event, timeout: float) -> None:
    while not over.is_set():
        await running.send(timeout)
        await asyncio.sleep(0.01 * random.random())


@pytest.fixture
def own(tmp_path):
    """A broker that the test may end."""
    with running_broker(tmp_path) as found:
        yield found


async def test_killed_and_restarted_in_the_middle(lab, own):
    """Sends of all lengths are under way at that moment; those that may wait for longer than it takes succeed."""
    running = await session(lab, own.uri, own.uri)
    over = asyncio.Event()
    short = [asyncio.ensure_future(keep_sending(running, over, 0.05)) for _ in range(3)]
    long = [asyncio.ensure_future(running.send(60.0))]
    for pause in (0.05, 0.6):
        await asyncio.sleep(pause)
        own.kill()
        long.append(asyncio.ensure_future(running.send(60.0)))
        await asyncio.sleep(pause)
        own.start()
    over.set()
    await asyncio.gather(*short)
    assert all(await asyncio.gather(*long))
    assert await running.send(60.0)
    running.check()


@pytest.mark.parametrize('which', ['broker', 'rig', 'main'])
async def test_held_up_for_longer_than_the_timeout(lab, own, which):
    """Whatever waited in between is not delivered when it goes on, although nothing was lost."""
    async with Relay(own.port) as to_rig, Relay(own.port) as to_main:
        running = await session(lab, to_rig.uri, to_main.uri)
        for _ in range(3):
            assert await running.send(20.0)
        if which == 'broker':
            own.signal(signal.SIGSTOP)
        else:
            {'rig': to_rig, 'main': to_main}[which].hold()
        outcomes = await asyncio.gather(*(running.send(0.3 + 0.1 * i) for i in range(5)))
        assert outcomes == [False] * 5
        await asyncio.sleep(1.0)
        own.signal(signal.SIGCONT)
        to_rig.release()
        to_main.release()
        assert await running.send(30.0)
        await asyncio.sleep(0.3)
        running.check()


async def test_the_first_message_is_held_up(lab, own):
    """Nothing is known of the delay yet: the sender is asked."""
    async with Relay(own.port) as to_main:
        topic = subject()
        rig = await EchoProtocol.server(f'{own.uri}/{topic}', 'rig')
        main = await EchoProtocol.client(f'{to_main.uri}/{topic}', 'main')
        lab.opened += [rig, main]
        running = Session(rig, main)
        to_main.hold('to_broker')
        assert not await running.send(0.5)
        await asyncio.sleep(0.7)
        to_main.release()
        assert await running.send(30.0)
        running.check()


async def test_held_up_until_the_connection_is_given_up(lab, own):
    """The program reconnects by itself, while the old connection still holds messages; these are lost."""
    async with Relay(own.port) as to_main:
        running = await session(lab, own.uri, to_main.uri)
        to_main.hold()
        assert not await running.send(0.5)
        waiting = asyncio.ensure_future(running.send(60.0))
        await eventually(lambda: 'is not set' if waiting.done() else True, 'it waits')
        await asyncio.sleep(0.2)
        to_main.cut()
        to_main.release()
        assert await waiting
        running.check()


async def test_cut_again_and_again(lab, own):
    async with Relay(own.port) as to_rig, Relay(own.port) as to_main:
        running = await session(lab, to_rig.uri, to_main.uri)
        over = asyncio.Event()
        tasks = [asyncio.ensure_future(keep_sending(running, over, 0.5)) for _ in range(3)]
        for i in range(4):
            await asyncio.sleep(0.3)
            (to_rig, to_main)[i % 2].cut()
        over.set()
        await asyncio.gather(*tasks)
        assert await running.send(60.0)
        running.check()


async def test_a_node_of_a_cluster_dies(lab, tmp_path):
    """That of the rig, then that of the main PC: each goes to another node."""
    with running_cluster(tmp_path) as nodes:
        servers = [node.uri for node in nodes]
        running = await session(lab, servers[0], servers[1], servers=servers)
        over = asyncio.Event()
        tasks = [asyncio.ensure_future(keep_sending(running, over, 0.5)) for _ in range(3)]
        waiting = [asyncio.ensure_future(running.send(60.0))]
        for node in nodes[:2]:
            await asyncio.sleep(0.2)
            node.kill()
            waiting.append(asyncio.ensure_future(running.send(60.0)))
        assert all(await asyncio.gather(*waiting))
        over.set()
        await asyncio.gather(*tasks)
        assert await running.send(60.0)
        running.check()


async def test_a_node_is_retired(lab, tmp_path):
    """In lame duck mode it closes one connection after another; the programs go to another node."""
    config = 'lame_duck_duration: "30s"\nlame_duck_grace_period: "1s"\n'
    with running_cluster(tmp_path, 2) as nodes:
        servers = [node.uri for node in nodes]
        running = await session(lab, servers[0], servers[0], servers=servers)
        over = asyncio.Event()
        tasks = [asyncio.ensure_future(keep_sending(running, over, 30.0)) for _ in range(2)]
        nodes[0].signal(signal.SIGUSR2)
        await asyncio.sleep(0.5)
        nodes[0].kill()
        over.set()
        await asyncio.gather(*tasks)
        assert await running.send(60.0)
        running.check()
        assert not running.failed, config


async def test_close_while_the_broker_is_away(lab, own):
    running = await session(lab, own.uri, own.uri)
    own.kill()
    sending = asyncio.ensure_future(running.send(30.0))
    await asyncio.sleep(0.1)
    for com in (running.main, running.rig):
        com.close()
        await asyncio.wait_for(com.wait_closed(), 20)
    assert not await sending


@pytest.mark.parametrize('n_bytes', [0, pytest.param(8_000_000, marks=pytest.mark.slow)])
async def test_close_while_the_broker_stands_still(lab, own, n_bytes):
    """Also when more waits to be written than the system takes."""
    running = await session(lab, own.uri, own.uri)
    own.signal(signal.SIGSTOP)
    try:
        text = 'x' * 500_000
        sends = [
            asyncio.ensure_future(running.main.confirmed_send([32, 20, text], timeout=60))
            for _ in range(n_bytes // 500_000)
        ]
        for _ in range(n_bytes // 500_000):
            running.main.send([32, 20, text])
        await asyncio.sleep(0.5)
        for com in (running.main, running.rig):
            com.close()
            await asyncio.wait_for(com.wait_closed(), 20)
        results = await asyncio.gather(*sends, return_exceptions=True)
        assert all(isinstance(result, EchoError) for result in results), results
    finally:
        own.signal(signal.SIGCONT)


async def test_sends_fail_in_time_while_the_broker_is_away(lab, own):
    """With the reason in the error."""
    running = await session(lab, own.uri, own.uri)
    own.kill()
    begin = time.monotonic()
    with pytest.raises(EchoError, match='no connection with the broker') as caught:
        await running.main.confirmed_send([2, REF], timeout=1.0)
    assert 0.9 < time.monotonic() - begin < 30.0
    assert own.uri in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize('n_bytes', [0, 8_000_000])
@pytest.mark.parametrize('tls', [False, True])
async def test_a_network_that_is_gone(lab, papers, tmp_path, tls, n_bytes):
    """Nothing says that the connection is lost, and what waits to be written holds up no new one."""
    config, options = '', {}
    if tls:
        key, chain = tmp_path / 'key.pem', tmp_path / 'chain.pem'
        papers.certs['good'].private_key_pem.write_to_path(key)
        chain.write_bytes(b''.join(pem.bytes() for pem in papers.certs['good'].cert_chain_pems))
        config, options = f'tls {{ cert_file: "{chain}", key_file: "{key}" }}\n', {'ssl': papers.client}
    with running_broker(tmp_path, config=config) as broker:
        async with Relay(broker.port) as to_main:
            running = await session(lab, broker.uri, to_main.uri, **options)
            to_main.strand()
            for _ in range(n_bytes // 500_000):
                running.main.send([32, 20, 'x' * 500_000])
            begin = time.monotonic()
            assert await running.send(60.0)
            assert time.monotonic() - begin < 25.0
            running.check()


FORGETFUL = """
import asyncio, sys
from echorig import EchoProtocol

async def main(uri):
    rig = await EchoProtocol.server(uri, 'rig')
    com = await EchoProtocol.client(uri, 'main')
    rig.assign_callback('EXPSTART', lambda data, addr: print('started', data[0], flush=True))
    await com.start('REF')

for n in range(3):
    asyncio.run(main(f'{sys.argv[1]}{n}'))
print('ended', flush=True)
"""


@pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
def test_a_loop_that_ends_without_close(broker, loop):
    """The next loop gets a connection of its own, and nothing holds up the end of the program."""
    with Program(FORGETFUL, f'{broker.uri}/{subject()}', loop=loop) as program:
        program.wait_for('ended')
        assert program.wait() == 0
    assert program.output.count('started REF') == 3
    assert 'Traceback' not in program.output
