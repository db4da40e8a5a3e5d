"""`IblutilFinder`: finds the modules of echorig for the names of `iblutil.io.net`.

1. This module imports nothing of echorig, because every Python process of a switched program reads it at its start.
2. `iblutil` and `iblutil.io` are those that are installed. If there are none, they are empty packages.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder

TYPE_CHECKING = False  # the import of `typing` takes milliseconds, in every process
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

__all__ = ['PACKAGE', 'SWITCHES', 'IblutilFinder', 'is_installed']

PACKAGE = 'iblutil.io.net'
"""str: The package whose name echorig takes."""
SWITCHES = 'ECHORIG_COMPAT'
"""str: The environment variable with the switches that are on."""


class IblutilFinder:
    """A finder for `sys.meta_path`; `enter` is called when the package is imported, and returns the folder it is in."""

    takes = PACKAGE  # marks the class, which a child process loads under another name

    def __init__(self, enter: Callable[[], str]) -> None:
        self._enter = enter

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where to load a module from; None if it is not ours."""
        if fullname == PACKAGE:
            return PathFinder.find_spec(fullname, [self._enter()])
        if PACKAGE.startswith(f'{fullname}.'):
            for finder in sys.meta_path:
                if not is_installed(finder) and (spec := finder.find_spec(fullname, path, target)) is not None:
                    return spec
            return ModuleSpec(fullname, None, is_package=True)
        return None


def is_installed(*finders: object) -> bool:
    """Return whether one of these finders is an `IblutilFinder`, also of another copy of this module."""
    return any(getattr(finder, 'takes', None) == PACKAGE for finder in finders)
