"""The way between a main PC and its rig changes during a session over TCP: real network namespaces.

Only root can make them, and only Linux has them: elsewhere these tests are skipped. The loss is found soon after the
timeout of a message, the client reconnects, and the rig receives each message at most once and in order.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually_blocking
from namespaces import IMPOSSIBLE, LONGEST, Host, ip, two_hosts, two_networks

PROGRAM = Path(__file__).parents[1] / 'support' / 'tcp_session.py'
PORT = 11001
FOUND = 1.0 + 1.0 + 2.0  # seconds: the timeout of a message, 1 s to find out, and a machine that is busy
AWAY = 62.0  # seconds: as long as a peer is remembered, and more
BACK = 30.0  # seconds
OTHER_MAIN, OTHER_RIG = '10.203.77.77', '10.203.77.88'

Hosts = dict[str, Host]
Event = list[Any]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(IMPOSSIBLE is not None, reason=str(IMPOSSIBLE))]


def forward(hosts: Hosts, wanted: bool) -> None:
    """Let the router pass packets on, or drop them silently."""
    command = f'echo {int(wanted)} > /proc/sys/net/ipv4/ip_forward'
    ip('netns', 'exec', hosts['router'].namespace, 'sh', '-c', command)


class End:
    """One end of a session, in a process; `events` is what it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[Event] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def wait(self, *what: Any, after: float = 0.0, within: float = BACK) -> Event:
        """Wait for an event whose parts begin with these, after a time; return it."""

        def found() -> Event | None:
            for event in list(self.events):
                if event[0] > after and event[1 : 1 + len(what)] == list(what):
                    return event
            return None

        return eventually_blocking(found, f'{what} after {after} in {self.events[-5:]}', within)  # type: ignore[no-any-return]

    def select(self, kind: str) -> list[Event]:
        return [event for event in self.events if event[1] == kind]

    def finish(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(LONGEST)
        self._reader.join(LONGEST)
        assert self.process.returncode == 0


@contextmanager
def started(host: Host, loop: str, *arguments: str, **environment: str) -> Iterator[End]:
    with host.start(loop, *arguments, program=PROGRAM, **environment) as process:
        try:
            yield End(process)
        finally:
            process.kill()


class Session:
    """A rig and a main PC that has sent some messages."""

    def __init__(self, stack: ExitStack, hosts: Hosts, loop: str, uri: str, listen: str, **environment: str) -> None:
        self._stack, self._hosts, self._loop, self._listen = stack, hosts, loop, listen
        self.rigs: list[End] = []
        self.start_rig(**environment)
        self.main = stack.enter_context(started(hosts['main'], loop, 'main', uri, **environment))
        self.main.wait('confirmed')

    def start_rig(self, **environment: str) -> None:
        arguments = ('rig', f'tcp://{self._listen}:{PORT}')
        self.rigs.append(self._stack.enter_context(started(self._hosts['rig'], self._loop, *arguments, **environment)))
        self.rigs[-1].wait('uri')

    def lost_and_back(self, change: Callable[[], None], restore: Callable[[], None]) -> None:
        """Change the network, wait until the loss is found, restore the network, and wait until all is well."""
        begin = time.monotonic()
        change()
        lost = self.main.wait('lost', after=begin)
        assert lost[0] - begin < FOUND
        restore()
        connected = self.main.wait('connected', after=lost[0])
        self.main.wait('confirmed', after=connected[0])

    def check(self) -> None:
        """Compare what was confirmed with what was received."""
        self.main.finish()
        for rig in self.rigs:
            if rig.process.poll() is None:
                rig.finish()
        received = [number for rig in self.rigs for event in rig.select('received') for number in event[2]]
        confirmed = [event[2] for event in self.main.select('confirmed')]
        assert received == sorted(set(received)), 'twice, or not in order'
        assert confirmed == sorted(confirmed)
        if len(self.rigs) == 1:
            assert set(confirmed) <= set(received)


@contextmanager
def session(hosts: Hosts, loop: str, uri: str, listen: str = '0.0.0.0', **environment: str) -> Iterator[Session]:
    with ExitStack() as stack:
        yield Session(stack, hosts, loop, uri, listen, **environment)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """A main PC and a rig, and a cable between them."""
    with two_hosts() as pair:
        yield pair


loops = pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])


@loops
@pytest.mark.parametrize('kind', ['echorig', 'legacy'])
def test_a_router_drops_everything(loop: str, kind: str) -> None:
    """As with a rig without power: nothing comes back, not even from its system."""
    environment = {'LEGACY': '1'} if kind == 'legacy' else {}
    with two_networks() as hosts:
        uri = f'tcp://{hosts["rig"].address}:{PORT}'
        with session(hosts, loop, uri, WATCH='1', **environment) as running:
            running.main.wait('watch', 'online')
            begin = time.monotonic()
            running.lost_and_back(lambda: forward(hosts, False), lambda: forward(hosts, True))
            offline = running.main.wait('watch', 'offline', after=begin)
            assert offline[0] - begin < FOUND
            running.main.wait('watch', 'online', after=offline[0])
            running.rigs[0].wait('rig', 'lost', after=begin)
            states = [event[2] for event in running.main.select('watch') if event[0] > begin]
            assert states in (['offline', 'online'], ['offline', 'online', 'restarted'])
            running.check()


@loops
def test_a_rig_without_power_for_a_minute(loop: str) -> None:
    """Its watch never says online meanwhile, and the next program of the rig is another one."""
    with two_networks() as hosts:
        rig = hosts['rig']
        with session(hosts, loop, f'tcp://{rig.address}:{PORT}', WATCH='1') as running:
            running.main.wait('watch', 'online')
            time.sleep(2)  # some pings, whose echoes show which program it is

            def power_off() -> None:
                rig.plug('down')
                running.rigs[0].process.kill()
                running.rigs[0].process.wait()

            def power_on() -> None:
                offline = running.main.wait('watch', 'offline')
                time.sleep(AWAY)
                assert [event for event in running.main.select('watch') if event[0] > offline[0]] == []
                rig.plug('up')
                rig.ip('route', 'replace', 'default', 'via', rig.address.rpartition('.')[0] + '.254')
                running.start_rig()

            running.lost_and_back(power_off, power_on)
            running.main.wait('watch', 'restarted')
            running.check()


def cable(hosts: Hosts) -> tuple[Callable[[], None], Callable[[], None]]:
    return lambda: hosts['main'].plug('down'), lambda: hosts['main'].plug('up')


def rig_cable(hosts: Hosts) -> tuple[Callable[[], None], Callable[[], None]]:
    return lambda: hosts['rig'].plug('down'), lambda: hosts['rig'].plug('up')


def route(hosts: Hosts) -> tuple[Callable[[], None], Callable[[], None]]:
    arguments = ('10.203.77.0/24', 'dev', hosts['main'].device)
    return lambda: hosts['main'].ip('route', 'del', *arguments), lambda: hosts['main'].ip('route', 'add', *arguments)


def unreachable(hosts: Hosts) -> tuple[Callable[[], None], Callable[[], None]]:
    arguments = ('unreachable', f'{hosts["rig"].address}/32')
    return lambda: hosts['main'].ip('route', 'add', *arguments), lambda: hosts['main'].ip('route', 'del', *arguments)


def main_address(hosts: Hosts) -> tuple[Callable[[], None], Callable[[], None]]:
    main = hosts['main']
    return lambda: main.remove_address(main.address), lambda: main.add_address(OTHER_MAIN)


def rig_address(hosts: Hosts) -> tuple[Callable[[], None], Callable[[], None]]:
    rig = hosts['rig']
    return lambda: rig.remove_address(rig.address), lambda: rig.add_address(rig.address)


CHANGES = [cable, rig_cable, route, unreachable, main_address, rig_address]


@loops
@pytest.mark.parametrize('change', CHANGES, ids=lambda change: change.__name__)
def test_the_way_is_lost_and_comes_back(hosts: Hosts, loop: str, change: Any) -> None:
    with session(hosts, loop, f'tcp://{hosts["rig"].address}:{PORT}') as running:
        running.lost_and_back(*change(hosts))
        running.check()


@loops
def test_the_main_pc_gets_another_address_at_once(hosts: Hosts, loop: str) -> None:
    main = hosts['main']

    def change() -> None:
        main.remove_address(main.address)
        main.add_address(OTHER_MAIN)

    with session(hosts, loop, f'tcp://{hosts["rig"].address}:{PORT}') as running:
        running.lost_and_back(change, lambda: None)
        running.check()


@loops
@pytest.mark.parametrize('late', [False, True])
def test_the_rig_gets_another_address(hosts: Hosts, loop: str, late: bool) -> None:
    """Its name is looked up again, and leads to it at once or later."""
    main, rig = hosts['main'], hosts['rig']
    main.name_hosts(f'{rig.address} rigpc\n')

    def name() -> None:
        main.name_hosts(f'{OTHER_RIG} rigpc\n')

    def change() -> None:
        rig.remove_address(rig.address)
        rig.add_address(OTHER_RIG)
        if not late:
            name()

    def restore() -> None:
        if late:
            time.sleep(3)
            name()

    with session(hosts, loop, f'tcp://rigpc:{PORT}') as running:
        assert running.main.select('confirmed')[0][3] == f'tcp://{rig.address}:{PORT}'
        running.lost_and_back(change, restore)
        running.main.wait('confirmed', after=running.main.select('connected')[-1][0])
        assert running.main.select('confirmed')[-1][3] == f'tcp://{OTHER_RIG}:{PORT}'
        running.check()


@loops
def test_an_idle_connection_is_lost(loop: str) -> None:
    """Nothing is sent, and the system finds out at both ends."""
    with two_networks() as hosts:
        uri = f'tcp://{hosts["rig"].address}:{PORT}'
        with session(hosts, loop, uri, QUIET='1') as running:
            begin = time.monotonic()
            forward(hosts, False)
            running.main.wait('lost', after=begin)
            running.rigs[0].wait('rig', 'lost', after=begin)
            forward(hosts, True)
            running.main.wait('connected', after=begin)
            running.check()


@loops
def test_a_server_whose_address_is_gone(hosts: Hosts, loop: str) -> None:
    """It says so, and listens again."""
    rig = hosts['rig']
    with session(hosts, loop, f'tcp://{rig.address}:{PORT}', listen=rig.address) as running:
        running.lost_and_back(
            lambda: rig.remove_address(rig.address), lambda: (time.sleep(2), rig.add_address(rig.address))[1]
        )
        gone = running.rigs[0].wait('log', f'rig receives nothing: this computer has lost the address {rig.address}')
        running.rigs[0].wait('log', f'rig receives again: this computer has the address {rig.address}', after=gone[0])
        received = running.main.select('confirmed')[-1]
        running.main.wait('confirmed', after=received[0])  # also when it listens with a new socket
        running.check()
