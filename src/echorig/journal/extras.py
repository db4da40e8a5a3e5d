"""Optional packages, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ['needed']


def needed(module: str, install: str, what: str) -> Any:
    """Import a module of an optional package, or raise an `ImportError` that says what to install."""
    try:
        return import_module(module)
    except ImportError as ex:
        package = module.partition('.')[0]
        raise ImportError(f'{what} needs {package}: pip install {install}') from ex
