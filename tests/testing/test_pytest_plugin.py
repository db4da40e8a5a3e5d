"""The fixtures for the tests of other programs: the example suite of the documentation, and failures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[2] / 'docs' / 'examples' / 'suite'


def run_pytest(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '--rootdir', str(folder), *args]
    if 'pytest_echorig' not in plugins():
        command += ['-p', 'pytest_echorig']  # it was not installed, only put on the path
    environment = {name: value for name, value in os.environ.items() if not name.startswith('PYTEST_')}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def plugins() -> set[str]:
    from importlib.metadata import entry_points

    return {point.value for point in entry_points(group='pytest11')}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    for path in SUITE.glob('*.py'):
        shutil.copy(path, tmp_path)
    (tmp_path / 'pytest.ini').write_text('[pytest]\nasyncio_mode = auto\n')
    return tmp_path


def test_the_example_suite(suite: Path) -> None:
    done = run_pytest(suite, '-k', 'not latency')
    assert '4 passed' in done.stdout, done.stdout


@pytest.mark.peers
def test_latency_is_compared_with_a_stored_run(suite: Path) -> None:
    pytest.importorskip('pytest_benchmark')
    for option in ('--benchmark-save=first', '--benchmark-compare'):
        done = run_pytest(suite, '-k', 'latency', '--benchmark-storage', str(suite / 'runs'), option)
        assert '1 passed' in done.stdout, done.stdout
    assert '0001_first' in done.stdout


def test_latency_without_pytest_benchmark(suite: Path) -> None:
    done = run_pytest(suite, '-k', 'latency', '-p', 'no:benchmark')
    assert 'pip install pytest-benchmark' in done.stdout, done.stdout
    assert 'Traceback' not in done.stdout


def test_a_run_without_the_fixtures_imports_no_echorig(tmp_path: Path) -> None:
    (tmp_path / 'test_other.py').write_text('import sys\n\ndef test(): assert "echorig" not in sys.modules\n')
    done = run_pytest(tmp_path)
    assert '1 passed' in done.stdout, done.stdout
