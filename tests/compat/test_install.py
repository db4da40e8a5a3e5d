"""`install()`: the modules of a process and of its children, as programs of their own.

`iblutil` is not needed: a folder with a package of this name stands for the one that is installed. The real one is
tested in tests/peers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from echorig.compat import Compatibility, install
from echorig.compat.environment import environment, switches_of

Run = Callable[..., subprocess.CompletedProcess[str]]
LOGGED = 'iblutil.io.net is echorig'
# Hides an installed iblutil: the finders of a program that has none.
HIDE = """
    import sys
    from importlib.machinery import PathFinder

    class Without:
        @staticmethod
        def find_spec(name, path=None, target=None):
            return None if name == 'iblutil' else PathFinder.find_spec(name, path, target)

    sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with an iblutil whose network module is not the one that is wanted."""
    folder = tmp_path / 'site'
    write(
        folder,
        {
            'iblutil/__init__.py': "__version__ = 'theirs'",
            'iblutil/util.py': "name = 'their util'",
            'iblutil/io/__init__.py': '',
            'iblutil/io/params.py': "name = 'their params'",
            'iblutil/io/net/__init__.py': 'from . import app, base',
            'iblutil/io/net/app.py': 'class EchoProtocol: ...',
            'iblutil/io/net/base.py': "name = 'their base'",
        },
    )
    return folder


@pytest.fixture
def run(tmp_path: Path, site: Path) -> Run:
    """Run a program that finds this iblutil."""

    def run(text: str, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
        write(tmp_path, {'program.py': text})
        paths = [str(site), *filter(None, [os.environ.get('PYTHONPATH', '')])]
        return subprocess.run(
            [sys.executable, str(tmp_path / 'program.py'), *args],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(paths), **variables},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done
    return done.stdout.splitlines()


def test_the_names_are_those_of_echorig(run: Run):
    done = run("""
        import echorig.compat
        echorig.compat.install()
        import echorig
        from iblutil.io import net
        from iblutil.io.net.app import EchoProtocol, Services
        from iblutil.io.net.base import Communicator, ExpMessage, ExpStatus, Service
        import iblutil, iblutil.util, iblutil.io.params

        assert EchoProtocol is echorig.EchoProtocol is net.app.EchoProtocol
        assert Services is echorig.Services
        assert (Communicator, Service) == (echorig.Communicator, echorig.Service)
        assert ExpMessage is echorig.ExpMessage is net.base.ExpMessage is net.app.base.ExpMessage
        assert ExpStatus is echorig.ExpStatus
        assert net is iblutil.io.net
        print(net.__name__, net.app.__name__, net.base.__name__)
        print(iblutil.__version__, iblutil.util.name, iblutil.io.params.name, net.app.util.name)
    """)
    names = 'iblutil.io.net iblutil.io.net.app iblutil.io.net.base'
    assert lines(done) == [names, 'theirs their util their params their util']
    assert done.stderr.count('\n') == 1, 'one line says so'
    assert LOGGED in done.stderr


def test_the_log_has_one_line_however_often_it_is_looked_for(run: Run):
    """As by test runners and IDEs, which call `find_spec`."""
    done = run("""
        import importlib.util
        import echorig.compat
        echorig.compat.install()
        for _ in range(3):
            assert importlib.util.find_spec('iblutil.io.net') is not None
        import iblutil.io.net
    """)
    assert done.stderr.count('\n') == 1
    assert LOGGED in done.stderr


def test_without_an_iblutil(run: Run):
    done = run(
        textwrap.dedent(HIDE)
        + textwrap.dedent("""
        try:
            import iblutil
        except ModuleNotFoundError:
            print('not installed')
        import echorig.compat
        echorig.compat.install()
        from iblutil.io import net
        import iblutil.io.net.app
        print(net.app.EchoProtocol.__module__.partition('.')[0])
        try:
            import iblutil.util
        except ModuleNotFoundError as ex:
            print(ex)
        """)
    )
    assert lines(done) == ['not installed', 'echorig', "No module named 'iblutil.util'"]


@pytest.mark.parametrize('loaded', ['iblutil.io.net', 'iblutil.io.net.base'])
def test_it_is_refused_if_theirs_is_loaded(run: Run, loaded: str):
    done = run(f"""
        import {loaded}
        import echorig.compat
        try:
            echorig.compat.install()
        except echorig.compat.AlreadyLoadedError as ex:
            assert isinstance(ex, ImportError)
            print(ex)
        import iblutil.io.net.app, os
        print(iblutil.io.net.app.EchoProtocol.__module__, 'ECHORIG_COMPAT' in os.environ)
    """)
    text, module = lines(done)
    assert text.startswith('iblutil.io.net is already loaded from')
    assert 'site' in text
    assert 'echorig as-iblutil' in text
    assert module == 'iblutil.io.net.app False'


def test_other_modules_of_iblutil_may_be_loaded(run: Run):
    done = run("""
        import iblutil.io.params, iblutil.util
        import echorig.compat
        echorig.compat.install()
        from iblutil.io.net import app
        print(app.EchoProtocol.__module__.partition('.')[0])
    """)
    assert lines(done) == ['echorig']


def test_twice(run: Run):
    """The second call changes the switches; that is no error, since a program and its library may both call it."""
    done = run("""
        import sys
        import echorig.compat
        from echorig.compat import Compatibility, install
        from echorig.compatibility import in_force

        install()
        finders = len(sys.meta_path)
        from iblutil.io.net import app
        install(Compatibility(console_log=False))
        assert len(sys.meta_path) == finders
        print(in_force().off)
        import iblutil.io.net
        assert iblutil.io.net.app is app
    """)
    assert lines(done) == ["('console_log',)"]
    assert done.stderr.count(LOGGED) == 1


@pytest.mark.parametrize('argument', [{'compatibility': 'all'}, {'compatibility': True}, {'children': 1}])
def test_arguments(argument: dict):
    with pytest.raises(TypeError):
        install(**argument)


def test_functions_that_were_replaced_before(run: Run):
    """A test may replace them before anything imports the network."""
    done = run("""
        import asyncio, socket

        def gethostbyname(name):
            return '127.0.0.1'

        async def wait_for(future, timeout):
            raise asyncio.TimeoutError

        socket.gethostbyname, asyncio.wait_for = gethostbyname, wait_for
        import echorig.compat
        echorig.compat.install(echorig.compat.Compatibility(console_log=False))
        from iblutil.io.net import app, base

        async def main():
            com = await app.EchoProtocol.client('a-rig-that-no-network-has:9')
            try:
                await com.init()
            except TimeoutError as ex:
                print(com.hostname, ex)
            com.close()

        asyncio.run(main())
    """)
    (line,) = lines(done)
    assert line.startswith('127.0.0.1 ')
    assert 'did not echo EXPINIT' in line


def test_left_out(run: Run):
    """Nothing stays behind: the next start of the same program without the line is iblutil again."""
    lines(run('import echorig.compat\nechorig.compat.install()\nfrom iblutil.io import net\n'))
    done = run('import echorig, iblutil.io.net.app\nprint(iblutil.io.net.app.EchoProtocol.__module__)\n')
    assert lines(done) == ['iblutil.io.net.app']
    assert done.stderr == ''


def test_the_import_of_compat_changes_nothing(run: Run):
    done = run('import echorig.compat, iblutil.io.net.app\nprint(iblutil.io.net.app.EchoProtocol.__module__)\n')
    assert lines(done) == ['iblutil.io.net.app']


# --- children ---

CHILDREN = """
    import multiprocessing, os, subprocess, sys
    import echorig.compat

    def module(_=None):
        import iblutil.io.net.app
        return iblutil.io.net.app.EchoProtocol.__module__.partition('.')[0]

    if __name__ == '__main__':
        echorig.compat.install(children={children})
        method = sys.argv[1]
        if method == 'subprocess':
            code = 'import iblutil.io.net.app as app; print(app.EchoProtocol.__module__.partition(".")[0])'
            subprocess.run([sys.executable, '-c', code], check=True)
        elif method == 'grandchild':
            inner = 'import iblutil.io.net.app as app; print(app.EchoProtocol.__module__.partition(".")[0])'
            code = f'import subprocess, sys; subprocess.run([sys.executable, "-c", {{inner!r}}], check=True)'
            subprocess.run([sys.executable, '-c', code], check=True)
        else:
            with multiprocessing.get_context(method).Pool(1) as pool:
                print(pool.map(module, [None])[0])
"""
METHODS = ['subprocess', 'grandchild', 'spawn', *(['fork', 'forkserver'] if sys.platform.startswith('linux') else [])]


@pytest.mark.parametrize('method', METHODS)
def test_children_are_switched(run: Run, method: str):
    assert lines(run(CHILDREN.format(children=True), method)) == ['echorig']


@pytest.mark.parametrize('method', ['subprocess', 'spawn'])
def test_children_are_not_switched(run: Run, method: str):
    assert lines(run(CHILDREN.format(children=False), method)) == ['iblutil']


def test_children_have_the_same_switches(run: Run):
    done = run("""
        import subprocess, sys
        from echorig.compat import Compatibility, install
        install(Compatibility(console_log=False, patched_names=False))
        code = 'import iblutil.io.net; from echorig.compatibility import in_force; print(*in_force().off)'
        subprocess.run([sys.executable, '-c', code], check=True)
    """)
    assert lines(done) == ['console_log patched_names']
    assert 'without console_log, patched_names' in done.stderr


def test_a_child_that_does_not_use_the_network_loads_no_echorig(run: Run):
    """Every Python process that the program starts has the environment; most use no network."""
    done = run("""
        import subprocess, sys
        import echorig.compat
        echorig.compat.install()
        code = 'import sys, iblutil.util; print(sorted({"echorig", "asyncio", "typing"} & set(sys.modules)))'
        subprocess.run([sys.executable, '-S', '-c', 'pass'], check=True)
        subprocess.run([sys.executable, '-c', code], check=True)
    """)
    (loaded,) = lines(done)
    assert 'echorig' not in loaded
    assert 'asyncio' not in loaded
    assert done.stderr == ''


def test_the_hidden_sitecustomize_runs(run: Run, site: Path):
    """PYTHONPATH puts ours before that of the computer; both run, and the path is that of before."""
    write(site, {'sitecustomize.py': 'import sys\nsys.theirs = __file__\n'})
    done = run("""
        import subprocess, sys
        import echorig.compat
        echorig.compat.install()
        code = '''if True:
            import os, sys
            import iblutil.io.net.app as app
            import sitecustomize
            print(app.EchoProtocol.__module__.partition(".")[0], os.path.basename(os.path.dirname(sys.theirs)))
            print(sitecustomize.__file__ == sys.theirs, any("startup" in path for path in sys.path))
        '''
        subprocess.run([sys.executable, '-c', code], check=True)
    """)
    assert lines(done) == ['echorig site', 'True False']


def test_a_sitecustomize_that_fails(run: Run, site: Path):
    """Python reports it and goes on, with ours as without."""
    write(site, {'sitecustomize.py': "raise RuntimeError('of this computer')\n"})
    done = run("""
        import subprocess, sys
        import echorig.compat
        echorig.compat.install()
        code = 'import iblutil.io.net.app as app; print(app.EchoProtocol.__module__.partition(".")[0])'
        subprocess.run([sys.executable, '-c', code], check=True)
    """)
    assert lines(done) == ['echorig']
    assert 'of this computer' in done.stderr


def test_a_python_without_echorig(run: Run, tmp_path: Path):
    """Such as the Python of another environment: it goes on with iblutil, and says so."""
    write(tmp_path, {'broken/echorig/__init__.py': "raise ImportError('echorig is not for this Python')\n"})
    done = run(
        """
        import os, subprocess, sys
        import echorig.compat
        echorig.compat.install()
        os.environ['PYTHONPATH'] += os.pathsep + sys.argv[1]
        code = '''if True:
            import sys
            sys.path.insert(0, sys.argv[1])
            import iblutil.io.net.app as app
            print(app.EchoProtocol.__module__)
        '''
        subprocess.run([sys.executable, '-c', code, sys.argv[1]], check=True)
        """,
        str(tmp_path / 'broken'),
    )
    assert lines(done) == ['iblutil.io.net.app']
    assert 'echorig cannot be used as iblutil.io.net by' in done.stderr
    assert 'echorig is not for this Python' in done.stderr


@pytest.mark.parametrize('off', [(), ('console_log',), Compatibility.names()])
def test_the_environment_is_read_as_it_was_written(off: tuple[str, ...]):
    switches = Compatibility.without(off)
    variables = environment(switches, {'PYTHONPATH': os.pathsep.join(['', 'a', 'b'])})
    assert switches_of(variables) == switches
    first, *others = variables['PYTHONPATH'].split(os.pathsep)
    assert (Path(first) / 'sitecustomize.py').is_file()
    assert others == ['', 'a', 'b']
    assert environment(switches, variables) == variables, 'a child of a child adds nothing'
