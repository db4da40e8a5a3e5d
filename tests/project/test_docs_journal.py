"""docs/journal.md: every block runs, one after the other, with the journals in docs/examples/journal."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from echorig.cli.main import main
from echorig.journal import check, read, starts
from echorig.journal.tables import COLUMNS
from echorig.testing import FakeRig
from programs import Program

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'journal.md').read_text('utf-8')
JOURNALS = ROOT / 'docs' / 'examples' / 'journal'
BLOCK = re.compile(r'^```(\w+)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
REMOTE = 'udp://192.168.0.12:11001'


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like docs, in which the programs run."""
    shutil.copytree(JOURNALS, tmp_path / 'examples' / 'journal')
    (tmp_path / 'plots').mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MPLBACKEND', 'Agg')
    return tmp_path


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(PAGE) if kind == language]


def test_python_blocks(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ('matplotlib', 'pyarrow', 'pynwb'):
        pytest.importorskip(package)
    assert PAGE.count(REMOTE) == 1
    monkeypatch.setenv('PYTHONPATH', ':'.join(path for path in sys.path if path))
    with FakeRig() as camera:
        program = '\n'.join(blocks('python')).replace(REMOTE, camera.uri)
        with Program(program) as process:
            assert process.wait(90) == 0, process.output
    assert check(docs / 'session.jsonl').is_complete
    sent = [fields['event'] for fields in read(docs / 'session.jsonl') if fields['kind'] == 'sent']
    assert sent == ['EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP']
    assert process.lines[-1] == 'True'
    pictures = re.findall(r'\]\((plots/journal.*\.png)\)', PAGE)
    assert len(pictures) == 3
    for picture in pictures:
        assert (docs / picture).stat().st_size > 5000
        assert (ROOT / 'docs' / picture).exists()


def test_commands(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip('matplotlib')
    shutil.copy(JOURNALS / 'main.jsonl', docs / 'session.jsonl')
    commands = [line[2:] for block in blocks('console') for line in block.splitlines() if line.startswith('$ ')]
    assert len(commands) == 6
    for command in commands:
        words = shlex.split(command, comments=True)
        assert words.pop(0) == 'echorig'
        assert main(words) == 0, command
        if '--export' not in words and '--plot' not in words and '--since' not in words:
            assert len(capsys.readouterr().out) > 100, command


def test_fields() -> None:
    """The page describes each field, and no others."""
    table = PAGE[PAGE.index('## The fields') : PAGE.index('## Analyse it')]
    named = {name for row in re.findall(r'^\| (`.*?) \|', table, re.MULTILINE) for name in re.findall(r'`(\w+)`', row)}
    assert named == COLUMNS.keys() - {'session_time', 'utc'}
    found = {name for fields in read(JOURNALS) if fields['kind'] != 'session' for name in fields}
    assert found <= named | {'drift'}
    first = next(fields for fields in read(JOURNALS) if fields['kind'] == 'session')
    assert {'version', 'host', 'pid', 'program', 'time_zone', 'utc_offset'} <= first.keys()


def test_journals_of_the_page() -> None:
    assert check(JOURNALS).is_complete
    assert [start.receipts.keys() for start in starts(JOURNALS)] == [{'camera', 'ephys', 'imaging'}] * 5


@pytest.mark.slow
def test_recording(tmp_path: Path) -> None:
    """The program that has recorded them works."""
    text = (JOURNALS / 'record.py').read_text('utf-8')
    (tmp_path / 'record.py').write_text(text, 'utf-8')
    done = subprocess.run(
        [sys.executable, tmp_path / 'record.py', tmp_path], capture_output=True, text=True, timeout=100, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, '')
    assert {path.name for path in tmp_path.glob('*.jsonl')} == {path.name for path in JOURNALS.glob('*.jsonl')}
    assert check(tmp_path).is_complete
