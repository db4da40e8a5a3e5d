"""The messages, statuses, signatures and addresses, under their documented module name."""

from .communicator.base import Communicator
from .communicator.service import Service
from .events.callbacks import is_success
from .messages import PROTOCOL_VERSION, ExpMessage, ExpStatus
from .resolver import external_ip, hostname2ip, validate_uri
from .uri import LISTEN_PORT, is_valid_ip

__all__ = [
    'LISTEN_PORT',
    'PROTOCOL_VERSION',
    'Communicator',
    'ExpMessage',
    'ExpStatus',
    'Service',
    'external_ip',
    'hostname2ip',
    'is_success',
    'is_valid_ip',
    'validate_uri',
]
