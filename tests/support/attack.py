"""Attackers in a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

SUPPORT = Path(__file__).parent


@contextlib.asynccontextmanager
async def attackers(how, server, n, source='127.0.0.66'):
    """Attackers in a process of their own."""
    command = [sys.executable, str(SUPPORT / 'attackers.py')]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, how, source, server.hostname, str(server.port), str(n), stdin=pipe, stdout=pipe
    )
    try:
        assert await process.stdout.readline() == b'ready\n'
        yield process
    finally:
        process.stdin.close()
        await process.wait()
