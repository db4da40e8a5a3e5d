"""The way between a main PC and its rig changes during a session over UDP: real network namespaces.

Only root can make them, and only Linux has them: elsewhere these tests are skipped. Every message is confirmed, and the
rig receives each exactly once and in order.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from threading import Timer

import pytest

from namespaces import IMPOSSIBLE, Host, confirmed, rest_of, two_hosts, two_networks

N_MESSAGES = 60
N_BEFORE = 20  # confirmed before the change
BREAK = 1.5  # seconds
TIMEOUT = 30.0  # seconds
PORT = '11001'
OTHER_MAIN, OTHER_RIG = '10.203.77.77', '10.203.77.88'
KEY = 'a key that both computers have'

Hosts = dict[str, Host]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(IMPOSSIBLE is not None, reason=str(IMPOSSIBLE))]


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """A main PC and a rig, and a cable between them."""
    with two_hosts() as pair:
        yield pair


def resume(main: subprocess.Popen[str]) -> None:
    """Let the main PC send the message before which it waits."""
    assert main.stdin is not None
    main.stdin.write('\n')
    main.stdin.flush()


def session(
    hosts: Hosts,
    change: Callable[[Hosts], None],
    loop: str,
    uri: str,
    listen: str = '0.0.0.0',
    resumes_during_change: bool = False,
    **environment: str,
) -> None:
    """Run a session in which something changes, and check what both ends saw.

    With PAUSE in its environment, the main PC sends nothing during the change, or nothing until soon after its begin.
    """
    with hosts['rig'].start(loop, 'rig', listen, PORT, **environment) as rig:
        try:
            confirmed(rig, 1)
            arguments = ('main', uri, str(N_MESSAGES), str(TIMEOUT))
            with hosts['main'].start(loop, *arguments, **environment) as main:
                try:
                    lines = confirmed(main, N_BEFORE)
                    if resumes_during_change:
                        Timer(BREAK / 3, resume, [main]).start()
                    change(hosts)
                    rest = rest_of(main)
                    lines += rest.splitlines()
                finally:
                    main.kill()
            received = rest_of(rig)
        finally:
            rig.kill()
    assert lines == [str(number) for number in range(N_MESSAGES)]
    assert json.loads(received) == list(range(N_MESSAGES))
    assert (main.returncode, rig.returncode) == (0, 0)


def main_gets_another_address(hosts: Hosts) -> None:
    hosts['main'].remove_address(hosts['main'].address)
    hosts['main'].add_address(OTHER_MAIN)


def main_is_without_an_address_for_a_while(hosts: Hosts) -> None:
    hosts['main'].remove_address(hosts['main'].address)
    time.sleep(BREAK)
    hosts['main'].add_address(OTHER_MAIN)


def main_gets_a_second_address_first(hosts: Hosts) -> None:
    hosts['main'].ip('addr', 'add', f'{OTHER_MAIN}/25', 'dev', hosts['main'].device)  # of another network: it stays
    hosts['main'].remove_address(hosts['main'].address)


def rig_gets_another_address(hosts: Hosts) -> None:
    hosts['main'].name_hosts(f'{OTHER_RIG} rigpc\n')
    hosts['rig'].remove_address(hosts['rig'].address)
    hosts['rig'].add_address(OTHER_RIG)


def rig_gets_another_address_and_the_name_later(hosts: Hosts) -> None:
    hosts['rig'].remove_address(hosts['rig'].address)
    hosts['rig'].add_address(OTHER_RIG)
    time.sleep(BREAK)
    hosts['main'].name_hosts(f'{OTHER_RIG} rigpc\n')


def both_get_other_addresses(hosts: Hosts) -> None:
    rig_gets_another_address(hosts)
    main_gets_another_address(hosts)


def interface_down_and_up(hosts: Hosts) -> None:
    hosts['main'].plug('down')
    time.sleep(BREAK)
    hosts['main'].plug('up')


def route_gone_and_back(hosts: Hosts) -> None:
    route = ('10.203.77.0/24', 'dev', hosts['main'].device)
    hosts['main'].ip('route', 'del', *route)
    time.sleep(BREAK)
    hosts['main'].ip('route', 'add', *route)


def host_unreachable_for_a_while(hosts: Hosts) -> None:
    route = ('unreachable', f'{hosts["rig"].address}/32')
    hosts['main'].ip('route', 'add', *route)
    time.sleep(BREAK)
    hosts['main'].ip('route', 'del', *route)


def rig_is_silent_for_a_while(hosts: Hosts) -> None:
    hosts['rig'].remove_address(hosts['rig'].address)
    time.sleep(BREAK)
    hosts['rig'].add_address(hosts['rig'].address)


CHANGES = [
    main_gets_another_address,
    main_is_without_an_address_for_a_while,
    main_gets_a_second_address_first,
    interface_down_and_up,
    route_gone_and_back,
    host_unreachable_for_a_while,
    rig_is_silent_for_a_while,
]
NAME_CHANGES = [rig_gets_another_address, rig_gets_another_address_and_the_name_later, both_get_other_addresses]


@pytest.mark.parametrize('change', CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
def test_the_way_to_an_address_changes(hosts: Hosts, loop: str, change: Callable[[Hosts], None]) -> None:
    session(hosts, change, loop, f'udp://{hosts["rig"].address}:{PORT}')


@pytest.mark.parametrize('change', NAME_CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
def test_the_way_to_a_name_changes(hosts: Hosts, loop: str, change: Callable[[Hosts], None]) -> None:
    hosts['main'].name_hosts(f'{hosts["rig"].address} rigpc\n')
    session(hosts, change, loop, f'udp://rigpc:{PORT}')


@pytest.mark.parametrize(
    'change', [main_gets_another_address, rig_gets_another_address], ids=lambda change: change.__name__
)
def test_the_way_changes_under_signed_messages(hosts: Hosts, change: Callable[[Hosts], None]) -> None:
    hosts['main'].name_hosts(f'{hosts["rig"].address} rigpc\n')
    session(hosts, change, 'uvloop', f'udp://rigpc:{PORT}', KEY=KEY)


@pytest.mark.parametrize(
    'change', [main_gets_another_address, rig_gets_another_address], ids=lambda change: change.__name__
)
@pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
def test_the_way_changes_under_the_transport_of_the_loop(
    hosts: Hosts, loop: str, change: Callable[[Hosts], None]
) -> None:
    hosts['main'].name_hosts(f'{hosts["rig"].address} rigpc\n')
    session(hosts, change, loop, f'udp://rigpc:{PORT}', ECHORIG_TRANSPORTS='loop')


@pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
def test_the_second_address_of_a_name(hosts: Hosts, loop: str) -> None:
    """The rig has only the second of the addresses of its name."""
    hosts['main'].name_hosts(f'{OTHER_RIG} rigpc\n{hosts["rig"].address} rigpc\n')
    session(hosts, lambda hosts: None, loop, f'udp://rigpc:{PORT}')


def test_a_server_on_an_address_that_goes_and_comes_back(hosts: Hosts) -> None:
    address = hosts['rig'].address
    session(hosts, rig_is_silent_for_a_while, 'uvloop', f'udp://{address}:{PORT}', listen=address)


@pytest.mark.parametrize(
    'change',
    [main_is_without_an_address_for_a_while, interface_down_and_up, route_gone_and_back, host_unreachable_for_a_while],
    ids=lambda change: change.__name__,
)
@pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
def test_the_way_to_a_legacy_rig_changes(hosts: Hosts, loop: str, change: Callable[[Hosts], None]) -> None:
    """What the system refuses is sent later, and only then."""
    uri = f'udp://{hosts["rig"].address}:{PORT}'
    session(hosts, change, loop, uri, resumes_during_change=True, LEGACY='1', PAUSE=str(N_BEFORE))


def lower_mtu(hosts: Hosts) -> None:
    hosts['router'].ip('link', 'set', hosts['router'].device, 'mtu', '1000')
    hosts['rig'].ip('link', 'set', hosts['rig'].device, 'mtu', '1000')


@pytest.mark.parametrize('size', [1200, 20000])
@pytest.mark.parametrize('kind', ['echorig', 'legacy'])
def test_lower_mtu_on_the_way(kind: str, size: int) -> None:
    """Messages too long for a link behind the router arrive in fragments, and a legacy rig gets each of them."""
    with two_networks() as hosts:
        legacy = {'LEGACY': '1'} if kind == 'legacy' else {}
        uri = f'udp://{hosts["rig"].address}:{PORT}'
        session(hosts, lower_mtu, 'uvloop', uri, PADDING=str(size), PAUSE=str(N_BEFORE), **legacy)
