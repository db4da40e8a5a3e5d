"""`echorig doctor` names the faults of networks, in real network namespaces; only root can make them, on Linux."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import LOOPS
from namespaces import IMPOSSIBLE, LONGEST, Host, confirmed, two_hosts, two_networks

PORT = '11001'
FRAGMENTS = '/proc/sys/net/ipv4/ipfrag_{}_thresh'  # bytes of incomplete datagrams; with 0 none is ever complete

Hosts = dict[str, Host]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(IMPOSSIBLE is not None, reason=str(IMPOSSIBLE))]


@pytest.fixture(params=list(LOOPS))
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def with_rig(hosts: Hosts, loop: str) -> Iterator[Hosts]:
    with hosts['rig'].start(loop, 'rig', '0.0.0.0', PORT) as rig:
        try:
            confirmed(rig, 1)
            yield hosts
        finally:
            rig.kill()


@pytest.fixture
def cable(loop: str) -> Iterator[Hosts]:
    """A main PC and a rig in one network."""
    with two_hosts() as hosts:
        yield from with_rig(hosts, loop)


@pytest.fixture
def router(loop: str) -> Iterator[Hosts]:
    """A main PC and a rig in two networks, and a router between them."""
    with two_networks() as hosts:
        yield from with_rig(hosts, loop)


def doctor(hosts: Hosts, loop: str, uri: str) -> tuple[list[dict[str, Any]], int]:
    """Run the command on the main PC; return its findings and the exit code."""
    host = hosts['main']
    enter = ('ip', 'netns', 'exec', host.namespace, 'env', f'ECHORIG_LOOP={loop}')
    done = subprocess.run(
        [*enter, sys.executable, '-m', 'echorig', 'doctor', uri, '--json'],
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert done.stderr == ''
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def faults(found: list[dict[str, Any]]) -> list[str]:
    bad = [finding for finding in found if finding['ok'] is False]
    assert all(finding['advice'] for finding in bad)
    return [finding['facts']['fault'] for finding in bad]


def of(found: list[dict[str, Any]], step: str) -> dict[str, Any]:
    [finding] = [finding for finding in found if finding['step'] == step]
    return finding


def uri(hosts: Hosts, scheme: str = 'udp') -> str:
    return f'{scheme}://{hosts["rig"].address}:{PORT}'


def drop_fragments(host: Host) -> None:
    for which in ('low', 'high'):
        write = f'echo 0 > {FRAGMENTS.format(which)}'
        subprocess.run(['ip', 'netns', 'exec', host.namespace, 'sh', '-c', write], check=True)


def test_a_good_network(cable: Hosts, loop: str) -> None:
    found, code = doctor(cable, loop, uri(cable))
    assert (faults(found), code) == ([], 0)
    way = of(found, 'way')['facts']
    assert (way['own'], way['network'], way['router']) == (cable['main'].address, '10.203.77.0/24', None)
    assert way['interface'] == cable['main'].device
    assert of(found, 'size')['facts']['largest'] == 65_507


def test_a_router(router: Hosts, loop: str) -> None:
    found, code = doctor(router, loop, uri(router))
    assert (faults(found), code) == ([], 0)
    assert of(found, 'way')['facts']['router'] == '10.203.77.254'


def test_the_rig_is_off(cable: Hosts, loop: str) -> None:
    for scheme in ('udp', 'tcp'):
        found, code = doctor(cable, loop, f'{scheme}://10.203.77.9:{PORT}')
        assert (faults(found), code) == (['no computer'], 1)
        assert 'firewall' not in [finding['step'] for finding in found]


def test_the_cable_of_the_rig_is_out(cable: Hosts, loop: str) -> None:
    cable['rig'].plug('down')
    found, code = doctor(cable, loop, uri(cable))
    assert (faults(found), code) == (['no computer'], 1)


def test_the_rig_was_switched_off_after_it_had_answered(cable: Hosts, loop: str) -> None:
    assert doctor(cable, loop, uri(cable))[1] == 0
    cable['rig'].remove_address(cable['rig'].address)  # it does not answer to ARP any more
    cable['main'].ip('neigh', 'replace', *_neighbour(cable), 'nud', 'stale')
    found, code = doctor(cable, loop, uri(cable))
    assert (faults(found), code) == (['no computer'], 1)  # the system has asked it again


def test_a_firewall_drops_everything_of_a_known_computer(cable: Hosts, loop: str) -> None:
    assert doctor(cable, loop, uri(cable))[1] == 0
    cable['rig'].ip('route', 'add', 'blackhole', f'{cable["main"].address}/32')
    cable['main'].ip('neigh', 'replace', *_neighbour(cable), 'nud', 'stale')
    found, code = doctor(cable, loop, uri(cable))
    assert (faults(found), code) == (['firewall'], 1)
    assert 'the computer is on' in of(found, 'reach')['text']


def _neighbour(hosts: Hosts) -> tuple[str, ...]:
    """Return the entry of the rig in the table of neighbours of the main PC, for `ip neigh`."""
    main, rig = hosts['main'], hosts['rig']
    shown = subprocess.run(
        ['ip', '-n', rig.namespace, '-j', 'link', 'show', rig.device], capture_output=True, text=True, check=True
    )
    return rig.address, 'lladdr', json.loads(shown.stdout)[0]['address'], 'dev', main.device


def test_the_cable_of_the_main_pc_is_out(cable: Hosts, loop: str) -> None:
    cable['main'].remove_address(cable['main'].address)
    found, code = doctor(cable, loop, uri(cable))
    assert (faults(found), code) == (['no way'], 1)
    assert 'this computer has no network' in of(found, 'way')['text']


def test_the_wrong_subnet(cable: Hosts, loop: str) -> None:
    found, code = doctor(cable, loop, f'udp://10.203.99.2:{PORT}')
    assert (faults(found), code) == (['no way'], 1)
    way = of(found, 'way')
    assert '10.203.77.0/24' in way['text']
    assert 'wrong subnet' in way['advice']


def test_a_firewall_drops_everything(cable: Hosts, loop: str) -> None:
    cable['rig'].ip('route', 'add', 'blackhole', f'{cable["main"].address}/32')  # it receives, and replies nothing
    for scheme in ('udp', 'tcp'):
        found, code = doctor(cable, loop, uri(cable, scheme))
        assert (faults(found), code) == (['firewall'], 1)
        commands = of(found, 'firewall')['facts']['commands']
        assert f'-Protocol {scheme.upper()} -LocalPort {PORT}' in commands['Windows']
        assert f'ufw allow {PORT}/{scheme}' in commands['Linux with ufw']


def test_a_router_drops_everything(router: Hosts, loop: str) -> None:
    router['router'].ip('route', 'add', 'blackhole', f'{router["rig"].address}/32')
    found, code = doctor(router, loop, uri(router))
    assert (faults(found), code) == (['silent'], 1)
    assert '10.203.77.254' in of(found, 'reach')['advice']
    assert of(found, 'firewall')


@pytest.mark.parametrize('kind', ['unreachable', 'prohibit'])
def test_a_router_knows_no_way(router: Hosts, loop: str, kind: str) -> None:
    router['router'].ip('route', 'add', kind, f'{router["rig"].address}/32')
    found, code = doctor(router, loop, uri(router))
    assert (faults(found), code) == (['unreachable'], 1)


def test_fragments_are_dropped(cable: Hosts, loop: str) -> None:
    drop_fragments(cable['rig'])
    found, code = doctor(cable, loop, uri(cable))
    assert (faults(found), code) == (['fragments'], 1)
    assert 1_472 - 16 <= of(found, 'size')['facts']['largest'] <= 1_472


def test_a_small_mtu_with_fragments_dropped(router: Hosts, loop: str) -> None:
    for name in ('router', 'rig'):
        router[name].ip('link', 'set', router[name].device, 'mtu', '576')
    found, code = doctor(router, loop, uri(router))
    assert (faults(found), code) == ([], 0)  # the fragments are joined
    drop_fragments(router['rig'])
    found, code = doctor(router, loop, uri(router))
    assert (faults(found), code) == (['fragments'], 1)
    assert 548 - 16 <= of(found, 'size')['facts']['largest'] <= 548


def test_two_mtus_in_one_network(cable: Hosts, loop: str) -> None:
    cable['main'].ip('link', 'set', cable['main'].device, 'mtu', '576')
    found, code = doctor(cable, loop, uri(cable))
    assert (faults(found), code) == (['fragments'], 1)


def test_a_name_of_which_one_address_is_dead(cable: Hosts, loop: str) -> None:
    cable['main'].name_hosts('10.203.77.9 camera\n10.203.77.2 camera\n127.0.0.1 localhost\n')
    found, code = doctor(cable, loop, f'udp://camera:{PORT}')
    assert (faults(found), code) == (['dead address'], 1)
    [dead] = [finding for finding in found if finding['ok'] is False]
    assert dead['facts']['address'] == '10.203.77.9'


def test_a_name_that_is_not_in_the_hosts_file(cable: Hosts, loop: str) -> None:
    cable['main'].name_hosts('127.0.0.1 localhost\n')
    found, code = doctor(cable, loop, f'udp://camera:{PORT}')
    assert code == 1
    assert faults(found) in (['name unknown'], ['no name server'])
