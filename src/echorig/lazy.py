"""`lazy_attributes`: names of a package that are imported when they are used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ['lazy_attributes']


def lazy_attributes(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package (PEP 562); `modules` has the module of each name, inside of the package."""

    def get(name: str) -> object:
        if name not in modules:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        value = getattr(import_module(f'.{modules[name]}', package), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
