"""``echorig as-iblutil`` and ``python -m echorig.compat``, as processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipapp
from pathlib import Path

import pytest

from programs import Program

FACES = {'command': ['-m', 'echorig', 'as-iblutil'], 'module': ['-m', 'echorig.compat']}
PROGRAM = """
    import os, sys
    from iblutil.io.net.app import EchoProtocol

    if __name__ == '__main__':
        print(EchoProtocol.__module__.partition('.')[0], sys.argv[1:], os.path.basename(sys.path[0]), __file__)
        sys.exit(int(os.environ.get('CODE', '0')))
"""


each_face = pytest.mark.parametrize('face', [[sys.executable, *words] for words in FACES.values()], ids=list(FACES))


@pytest.fixture
def face() -> list[str]:
    """The one that starts sooner; `each_face` is for tests of both."""
    return [sys.executable, *FACES['module']]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / 'folder').mkdir()
    path = tmp_path / 'folder' / 'main_pc.py'
    path.write_text(textwrap.dedent(PROGRAM))
    return path


def run(words: list[str], cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, **variables},
        input='typed\n',
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@each_face
def test_a_script(face, script):
    """Its arguments are its own, also those that the command has too; and so is the exit code."""
    done = run([*face, str(script), 'a', '--without', '-m', '--help'], CODE='7')
    assert done.returncode == 7, done
    assert done.stdout == f"echorig ['a', '--without', '-m', '--help'] folder {script}\n"
    assert done.stderr.startswith('iblutil.io.net is echorig')
    assert done.stderr.count('\n') == 1


@each_face
def test_a_module(face, script):
    done = run([*face, '-m', 'main_pc', '-m', 'x'], cwd=script.parent)
    assert done.returncode == 0, done
    assert done.stdout.startswith("echorig ['-m', 'x'] folder ")


def test_a_folder_and_an_archive(face, script, tmp_path):
    script.rename(script.parent / '__main__.py')
    assert run([*face, str(script.parent), 'x']).stdout.startswith("echorig ['x'] folder ")
    zipapp.create_archive(script.parent, tmp_path / 'main_pc.pyz')
    assert run([*face, str(tmp_path / 'main_pc.pyz'), 'x']).stdout.startswith("echorig ['x'] main_pc.pyz ")


@pytest.mark.parametrize('end', [[], ['--']])
def test_a_command(face, script, end):
    """Such as the one of this Python, which is found although its folder is not in PATH."""
    name = Path(sys.executable).name
    done = run([*face, *end, name, str(script), 'x'], PATH=os.defpath)
    assert done.stdout.startswith("echorig ['x'] folder "), done


def test_a_command_with_the_name_of_a_folder(face, script, tmp_path):
    """Such as ``pytest`` in a project that has a folder of this name."""
    name = Path(sys.executable).name
    (tmp_path / name).mkdir()
    done = run([*face, name, str(script), 'x'], cwd=tmp_path)
    assert done.stdout.startswith("echorig ['x'] folder "), done


@pytest.mark.skipif(os.name != 'posix', reason='shell scripts')
def test_a_shell_script(face, script, tmp_path):
    """A lab starts several programs by one script."""
    shell = tmp_path / 'start_all'
    shell.write_text(f'#!/bin/sh\n"{sys.executable}" "{script}" one\n"{sys.executable}" "{script}" two\n')
    shell.chmod(0o755)
    done = run([*face, str(shell)])
    assert [line.split(' folder')[0] for line in done.stdout.splitlines()] == ["echorig ['one']", "echorig ['two']"]


def test_the_standard_streams(face, tmp_path):
    (tmp_path / 'reader.py').write_text('import sys\nprint(sys.stdin.readline().upper())\nsys.exit("failed")\n')
    done = run([*face, str(tmp_path / 'reader.py')])
    assert (done.returncode, done.stdout, done.stderr) == (1, 'TYPED\n\n', 'failed\n')


def test_a_traceback_is_that_of_the_program(face, tmp_path):
    (tmp_path / 'broken.py').write_text('def f():\n    raise RuntimeError("broken")\nf()\n')
    done = run([*face, str(tmp_path / 'broken.py')])
    assert done.returncode == 1
    assert done.stderr.count('File "') == 2
    assert 'echorig' not in done.stderr


@each_face
def test_switches(face, tmp_path):
    (tmp_path / 'p.py').write_text(
        'import iblutil.io.net\nfrom echorig.compatibility import in_force\nprint(*in_force().off)\n'
    )
    done = run([*face, '--without', 'console_log', '--without=cancel_waiters', str(tmp_path / 'p.py')])
    assert done.stdout == 'cancel_waiters console_log\n', done


@pytest.mark.parametrize(
    ('words', 'text'),
    [
        ([], 'give the program to run'),
        (['-m'], 'give the program to run'),
        (['--without', 'console_log'], 'give the program to run'),
        (['--without'], 'expected one argument'),
        (['--without', 'colours', 'x.py'], 'Unknown switch colours; choose from'),
        (['no-such-file.py'], 'there is no file no-such-file.py'),
        (['no-such-command'], 'there is no program no-such-command'),
        (['--frobnicate', 'x.py'], 'unrecognized arguments: --frobnicate'),
    ],
)
def test_bad_usage_is_one_line(face, words, text):
    done = run([*face, *words])
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.count('\n') == 1
    assert text in done.stderr


@each_face
def test_help(face):
    done = run([*face, '--help'])
    assert done.returncode == 0
    assert 'cancel_waiters' in done.stdout
    assert 'as-iblutil' in run([sys.executable, '-m', 'echorig', '--help']).stdout


@pytest.mark.skipif(os.name != 'posix', reason='POSIX signals')
def test_ctrl_c_reaches_the_program(tmp_path):
    """The command replaces itself by the program, so there is no process between the terminal and the program."""
    import signal

    (tmp_path / 'p.py').write_text(
        'import os, time\ntry:\n    print(os.getpid(), flush=True)\n    time.sleep(100)\n'
        'except KeyboardInterrupt:\n    print("interrupted", flush=True)\n'
    )
    text = 'import sys\nfrom echorig.cli.main import main\nsys.exit(main(["as-iblutil", sys.argv[1]]))'
    with Program(text, str(tmp_path / 'p.py')) as program:
        assert program.wait_for(str(program.process.pid)) == str(program.process.pid)
        program.send_signal(signal.SIGINT)
        program.wait_for('interrupted')
        assert program.wait() == 0
