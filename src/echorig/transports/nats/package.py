"""The optional package nats-py: looked for at once, imported in a thread, since that takes a tenth of a second."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from ...threads import in_thread

__all__ = ['check_installed', 'import_client']


def check_installed() -> None:
    """Raise ImportError if nats-py is not installed; nothing is imported."""
    if find_spec('nats') is None:
        raise ImportError("A nats:// URI needs nats-py: pip install 'echorig[nats]'")


async def import_client() -> None:
    """Import nats-py without holding up the event loop."""
    await in_thread(import_module, f'{__package__}.client')
