"""Delivery: retransmission, echoes, duplicates.

Programs that freeze packages read only Python code, so modules that only compiled code uses are imported here.
"""

import errno

from . import _expiry, _peer, _peer_table, _transmitter

__all__ = ['_expiry', '_peer', '_peer_table', '_transmitter', 'errno']
