"""The communicators, under their documented module name."""

from .entry import main
from .protocol import EchoProtocol
from .services import Services

__all__ = ['EchoProtocol', 'Services', 'main']
