"""Two computers with a cable between them: network namespaces, which only root can make, and only on Linux.

Names are made unique by the number of this process, and everything is removed whatever happens.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ['IMPOSSIBLE', 'LONGEST', 'Host', 'confirmed', 'ip', 'rest_of', 'two_hosts', 'two_networks']

END = Path(__file__).with_name('namespace_end.py')
ETC = Path('/etc/netns')  # `ip netns exec` mounts the files of a namespace over those of /etc
LONGEST = 60.0  # seconds

counter = itertools.count()


def ip(*arguments: str) -> None:
    subprocess.run(['ip', *arguments], check=True, capture_output=True, text=True, timeout=LONGEST)


def why_not() -> str | None:
    """Return why there can be no namespaces here, or None if there can."""
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


@dataclass
class Host:
    """One of the two computers."""

    namespace: str
    device: str
    address: str

    def start(self, loop: str, *arguments: str, program: Path = END, **environment: str) -> subprocess.Popen[str]:
        """Start a program on this computer, by default an end of a session."""
        return subprocess.Popen(
            ['ip', 'netns', 'exec', self.namespace, sys.executable, '-u', str(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, 'ECHORIG_LOOP': loop, **environment},
        )

    def ip(self, *arguments: str) -> None:
        """Run the ip program on this computer."""
        ip('-n', self.namespace, *arguments)

    def plug(self, state: str) -> None:
        """Set this end of the cable up or down."""
        self.ip('link', 'set', self.device, state)

    def add_address(self, address: str) -> None:
        self.ip('addr', 'add', f'{address}/24', 'dev', self.device)

    def remove_address(self, address: str) -> None:
        self.ip('addr', 'del', f'{address}/24', 'dev', self.device)

    def name_hosts(self, text: str) -> None:
        """Write the file of host names that programs on this computer see; also while they run."""
        folder = ETC / self.namespace
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'hosts').write_text(text)


@contextmanager
def two_hosts() -> Iterator[dict[str, Host]]:
    """Make a main PC and a rig, and a cable between them."""
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
        one.ip('link', 'add', one.device, 'type', 'veth', 'peer', 'name', other.device, 'netns', other.namespace)
        for host in pair.values():
            host.add_address(host.address)
            for device in ('lo', host.device):
                host.ip('link', 'set', device, 'up')
        yield pair
    finally:
        for name in made:
            ip('netns', 'del', name)
            shutil.rmtree(ETC / name, ignore_errors=True)


@contextmanager
def two_networks() -> Iterator[dict[str, Host]]:
    """Make a main PC and a rig in two networks, and a router between them; its `device` leads to the rig."""
    stem = f'er{os.getpid()}x{next(counter)}'
    hosts = {
        'main': Host(f'{stem}a', f'{stem}a', '10.203.77.1'),
        'rig': Host(f'{stem}b', f'{stem}b', '10.203.78.2'),
        'router': Host(f'{stem}r', f'{stem}d', '10.203.78.254'),
    }
    main, rig, router = hosts.values()
    made = []
    try:
        for host in hosts.values():
            ip('netns', 'add', host.namespace)
            made.append(host.namespace)
            host.ip('link', 'set', 'lo', 'up')
        for host, device in ((main, f'{stem}c'), (rig, router.device)):
            host.ip('link', 'add', host.device, 'type', 'veth', 'peer', 'name', device, 'netns', router.namespace)
            host.add_address(host.address)
            host.plug('up')
            gateway = host.address.rpartition('.')[0] + '.254'
            router.ip('addr', 'add', f'{gateway}/24', 'dev', device)
            router.ip('link', 'set', device, 'up')
            host.ip('route', 'add', 'default', 'via', gateway)
        ip('netns', 'exec', router.namespace, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward')
        yield hosts
    finally:
        for name in made:
            ip('netns', 'del', name)
            shutil.rmtree(ETC / name, ignore_errors=True)


def rest_of(process: subprocess.Popen[str]) -> str:
    """Close the input of a program and return what it still prints until its end; after `LONGEST` it is killed.

    `communicate` would lose the lines that an earlier `readline` has left in the buffer.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    limit = threading.Timer(LONGEST, process.kill)
    limit.start()
    try:
        with contextlib.suppress(BrokenPipeError):  # it has ended
            process.stdin.close()
        text = process.stdout.read()
        process.wait()
    finally:
        limit.cancel()
    return text


def confirmed(process: subprocess.Popen[str], n: int) -> list[str]:
    """Return the next n lines that a program prints."""
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(n)]
