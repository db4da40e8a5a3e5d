"""The messages, statuses, signatures and addresses, under their documented module name."""

from .callbacks import is_success
from .communicator import Communicator
from .messages import PROTOCOL_VERSION, ExpMessage, ExpStatus
from .names import external_ip, hostname2ip, validate_uri
from .service import Service
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
