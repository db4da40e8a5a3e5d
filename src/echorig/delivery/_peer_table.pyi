from typing import final

from ._expiry import ExpiryChecks
from ._transmitter import Transmitter

@final
class PeerTable:
    def __init__(self, transmitter: Transmitter, expiry_checks: ExpiryChecks) -> None: ...
