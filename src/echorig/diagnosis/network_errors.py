"""All errors that routers and other computers report to a UDP socket of Linux, also those it does not count as final.

Without this option (IP_RECVERR, see ip(7)) a socket is told that nobody listens, and not that there is no way.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import Any

__all__ = ['ask_for_errors', 'forget_errors']

_RECVERR, _RECVERR_6, _ERROR_QUEUE = 11, 25, 0x2000  # of <linux/in.h>, <linux/in6.h> and <linux/socket.h>


def ask_for_errors(sock: Any) -> None:
    """Let the system report all errors to a socket, where it can."""
    if sys.platform == 'linux':
        with contextlib.suppress(OSError):
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, _RECVERR_6, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _RECVERR, 1)


def forget_errors(sock: Any) -> None:
    """Empty the queue of errors of a socket, which would wake the event loop again and again."""
    if sys.platform == 'linux':
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as copy:
            copy.setblocking(False)
            while True:
                copy.recvmsg(1, 512, _ERROR_QUEUE)
