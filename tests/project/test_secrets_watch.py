"""The watch for secrets detects every leak: leaking test suites in separate processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
OTHER = 'feedfacedead'  # what the tokens of such a run are made of: this run must not find them

LEAKS = {
    'log': ("logging.getLogger('a.rig').debug('sent %s', TOKEN)", 'a log record'),
    'argument': ("log(['%.3s', TOKEN])", 'a log record'),
    'traceback': ("try:\n        raise ValueError(TOKEN)\n    except ValueError:\n        log_exception()", 'a log'),
    'warning': ("with pytest.warns(UserWarning):\n        warnings.warn(TOKEN)", 'a warning'),
    'print': ('print(TOKEN)', 'Captured stdout'),
    'error stream': ('os.write(2, TOKEN.encode())', 'Captured stderr'),
    'read output': ("print(TOKEN); request.getfixturevalue('capsys').readouterr()", 'Captured stdout'),
    'child': ('subprocess.run(ECHO, stdout=subprocess.PIPE)', 'a child process'),
    'line of a child': ('child = subprocess.Popen(ECHO, stdout=subprocess.PIPE)\n    child.stdout.readline()\n'
                        '    child.communicate()', 'a child process'),
    'child of a loop': ('asyncio.run(ask())', 'a child process'),
    'expected error': ('with pytest.raises(ValueError):\n        raise ValueError(TOKEN)', 'an expected ValueError'),
    'cause': ('with pytest.raises(ValueError):\n        try:\n            raise KeyError(TOKEN)\n'
              '        except KeyError as ex:\n            raise ValueError from ex', 'an expected ValueError'),
    'task': ('asyncio.run(forget())', 'a log record'),
    'unraisable': ('Bad().__del__ and Bad()', 'warning'),
    'failure': ("assert TOKEN == ''", 'the report of'),
}  # fmt: skip

SUITE = """
import asyncio, gc, logging, os, subprocess, sys, warnings
import pytest
from secrets_watch import token
TOKEN = token()
ECHO = [sys.executable, '-c', f'import sys; sys.stderr.write({TOKEN!r}); print({TOKEN!r})']

def log(args):
    logging.getLogger('a.rig').info(*args)

def log_exception():
    logging.getLogger('a.rig').exception('no')

async def ask():
    child = await asyncio.create_subprocess_exec(*ECHO, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    await child.communicate()

async def forget():
    async def fail():
        raise ValueError(TOKEN)
    task = asyncio.ensure_future(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()

class Bad:
    def __del__(self):
        raise ValueError(TOKEN)

def test_leak(request):
    __LEAK__

def test_nothing():
    pass
"""


def run(folder: Path, leak: str) -> subprocess.CompletedProcess[str]:
    Path(folder, 'test_suite.py').write_text(SUITE.replace('__LEAK__', leak))
    path = os.pathsep.join([str(TESTS), *sys.path])
    return subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'secrets_watch', '-p', 'no:cacheprovider', '--rootdir', '.', '.'],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': path, 'ECHORIG_TEST_TOKEN': OTHER},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_suite_without_leaks(tmp_path):
    done = run(tmp_path, 'assert len(TOKEN) == 40')
    assert done.returncode == 0, done.stdout
    assert '2 passed' in done.stdout


@pytest.mark.parametrize('how', LEAKS)
def test_a_leak_is_found(tmp_path, how):
    leak, where = LEAKS[how]
    done = run(tmp_path, leak)
    assert done.returncode == 1, done.stdout
    assert where in done.stdout
    assert 'a token was shown in' in done.stdout or 'tokens shown' in done.stdout
