"""The network tests of iblutil and of iblrig, as they are, on echorig.

They are only in the repositories of these packages. ``ECHORIG_UPSTREAM`` is a folder with clones, ``iblutil`` and
``iblrig``; without it, or if what they need is not installed, these tests are skipped. docs/moving.md names the
tests that are left out, and the reasons.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

UPSTREAM = os.environ.get('ECHORIG_UPSTREAM')
NEED_INTERNET = ['test_external_ip', 'test_parse_uri']
IBLRIG_TESTS = ['iblrig/test/test_net.py', 'iblrig/test/tasks/test_network_task.py', 'iblrig/test/test_video.py']

pytestmark = [
    pytest.mark.skipif(not UPSTREAM, reason='ECHORIG_UPSTREAM names no folder with clones of iblutil and iblrig'),
    pytest.mark.slow,  # they use fixed ports, so only one may run at a time
]


def clone(name: str) -> Path:
    """Return the folder of a clone."""
    folder = Path(UPSTREAM or '', name).absolute()
    if not folder.is_dir():
        pytest.skip(f'there is no {folder}')
    return folder


def run(folder: Path, loop: str, *tests: str, without: list[str]) -> str:
    """Run tests with echorig under the names of iblutil, and return the summary; pytest captures no log line."""
    words = ['-m', 'echorig.compat', '-m', 'pytest', '-q', '-s', '-c', os.devnull, '--rootdir', '.', *tests]
    plugins = [
        option for name in ('cacheprovider', 'benchmark', 'echorig', 'logging') for option in ('-p', f'no:{name}')
    ]
    chosen = ['-k', ' and '.join(f'not {name}' for name in without)] if without else []
    done = subprocess.run(
        [sys.executable, *words, *plugins, *chosen],
        cwd=folder,
        env={**os.environ, 'ECHORIG_LOOP': loop},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-10_000:]
    assert 'iblutil.io.net is echorig' in done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.timeout(700)
@pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
def test_iblutil(loop, tmp_path):
    pytest.importorskip('iblutil')
    (tmp_path / 'test_net.py').write_bytes((clone('iblutil') / 'iblutil' / 'tests' / 'test_net.py').read_bytes())
    summary = run(tmp_path, loop, 'test_net.py', without=NEED_INTERNET)
    assert re.search(r'\b25 passed, 2 deselected\b', summary), summary


@pytest.mark.timeout(700)
def test_iblrig():
    folder = clone('iblrig')
    tried = [sys.executable, '-c', 'import iblrig.net, iblrig.base_tasks, iblrig.video']
    if (done := subprocess.run(tried, cwd=folder, capture_output=True, text=True, check=False, timeout=300)).returncode:
        pytest.skip(f'iblrig cannot be imported here: {done.stderr.splitlines()[-1]}')
    assert re.search(r'\b\d+ passed\b', run(folder, '', *IBLRIG_TESTS, without=[]))
