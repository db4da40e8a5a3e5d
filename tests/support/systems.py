"""What this system lacks; the same where `tests/support/windows` takes it away."""

from __future__ import annotations

import os
import socket

import pytest

from echorig import EchoTimeoutError, PeerUnreachableError

__all__ = ['NOBODY', 'REPORTS_REFUSALS', 'RefusedError', 'needs_fork', 'needs_refusals', 'needs_reuse_port']

REPORTS_REFUSALS = hasattr(os, 'fork')
"""bool: Whether a UDP socket learns that nobody listens. The event loops of Windows ignore that."""

RefusedError: type[EchoTimeoutError] = PeerUnreachableError if REPORTS_REFUSALS else EchoTimeoutError
"""type: The error of a message over UDP to an address where nobody listens."""

NOBODY = 'Nobody listens' if REPORTS_REFUSALS else 'did not echo'
"""str: What that error says."""

needs_fork = pytest.mark.skipif(not hasattr(os, 'fork'), reason='processes cannot be forked')
needs_refusals = pytest.mark.skipif(not REPORTS_REFUSALS, reason='UDP reports no refusals')
needs_reuse_port = pytest.mark.skipif(not hasattr(socket, 'SO_REUSEPORT'), reason='needs SO_REUSEPORT')
