"""A process of its own that is iblutil, `iblutil.io.net`, told what to do in JSON lines.

Commands come on standard input, ``{"id": 1, "do": "call", ...}``; on standard output go
``{"begun": 1}`` when the work has reached its first wait, ``{"id": 1, "ok": result}`` or
``{"id": 1, "error": type, "text": text}`` when it has ended, and ``{"event": ...}`` for what callbacks see.
It ends when standard input does.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import socket
import sys
import time
from types import SimpleNamespace
from typing import Any

from iblutil.io.net.app import EchoProtocol, Services
from iblutil.io.net.base import ExpMessage

PATIENCE = 30.0  # seconds; a busy machine may be slow, and a timeout closes iblutil
EVENTS = list(ExpMessage.__members__.values())


class Rig:
    """The communicators of this process by name, and the commands on them."""

    def __init__(self, out: Any) -> None:
        self.out = out
        self.coms: dict[str, Any] = {}
        self.tasks: set[asyncio.Task[Any]] = set()

    def say(self, **what: Any) -> None:
        self.out.write(json.dumps(what).encode() + b'\n')
        self.out.flush()

    async def serve(self) -> None:
        """Start the commands in order; they may end in any order."""
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            what = json.loads(line)
            number = what.pop('id')
            self.keep(self.run(number, **what))
            await asyncio.sleep(0)  # the task takes its first step
            self.say(begun=number)
        for com in self.coms.values():
            com.close()

    def keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def run(self, number: int, do: str, **what: Any) -> None:
        try:
            result = await getattr(self, 'do_' + do)(**what)
        except (Exception, asyncio.CancelledError) as ex:
            self.say(id=number, error=type(ex).__name__, text=str(ex))
        else:
            self.say(id=number, ok=result)

    # --- commands ---

    async def do_open(self, com: str, role: str, uri: str) -> list[Any]:
        """Open a communicator and return its URI and its own address."""
        # A logger of ours: iblutil's own writes to standard output.
        log = logging.getLogger(f'iblutil.{com}')
        if role == 'client':
            opened = await EchoProtocol.client(uri, com, log)
        else:
            opened = await self._listen(uri, com, log)
        opened.default_echo_timeout = PATIENCE
        self.coms[com] = opened
        own = (opened.hostname, opened.port)
        return [opened.server_uri, own if role == 'server' else opened._transport.get_extra_info('sockname')]

    async def _listen(self, uri: str, com: str, log: logging.Logger) -> Any:
        """Listen on a free port. iblutil rejects port 0, so another program may take the port first."""
        kind = socket.SOCK_DGRAM if uri.startswith('udp') else socket.SOCK_STREAM
        for attempt in range(20):
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.bind(('127.0.0.1', 0))
                port = sock.getsockname()[1]
            try:
                return await EchoProtocol.server(f'{uri}:{port}', com, log)
            except OSError:
                if attempt == 19:
                    raise
        return None

    async def do_listen(self, com: str, how: str, events: list[str] | None = None, **more: Any) -> None:
        """Register callbacks that report each message, and then answer, fail or send a token.

        With `until` they first block the whole process until there is a file of that name.
        """
        for event in EVENTS if events is None else [ExpMessage.validate(event) for event in events]:
            self.coms[com].assign_callback(event, self._callback(com, how, event, **more))

    def _callback(self, com: str, how: str, event: Any, text: str = '', token: Any = None, until: str = '') -> Any:
        rig = self.coms[com]

        def callback(data: list[Any], addr: tuple[str, int]) -> None:
            self.say(event=event.name, com=com, data=data, addr=addr)
            while until and not os.path.exists(until):  # a rig that is busy with its hardware hears nothing
                time.sleep(0.005)
            if how == 'answer':
                self.keep(self.sending(com, event.name, rig.confirmed_send([int(event), *data], addr=addr)))
            elif how == 'token':
                self.keep(self.sending(com, event.name, rig.alyx(SimpleNamespace(**token), addr=addr)))
            elif how == 'fail':
                raise ValueError(text)

        return callback

    async def sending(self, com: str, event: str, work: Any) -> None:
        """Send an answer and report the outcome."""
        try:
            await work
        except (Exception, asyncio.CancelledError) as ex:
            self.say(answered=event, com=com, error=f'{type(ex).__name__}: {ex}')
        else:
            self.say(answered=event, com=com, error=None)

    async def do_call(self, com: str, method: str, args: list[Any], **kwargs: Any) -> Any:
        """Call a method of a communicator and return its result."""
        if 'addr' in kwargs:
            kwargs['addr'] = tuple(kwargs['addr'])
        if method == 'alyx':
            args = [SimpleNamespace(**arg) if arg else None for arg in args]
        result = getattr(self.coms[com], method)(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    async def do_services(self, coms: list[str], method: str, args: list[Any], timeout: float, **kwargs: Any) -> Any:
        """Call a method of iblutil's Services over some of its communicators."""
        services = Services([self.coms[com] for com in coms], timeout=timeout)
        if method == 'alyx':
            args = [SimpleNamespace(**arg) for arg in args]
        return await getattr(services, method)(*args, **kwargs)

    async def do_confirmed(self, com: str) -> None:
        """Wait for the echo of the last message of a communicator."""
        waiting = [future for _, future in self.coms[com]._last_sent.values()]
        if waiting:
            await asyncio.wait(waiting)

    async def do_block(self, seconds: float) -> None:
        """Report that the loop blocks, and block it, like a rig that is busy with its hardware."""

        def block() -> None:
            self.say(event='blocked', seconds=seconds)
            time.sleep(seconds)

        asyncio.get_running_loop().call_soon(block)

    async def do_state(self, com: str) -> list[bool]:
        """Return whether a communicator is connected, and whether it waits for an echo."""
        return [bool(self.coms[com].is_connected), bool(self.coms[com].awaiting_response())]

    async def do_close(self, com: str) -> None:
        self.coms[com].close()


if __name__ == '__main__':
    # Whatever a library prints must not get between the lines of the control channel.
    with os.fdopen(os.dup(1), 'wb') as control:
        os.dup2(2, 1)
        asyncio.run(Rig(control).serve())
