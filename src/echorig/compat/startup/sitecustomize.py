"""Runs when Python starts in the environment of `echorig.compat`: prepares it to load echorig as `iblutil.io.net`.

1. echorig is loaded when the program imports `iblutil.io.net`, and not before.
2. The `sitecustomize` that this one hides runs afterwards.
3. If this Python has no echorig, it loads iblutil, and says so on stderr.
4. Every Python on the computer can read this file, also one that is too old for iblutil.
"""

# mypy: allow-untyped-defs, allow-untyped-calls
import os
import sys

TYPE_CHECKING = False  # the import of `typing` takes milliseconds, in every process
_HERE = os.path.dirname(os.path.abspath(__file__))


def _prepare():
    if TYPE_CHECKING:
        from .echorig_finder import PACKAGE, SWITCHES, IblutilFinder
    else:  # here this is no module of a package
        from echorig_finder import PACKAGE, SWITCHES, IblutilFinder

    def enter():
        from echorig.compat.install import enter

        return enter()

    class Finder(IblutilFinder):
        def find_spec(self, fullname, path=None, target=None):
            try:
                return super().find_spec(fullname, path, target)
            except ImportError as ex:
                text = 'echorig cannot be used as {} by {}: {}\n'
                sys.stderr.write(text.format(PACKAGE, sys.executable, ex))
                return None

    if os.environ.get(SWITCHES):
        sys.meta_path.insert(0, Finder(enter))


def _run_hidden():
    """Run the next `sitecustomize` on the path, as Python would without this one."""
    from importlib.machinery import PathFinder

    spec = PathFinder.find_spec('sitecustomize')
    if spec is not None and spec.loader is not None:
        from importlib.util import module_from_spec

        module = module_from_spec(spec)
        sys.modules['sitecustomize'] = module
        spec.loader.exec_module(module)


if __name__ == 'sitecustomize':
    is_known = sys.version_info >= (3, 8)
    try:
        if is_known:
            _prepare()
    finally:
        # The program shall see its own path; the environment goes on to its children.
        sys.path[:] = [path for path in sys.path if os.path.abspath(path) != _HERE]
        if is_known:
            _run_hidden()
