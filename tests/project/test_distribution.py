"""The archive of the sources is reproducible, and a wheel has what it should; `.ci/run` tests the installed wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from echorig.wire import _codec

ROOT = Path(__file__).parents[2]
BUILT = ('*.so', '*.pyd', '*.c', '*.egg-info', '__pycache__', '.*', 'build', 'dist', '_build')

MODULES = {path.relative_to(ROOT / 'ext').with_suffix('') for path in ROOT.glob('ext/echorig/*/_*.pyx')}
POSIX_ONLY = {Path('echorig/transports/_datagram'), Path('echorig/transports/_stream')}
COMPILED = {'.so', '.pyd'}


def tools() -> None:
    pytest.importorskip('Cython')
    pytest.importorskip('setuptools', '77')


def sdist(folder: Path, mtime: int, umask: int, more: str = '') -> bytes:
    """Return the archive that is made of a copy of the sources in a folder."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*BUILT))
    with open(folder / 'README.md', 'a', encoding='utf-8') as file:
        file.write(more)
    for path in folder.rglob('*'):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        os.utime(path, (mtime, mtime))
    environment = {key: value for key, value in os.environ.items() if key != 'SOURCE_DATE_EPOCH'}
    command = [sys.executable, 'setup.py', '-q', 'sdist']
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    (archive,) = (folder / 'dist').iterdir()
    return archive.read_bytes()


@pytest.mark.slow
def test_the_same_sources_give_the_same_archive(tmp_path: Path) -> None:
    tools()
    first = sdist(tmp_path / 'here', 1_700_000_000, 0o022)
    assert sdist(tmp_path / 'another' / 'folder', 1_600_000_000, 0o077) == first
    assert sdist(tmp_path / 'changed', 1_700_000_000, 0o022, more='More.\n') != first


@pytest.mark.parametrize('system', ['posix', 'nt'])
def test_the_transports_of_posix_are_left_out_elsewhere(system: str) -> None:
    tools()
    code = (
        'import os, runpy, sys, Cython.Build, setuptools.command.sdist;'
        f'sys.argv = ["setup.py", "egg_info"]; setuptools.setup = lambda **options: None; os.name = {system!r};'
        'print(*(extension.name for extension in runpy.run_path("setup.py")["extensions"]))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    built = {Path(name.replace('.', '/')) for name in done.stdout.split()}
    assert built == (MODULES if system == 'posix' else MODULES - POSIX_ONLY)
    assert built > POSIX_ONLY or system == 'nt'


def installed() -> list[Path]:
    """Return the paths of the files of a wheel, inside of it."""
    files = [Path(str(file)) for file in metadata.files('echorig') or ()]
    if Path('echorig/__init__.py') not in files:
        pytest.skip('echorig is not installed from a wheel')
    return files


def test_the_files_of_the_wheel() -> None:
    files = [path for path in installed() if path.parts[0] == 'echorig' and '__pycache__' not in path.parts]
    names = {path.parent / path.name.partition('.')[0] for path in files if path.suffix in COMPILED}
    assert names == MODULES - (POSIX_ONLY if os.name == 'nt' else set())
    assert {path.suffix for path in files} - COMPILED == {'.py', '.pyi', '.typed'}
    assert Path('echorig/py.typed') in files
    stubs = {path.with_suffix('') for path in files if path.suffix == '.pyi'}
    assert stubs == {path.relative_to(ROOT / 'src').with_suffix('') for path in ROOT.glob('src/echorig/*/*.pyi')}


def test_nothing_but_the_package_is_in_the_wheel() -> None:
    roots = {path.parts[0] for path in installed() if '__pycache__' not in path.parts} - {'..'}
    assert {re.sub(r'-.*\.dist-info$', '.dist-info', root) for root in roots} == {
        *('echorig', 'pytest_echorig.py', 'echorig.dist-info')
    }


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='of ELF files')
def test_the_compiled_modules_have_no_debug_info() -> None:
    installed()
    folder = Path(str(_codec.__file__)).parents[1]
    files = sorted(folder.rglob('*.so'))
    assert files
    assert [path.name for path in files if b'.debug_info' in path.read_bytes()] == []
