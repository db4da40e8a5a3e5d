"""docs/doctor.md: each fault is made in a network of two computers, and the doctor says what the page shows.

The computers are network namespaces, which only root can make, on Linux.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from doc_blocks import all_blocks, select, unprompted
from doc_terminal import without_figures
from namespaces import IMPOSSIBLE, LONGEST, Host, two_hosts
from programs import Program

pytestmark = [pytest.mark.slow, pytest.mark.skipif(IMPOSSIBLE is not None, reason=str(IMPOSSIBLE))]

PAGE = 'docs/doctor.md'
COMMANDS = [part for block in select(all_blocks(), 'console', PAGE) for part in unprompted(block)]
GOOD, NO_WAY, NO_COMPUTER, DEAD_ADDRESS, REFUSED, KEY, FIREWALL, FOREIGN, TLS, CUT, FRAGMENTS, CLOCK = range(12)
MAC = re.compile(r'(?:[0-9a-f]{2}:){5}[0-9a-f]{2}')

# The programs on the computer of the rig: one port for each case of the page.
RIGS = """
import asyncio, socket, sys, time
if 'late' in sys.argv:
    now = time.time_ns
    time.time_ns = lambda: now() - 3600 * 10**9
from echorig import EchoProtocol
from echorig.testing import FakeRig

class Web(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, addr):
        self.transport.sendto(b'HTTP/1.1 400 Bad Request', addr)

async def main():
    good = await EchoProtocol.server('udp://0.0.0.0:11001', 'camera')
    signed = await EchoProtocol.server('udp://0.0.0.0:11002', 'signed', key='0123456789abcdef' * 4)
    cut = await FakeRig(f'udp://{sys.argv[1]}:11003', kind='matlab').__aenter__()
    plain = await EchoProtocol.server('tcp://0.0.0.0:11004', 'plain')
    await asyncio.get_running_loop().create_datagram_endpoint(Web, local_addr=('0.0.0.0', 11006))
    print('ready')
    await asyncio.sleep(3600)

asyncio.run(main())
"""


class Network:
    """The main PC and the computer of the rig."""

    def __init__(self, main: Host, rig: Host) -> None:
        self.main, self.rig = main, rig
        self.names({'camera': rig.address})
        self.addresses = {
            main.device: 'eth0',
            '10.203.77.0/24': '192.168.0.0/24',
            '10.203.77.99': '192.168.0.99',
            '10.203.99.2': '192.168.7.12',
            rig.address: '192.168.0.12',
            main.address: '192.168.0.10',
        }

    def names(self, *hosts: dict[str, str]) -> None:
        """Write the hosts file of the main PC."""
        lines = [f'{address} {name}\n' for one in hosts for name, address in one.items()]
        self.main.name_hosts(''.join([*lines, '127.0.0.1 localhost\n']))

    def rigs(self, *arguments: str) -> Program:
        """Start the programs of the rig."""
        enter = ['ip', 'netns', 'exec', self.rig.namespace, sys.executable, '-c', RIGS, self.rig.address]
        return Program('', command=[*enter, *arguments])

    def doctor(self, command: str) -> tuple[list[str], int]:
        """Run a command of the page on the main PC; return its lines as the page writes them, and its exit code."""
        program, *words = command.split()
        assert program == 'echorig'
        text = ' '.join(words)
        for used, written in self.addresses.items():
            text = text.replace(written, used)
        enter = ['ip', 'netns', 'exec', self.main.namespace, sys.executable, '-m', 'echorig', *text.split()]
        done = subprocess.run(enter, capture_output=True, text=True, timeout=LONGEST, check=False)
        assert done.stderr == ''
        found = done.stdout
        for used, written in self.addresses.items():
            found = found.replace(used, written)
        return found.splitlines(), done.returncode

    def block_the_way_back(self) -> None:
        """Let the rig receive everything and reply nothing, as a firewall does."""
        self.rig.ip('route', 'add', 'blackhole', f'{self.main.address}/32')
        shown = subprocess.run(
            ['ip', '-n', self.rig.namespace, '-j', 'link', 'show', self.rig.device],
            capture_output=True,
            text=True,
            check=True,
        )
        card = json.loads(shown.stdout)[0]['address']
        self.main.ip('neigh', 'replace', self.rig.address, 'lladdr', card, 'dev', self.main.device, 'nud', 'stale')

    def drop_fragments(self) -> None:
        """Let the rig drop each datagram that was split."""
        for which in ('low', 'high'):
            write = f'echo 0 > /proc/sys/net/ipv4/ipfrag_{which}_thresh'
            subprocess.run(['ip', 'netns', 'exec', self.rig.namespace, 'sh', '-c', write], check=True)


@pytest.fixture
def network() -> Iterator[Network]:
    with two_hosts() as hosts:
        yield Network(hosts['main'], hosts['rig'])


def clean(line: str) -> str:
    """Replace figures; on a slow machine the table of neighbours may say that the rig was on some seconds ago."""
    line = without_figures(MAC.sub('(card)', line))
    return line.replace('was on # ago', 'is on').replace(', or it was switched off since', '')


def check(network: Network, number: int) -> None:
    """Compare the output of a command with the page, which leaves out the steps that are as they should be."""
    command, expected = COMMANDS[number]
    printed, code = network.doctor(command)
    assert code == (0 if number == GOOD else 1), printed
    found = [clean(line) for line in printed]
    wanted = [clean(line) for line in expected]
    if number != GOOD:
        found = [line for line in found if line in wanted or not line.startswith(('✓', '-'))]
    assert found == wanted, command


def test_doctor_page(network: Network) -> None:
    assert len(COMMANDS) == 12
    with network.rigs() as rigs:
        rigs.wait_for('ready')
        for number in (GOOD, NO_WAY, NO_COMPUTER, REFUSED, KEY, FOREIGN, TLS, CUT):
            check(network, number)
        network.names({'camera': '10.203.77.99'}, {'camera': network.rig.address})
        check(network, DEAD_ADDRESS)
        network.names({'camera': network.rig.address})
        network.drop_fragments()
        check(network, FRAGMENTS)


def test_doctor_page_with_a_firewall(network: Network) -> None:
    with network.rigs() as rigs:
        rigs.wait_for('ready')
        assert network.doctor('echorig doctor camera')[1] == 0
        network.block_the_way_back()
        check(network, FIREWALL)


def test_doctor_page_with_a_wrong_clock(network: Network) -> None:
    with network.rigs('late') as rigs:
        rigs.wait_for('ready')
        check(network, CLOCK)
