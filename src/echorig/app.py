"""The communicators, under their documented module name."""

from .communicator.protocol import EchoProtocol
from .main import main
from .services.services import Services

__all__ = ['EchoProtocol', 'Services', 'main']
