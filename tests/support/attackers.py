"""Attackers in a process of their own: many connections of one address that behave in one bad way.

``python attackers.py HOW FROM HOST PORT N`` opens N connections; it says ``ready`` when all have been tried, and ends
when its standard input does.

- ``silent``: say nothing;
- ``drip``: begin a message and go on with one byte at a time;
- ``deaf``: send messages and never read;
- ``unfinished``: send as much of an endless message as is taken.
"""

from __future__ import annotations

import select
import socket
import sys

MESSAGE = b'[64, 20, "' + b'x' * 60_000 + b'"]'


def opened(source: str, host: str, port: int, n: int) -> list[socket.socket]:
    """Open connections; those that the server has closed meanwhile are no failure."""
    socks = []
    for _ in range(n):
        sock = socket.socket()
        sock.bind((source, 0))
        try:
            sock.connect((host, port))
        except OSError:
            sock.close()
        else:
            sock.setblocking(False)
            socks.append(sock)
    return socks


def push(sock: socket.socket, data: bytes) -> bool:
    """Send what is taken; tell whether the connection is still there."""
    try:
        while sock.send(data) == len(data) > 1:
            pass
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True


def main(how: str, source: str, host: str, port: str, n: str) -> None:
    try:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ImportError, ValueError):
        pass
    socks = opened(source, host, int(port), int(n))
    data = {'silent': b'', 'drip': b'[', 'deaf': MESSAGE, 'unfinished': b'["' + b'x' * 60_000}[how]
    print('ready', flush=True)
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        if data:
            socks = [sock for sock in socks if push(sock, data)]
        if how == 'unfinished':
            data = b'x' * 60_000
    for sock in socks:
        sock.close()


if __name__ == '__main__':
    main(*sys.argv[1:])
