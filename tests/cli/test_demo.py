"""The demo, as a process of its own with real rigs."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import LOOPS

pytest.importorskip('rich')
from echorig.demo.session import EVENTS
from echorig.distribution import histogram, percentile

pytestmark = pytest.mark.slow

linux = pytest.mark.skipif(
    not hasattr(os, 'pidfd_open') or not os.path.isdir('/proc'), reason='looks at Linux processes'
)
REPLY = 30.0  # seconds, for what must come


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, 'COLUMNS': '120', 'LINES': '50', 'PYTHONIOENCODING': 'utf-8', **more}


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-m', 'echorig', 'demo', *args],
        env=environment(**env),
        capture_output=True,
        encoding='utf-8',
        timeout=100,
        check=False,
    )


def rows(out: str) -> dict[str, list[str]]:
    """Return the cells of the table, by name of the rig."""
    return {cells[0]: cells[1:] for line in out.splitlines() if len(cells := line.split()) == 9 and '://' in cells[1]}


@pytest.mark.parametrize('loop', list(LOOPS))
def test_a_small_demo(loop):
    done = run('--rigs', '2', '--tcp', '1', '--rounds', '3', ECHORIG_LOOP=loop)
    assert (done.returncode, done.stderr) == (0, '')
    sent = 3 * len(EVENTS)
    table = rows(done.stdout)
    assert list(table) == ['udp-1', 'udp-2', 'tcp-1']
    for name, (uri, kind, state, event, confirmed, again, p50, p99) in table.items():
        assert uri.startswith(f'{name[:3]}://127.0.0.1:')
        assert (kind, state, event, confirmed) == ('echorig', 'CONNECTED', 'EXPCLEANUP', str(sent))
        assert int(again) >= 0
        assert 0 < float(p50) <= float(p99)
    assert done.stdout.startswith('Round 3 of 3')
    assert done.stdout.count('Round 3 of 3') == 1  # only the end of it, where there is no terminal
    assert f'{3 * sent} of {3 * sent} confirmed; each rig received each of them once' in done.stdout
    assert '0 of 3 rigs' in done.stdout
    skew = re.search(r'Start skew +median (\d+\.\d\d) ms, at most (\d+\.\d\d) ms', done.stdout)
    assert skew
    assert float(skew[1]) <= float(skew[2])
    bars = re.findall(r'^ +\S+ - \S+ +\S*▏?[█▏▎▍▌▋▊▉]* +(\d+)$', done.stdout, re.MULTILINE)
    assert sum(map(int, bars)) == 3 * sent
    assert 'made up for this demo' in done.stdout
    assert not re.search(r'[0-9a-f]{20}', done.stdout)
    assert f', {loop}, Python' in done.stdout


def test_one_rig_has_no_skew():
    done = run('--rigs', '0', '--tcp', '1', '--rounds', '1')
    assert done.returncode == 0
    assert 'Start skew' not in done.stdout


def test_with_iblutil():
    pytest.importorskip('iblutil')
    done = run('--rigs', '1', '--tcp', '1', '--rounds', '3', '--with-iblutil')
    assert (done.returncode, done.stderr) == (0, '')
    assert rows(done.stdout)['iblutil'][1:5] == ['iblutil/MATLAB', 'CONNECTED', 'EXPCLEANUP', '21']
    assert '63 of 63 confirmed' in done.stdout


def test_without_iblutil(tmp_path):
    (tmp_path / 'iblutil.py').write_text('')  # hides an iblutil that is installed
    path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    done = run('--rigs', '1', '--tcp', '0', '--rounds', '1', '--with-iblutil', PYTHONPATH=path)
    assert done.returncode == 0
    assert 'iblutil is not installed' in done.stderr
    assert list(rows(done.stdout)) == ['udp-1']


def test_without_rich():
    code = 'import sys; sys.modules["rich"] = None; from echorig.cli.main import main; sys.exit(main(sys.argv[1:]))'
    command = [sys.executable, '-c', code, 'demo', '--rigs', '1', '--tcp', '1', '--rounds', '2']
    done = subprocess.run(command, env=environment(), capture_output=True, encoding='utf-8', timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.startswith('Round 2 of 2\n')
    assert [cells[4] for cells in rows(done.stdout).values()] == ['14', '14']
    assert '28 of 28 confirmed; each rig received each of them once' in done.stdout
    bars = re.findall(r'^ +\S+ - \S+ +█* +(\d+)$', done.stdout, re.MULTILINE)
    assert sum(map(int, bars)) == 28
    done = subprocess.run([*command, '--svg', 'x.svg'], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (2, '')
    assert "pip install 'echorig[cli]'" in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('args', [['--rigs', '0', '--tcp', '0'], ['--rigs', '65'], ['--rounds', '0'], ['--tcp', '-1']])
def test_bad_usage(args):
    done = run(*args)
    assert (done.returncode, done.stdout) == (2, '')


def test_picture(tmp_path):
    file = tmp_path / 'demo.svg'
    args = ['--rigs', '1', '--tcp', '0', '--rounds', '2', '--svg']
    assert run(*args, str(file)).returncode == 0
    texts = ''.join(ElementTree.fromstring(file.read_text(encoding='utf-8')).itertext()).replace('\xa0', ' ')
    for text in ('echorig demo', 'udp-1', '14 of 14 confirmed'):
        assert text in texts
    assert 'url(http' not in file.read_text(encoding='utf-8').replace('"', '')
    done = run(*args, str(tmp_path / 'nowhere' / 'demo.svg'))
    assert done.returncode == 2
    assert 'No picture was written' in done.stderr


class Watched:
    """A demo of one UDP and one TCP rig that runs in a terminal, with a table that changes."""

    def __init__(self) -> None:
        import pty

        self.terminal, other = pty.openpty()
        command = [sys.executable, '-m', 'echorig.demo', '--rigs', '1', '--tcp', '1', '--rounds', '5000']
        self.process = subprocess.Popen(
            command,
            env=environment(TERM='xterm'),
            stdin=subprocess.DEVNULL,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self.text = ''

    def read(self) -> bool:
        """Read some output; return False at the end."""
        assert select.select([self.terminal], [], [], REPLY)[0], f'nothing is shown after {self.text[-2000:]}'
        try:
            shown = os.read(self.terminal, 65536)
        except OSError:  # how Linux says that nobody holds the other end
            return False
        self.text += re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', shown.decode('utf-8', 'replace'))
        return bool(shown)

    def read_until(self, pattern: str) -> None:
        while not re.search(pattern, self.text):
            assert self.read(), f'{pattern} is not shown in {self.text[-2000:]}'

    def finish(self) -> int:
        """Read to the end and return the exit code."""
        while self.read():
            pass
        return self.process.wait(REPLY)

    def rigs(self) -> dict[str, int]:
        """Return the process of each rig."""
        found = {}
        for entry in Path('/proc').iterdir():
            if entry.name.isdecimal():
                try:
                    parent = int(entry.joinpath('stat').read_text().rpartition(')')[2].split()[1])
                    command = entry.joinpath('cmdline').read_bytes().split(b'\0')
                except OSError:  # it has just ended
                    continue
                if parent == self.process.pid and b'--name' in command:
                    found[command[command.index(b'--name') + 1].decode()] = int(entry.name)
        return found


@pytest.fixture
def watched() -> Iterator[Watched]:
    demo = Watched()
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.kill()
        demo.process.wait(REPLY)
        os.close(demo.terminal)


def watch(pids: dict[str, int]) -> dict[str, int]:
    return {name: os.pidfd_open(pid) for name, pid in pids.items()}


def all_end(handles: dict[str, int]) -> bool:
    """Return whether all of these processes end."""
    try:
        return all(select.select([handle], [], [], REPLY)[0] for handle in handles.values())
    finally:
        for handle in handles.values():
            os.close(handle)


@linux
@pytest.mark.parametrize(('killed', 'other'), [('udp-1', 'tcp-1'), ('tcp-1', 'udp-1')])
def test_a_dead_rig_is_named_and_the_others_continue(watched, killed, other):
    watched.read_until(r'Round [1-9][0-9,]* of 5,000')
    rigs = watched.rigs()
    assert sorted(rigs) == ['tcp-1', 'udp-1']
    handles = watch({other: rigs[other]})
    os.kill(rigs[killed], signal.SIGKILL)
    watched.read_until(f'{killed} .*FAILED')
    watched.text = ''
    watched.read_until(rf'Round [1-9][0-9,]* of 5,000[^$]*{other} .*(RUNNING|CONNECTED|INITIALIZED|STOPPED)')
    os.killpg(watched.process.pid, signal.SIGINT)  # as Ctrl-C does, to all processes of the terminal
    assert watched.finish() == 1
    assert '1 of 2 rigs' in watched.text
    assert re.search(rf'{killed}: \w+Error: ', watched.text)
    assert f'{other}: ' not in watched.text
    assert 'Traceback' not in watched.text
    assert all_end(handles)


@linux
def test_the_demo_ends_without_rigs(watched):
    watched.read_until(r'Round [1-9][0-9,]* of 5,000')
    for pid in watched.rigs().values():
        os.kill(pid, signal.SIGKILL)
    assert watched.finish() == 1
    assert '2 of 2 rigs' in watched.text


@linux
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_and_its_rigs(watched, number):
    watched.read_until(r'Round [1-9][0-9,]* of 5,000')
    handles = watch(watched.rigs())
    assert len(handles) == 2
    watched.process.send_signal(number)
    assert watched.finish() == 1
    assert '0 of 2 rigs' in watched.text
    assert 'ended before the last round' in watched.text
    assert 'Traceback' not in watched.text
    assert all_end(handles)


@linux
def test_rigs_do_not_outlive_a_demo_that_is_killed(watched):
    watched.read_until(r'Round [1-9][0-9,]* of 5,000')
    handles = watch(watched.rigs())
    assert len(handles) == 2
    watched.process.kill()
    assert all_end(handles)


def test_percentile():
    values = list(range(1, 101))
    assert [percentile(values, share) for share in (0, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7.0


def test_histogram():
    assert histogram([0.25, 0.25, 1.0, 1.49]) == [
        (0.2, 0.3, 2),
        (0.3, 0.5, 0),
        (0.5, 0.7, 0),
        (0.7, 1.0, 0),
        (1.0, 1.5, 2),
    ]
