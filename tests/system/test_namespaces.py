"""Two hosts with a cable between them, which is unplugged during a session: real network namespaces.

Only root can make them, and only Linux has them: elsewhere these tests are skipped. Names are made unique by the
number of this process, and everything is taken down whatever happens.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

END = Path(__file__).parents[1] / 'support' / 'namespace_end.py'
LONGEST = 60.0  # seconds
N_MESSAGES = 60
N_BEFORE = 20  # confirmed before the cable is unplugged
UNPLUGGED = 0.5  # seconds
TIMEOUT = 30.0  # seconds; outlasts the break by far, and ARP may need seconds to look again

counter = itertools.count()


def ip(*arguments: str) -> None:
    subprocess.run(['ip', *arguments], check=True, capture_output=True, text=True, timeout=LONGEST)


def why_not() -> str | None:
    """Say why there can be no namespaces here, or None if there can."""
    if not hasattr(os, 'geteuid') or shutil.which('ip') is None:
        return 'network namespaces need Linux and the ip program'
    if os.geteuid() != 0:
        return 'network namespaces need root'
    name = f'erp{os.getpid()}'
    try:
        ip('netns', 'add', name)
        try:
            ip('netns', 'exec', name, 'true')
        finally:
            ip('netns', 'del', name)
    except subprocess.SubprocessError as ex:
        return f'ip netns does not work here: {getattr(ex, "stderr", "") or ex}'.strip()
    return None


IMPOSSIBLE = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(IMPOSSIBLE is not None, reason=str(IMPOSSIBLE))]


@dataclass
class Host:
    """One of the two hosts."""

    namespace: str
    device: str
    address: str

    def start(self, loop: str, *arguments: str) -> subprocess.Popen[str]:
        """Start an end of the session on this host."""
        return subprocess.Popen(
            ['ip', 'netns', 'exec', self.namespace, sys.executable, '-u', str(END), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, 'ECHORIG_LOOP': loop},
        )

    def plug(self, state: str) -> None:
        """Set this end of the cable up or down."""
        ip('-n', self.namespace, 'link', 'set', self.device, state)


@pytest.fixture
def hosts() -> Iterator[dict[str, Host]]:
    """A main PC and a rig, and a cable between them."""
    stem = f'er{os.getpid()}x{next(counter)}'
    pair = {
        'main': Host(f'{stem}a', f'{stem}a', '10.203.77.1'),
        'rig': Host(f'{stem}b', f'{stem}b', '10.203.77.2'),
    }
    made = []
    try:
        for host in pair.values():
            ip('netns', 'add', host.namespace)
            made.append(host.namespace)
        one, other = pair.values()
        # Made inside of the namespaces, the cable never touches the machine's own network, and goes with them.
        ip('-n', one.namespace, 'link', 'add', one.device, 'type', 'veth', 'peer', 'name', other.device,
           'netns', other.namespace)  # fmt: skip
        for host in pair.values():
            ip('-n', host.namespace, 'addr', 'add', f'{host.address}/24', 'dev', host.device)
            for device in ('lo', host.device):
                ip('-n', host.namespace, 'link', 'set', device, 'up')
        yield pair
    finally:
        for name in made:
            ip('netns', 'del', name)


def confirmed(process: subprocess.Popen[str], n: int) -> list[str]:
    """Return the next n lines of what a program prints."""
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(n)]


@pytest.mark.parametrize('unplugged', ['main', 'rig'])
@pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
def test_cable_unplugged(hosts: dict[str, Host], loop: str, unplugged: str) -> None:
    """Every message is confirmed and heard once and in order, at whichever end the cable is pulled."""
    with hosts['rig'].start(loop, 'rig', hosts['rig'].address) as rig:
        try:
            (uri,) = confirmed(rig, 1)
            assert uri.startswith(f'udp://{hosts["rig"].address}:')
            with hosts['main'].start(loop, 'main', uri, str(N_MESSAGES), str(TIMEOUT)) as main:
                try:
                    lines = confirmed(main, N_BEFORE)
                    hosts[unplugged].plug('down')
                    time.sleep(UNPLUGGED)  # this is how long the cable is out
                    assert main.poll() is None  # it was in the middle of the session
                    hosts[unplugged].plug('up')
                    rest, _ = main.communicate(timeout=LONGEST)
                    lines += rest.splitlines()
                finally:
                    main.kill()
            heard, _ = rig.communicate(timeout=LONGEST)
        finally:
            rig.kill()
    assert lines == [str(number) for number in range(N_MESSAGES)]
    assert json.loads(heard) == list(range(N_MESSAGES))
    assert (main.returncode, rig.returncode) == (0, 0)
