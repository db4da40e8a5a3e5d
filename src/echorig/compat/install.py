"""`install`: puts echorig under the names of `iblutil.io.net` in this process, and in those that it starts."""

from __future__ import annotations

import logging
import os
import sys

from .._version import __version__
from ..checks import described, flag
from ..compatibility import Compatibility, put_in_force
from .environment import environment, switches_of
from .startup.echorig_finder import PACKAGE, IblutilFinder, is_installed

__all__ = ['AlreadyLoadedError', 'enter', 'install']

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_log = logging.getLogger('echorig.compat')
_switches: list[Compatibility] = []  # what `install` was called with, at most one
_reported: list[Compatibility] = []  # what the log has, at most one; `importlib.util.find_spec` also calls `enter`


class AlreadyLoadedError(ImportError):
    """`iblutil.io.net` is loaded already; two sets of its classes would not know each other."""


def install(compatibility: Compatibility | None = None, *, children: bool = True) -> None:
    """Put echorig under the names `iblutil.io.net`, ``.app`` and ``.base``.

    Call this before anything imports `iblutil.io.net`. When that happens, one line is logged. A second call changes the
    switches.

    Parameters
    ----------
    compatibility : Compatibility, optional
        What echorig does as iblutil did; by default everything.
    children : bool
        Whether this also holds for the Python processes that this process starts. They find it in their environment:
        ``PYTHONPATH`` and ``ECHORIG_COMPAT``.

    Raises
    ------
    AlreadyLoadedError
        `iblutil.io.net` has been imported from iblutil (an `ImportError`).
    TypeError
        An argument has a wrong type.
    """
    chosen = Compatibility() if compatibility is None else compatibility
    if not isinstance(chosen, Compatibility):
        raise TypeError(f'compatibility must be an echorig.compat.Compatibility, not {described(chosen)}')
    flag(children, 'children')
    _check_not_loaded()
    _switches[:] = [chosen]
    put_in_force(chosen)
    if not is_installed(*sys.meta_path):
        sys.meta_path.insert(0, IblutilFinder(enter))
    if children:
        os.environ.update(environment(chosen, os.environ))


def enter() -> str:
    """Put the switches in force, and return the folder with the modules; called when `iblutil.io.net` is imported."""
    if not _switches:  # this process was started by one that is switched
        _switches.append(switches_of(os.environ))
    (chosen,) = _switches
    put_in_force(chosen)
    if _reported != _switches:
        _reported[:] = _switches
        off = f', without {", ".join(chosen.off)}' if chosen.off else ''
        _log.warning('%s is echorig %s in this process (%s)%s', PACKAGE, __version__, os.getpid(), off)
    return _FOLDER


def _check_not_loaded() -> None:
    for name in (PACKAGE, f'{PACKAGE}.app', f'{PACKAGE}.base'):
        module = sys.modules.get(name)
        path = str(getattr(module, '__file__', None) or '')
        if module is not None and not os.path.abspath(path).startswith(_FOLDER + os.sep):
            raise AlreadyLoadedError(
                f'{name} is already loaded from {path or "elsewhere"}: call echorig.compat.install() before the first '
                f'import of {PACKAGE}, or start the program with "echorig as-iblutil"',
                name=name,
                path=path or None,
            )
