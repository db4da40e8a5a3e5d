"""``echorig journal``: shows, filters, follows, checks, exports and plots."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from echorig.cli.main import main
from echorig.journal import Journal
from programs import Program


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / 'session.jsonl'
    with Journal(path) as journal:
        camera, ephys = (journal.recorder(name, 'client') for name in ('camera', 'ephys'))
        for rig in (camera, ephys):
            rig.note('connection', state='opened', uri='udp://127.0.0.1:11001')
            rig.note('sent', b'[2, "2026-01-31_1_mouse7", {"fps": 60}]', ('127.0.0.1', 11001))
        camera.note('confirmed', b'[2, "2026-01-31_1_mouse7"]', ('127.0.0.1', 11001), 2, rtt=0.0005)
        ephys.note('failed', b'[2, "2026-01-31_1_mouse7"]', ('127.0.0.1', 11001), reason='ephys did not echo')
        ephys.note('notice', b'[0, "OSError: no disk", 2]')
        ephys.note('sent', b'[4, null]')
        ephys.note('clock', None, ('127.0.0.1', 11001), offset=0.25, error=0.0001)
    return path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[str]:
    assert main(['journal', *arguments]) == code
    return capsys.readouterr().out.splitlines()


def test_show(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, str(path))
    assert len(lines) == 10
    assert 'EXPSTART' in lines[2]
    assert 'camera' in lines[2]
    assert '["2026-01-31_1_mouse7",{"fps":60}]' in lines[2]
    text = '\n'.join(lines)
    for part in (
        '500 µs, sent 2 times',
        'ephys did not echo',
        'no disk',
        'opened udp://',
        '+250.000 ± 0.100 ms',
        'pid ',
    ):
        assert part in text


@pytest.mark.parametrize(
    ('arguments', 'n'),
    [
        (['--rig', 'camera'], 3),
        (['--rig', 'camera', '--rig', 'ephys'], 9),
        (['--event', 'expstart'], 5),
        (['--event', 'EXPEND'], 1),
        (['--kind', 'failed', '--kind', 'notice'], 2),
        (['--kind', 'sent', '--rig', 'ephys', '--event', 'EXPSTART'], 1),
        (['--since', '10m'], 10),
        (['--since', '2000-01-01T10:00'], 10),
        (['--since', '2999-01-01'], 0),
    ],
)
def test_filters(path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], n: int) -> None:
    assert len(shown(capsys, str(path), *arguments)) == n
    records = [json.loads(line) for line in shown(capsys, str(path), '--json', *arguments)]
    assert len(records) == n


def test_check(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert '10 records' in '\n'.join(shown(capsys, str(path), '--check'))
    with open(path, 'ab') as file:
        file.write(b'{"kind": "sent", "ti')
    assert '1 lines are torn' in '\n'.join(shown(capsys, str(path), '--check', code=1))
    [line] = shown(capsys, str(path), '--check', '--json', code=1)
    found = json.loads(line)
    assert (found['lines'], found['torn'], found['missing'], found['lost'], found['complete']) == (10, 1, 0, 0, False)


def test_export_and_plot(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip('matplotlib')
    lines = shown(capsys, str(path), '--export', str(tmp_path / 'x.csv'), '--plot', str(tmp_path / 'x.svg'))
    assert lines == [f'10 rows in {tmp_path / "x.csv"}', f'drawn in {tmp_path / "x.svg"}']
    assert (tmp_path / 'x.csv').read_text('utf-8').count('\n') == 11
    assert (tmp_path / 'x.svg').exists()


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['{folder}/none'], 'There is no journal'),
        (['{path}', '--export', '{folder}/x.doc'], 'target must end with'),
        (['{path}', '--export', '{folder}/none/x.csv'], 'No such file'),
    ],
)
def test_bad_usage(path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    given = [argument.format(path=path, folder=path.parent) for argument in arguments]
    assert main(['journal', *given]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count('\n') == 1


def test_time_that_is_none(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(['journal', str(path), '--since', 'tomorrow'])
    assert ending.value.code == 2
    assert 'is no time such as' in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == 'win32', reason='signals of POSIX')
def test_follow(path: Path) -> None:
    """New records appear until Ctrl-C."""
    program = "import sys\nfrom echorig.cli.main import main\nsys.exit(main(['journal', '-f', sys.argv[1]]))"
    with Program(program, str(path)) as process:
        process.wait_for('no disk')
        with Journal(path) as journal:
            journal.recorder('laser', 'client').note('sent', b'[16, "stop"]')
        process.wait_for('laser')
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert 'Traceback' not in process.output


@pytest.mark.skipif(sys.platform == 'win32', reason='a pipe that closes')
def test_reader_that_goes_away(path: Path) -> None:
    command = f'{sys.executable} -m echorig journal {path} | head -n 1'
    done = subprocess.run(['sh', '-c', command], capture_output=True, text=True, timeout=60)
    assert done.stdout.count('\n') == 1
    assert done.stderr == ''
