"""The optional package python-zeroconf: looked for at once, imported in a thread, since that takes a quarter second."""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType

from ..threads import in_thread

__all__ = ['check_installed', 'import_zeroconf']


def check_installed() -> None:
    """Raise ImportError if python-zeroconf is not installed; nothing is imported."""
    if find_spec('zeroconf') is None:
        raise ImportError("Discovery needs python-zeroconf: pip install 'echorig[discovery]'")


async def import_zeroconf() -> None:
    """Import python-zeroconf without holding up the event loop."""
    await in_thread(_import)


def _import() -> ModuleType:
    import zeroconf.asyncio

    return zeroconf.asyncio
