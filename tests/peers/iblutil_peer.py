"""The controller of `iblutil_rig.py`: starts the process, sends commands and receives reports."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name('iblutil_rig.py')
PATIENCE = 30.0  # seconds; only a failure waits that long


class RemoteError(Exception):
    """An exception of iblutil, with the name of its type."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f'{kind}: {text}')
        self.kind = kind
        self.text = text


class IblutilProcess:
    """A process with iblutil communicators in it; an asynchronous context manager.

    Attributes
    ----------
    heard : asyncio.Queue of dict
        What its callbacks saw, as ``{event, com, data, addr}``.
    answered : asyncio.Queue of dict
        What became of the answers it sent, as ``{answered, com, error}``.
    """

    def __init__(self) -> None:
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.answered: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._begun: dict[int, asyncio.Future[None]] = {}
        self._ended: dict[int, asyncio.Future[Any]] = {}
        self._number = 0

    async def __aenter__(self) -> IblutilProcess:
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), stdin=pipe, stdout=pipe, limit=2**22
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), PATIENCE)
        except asyncio.TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise
        finally:
            await self._reader
        assert self.process.returncode == 0

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            what = json.loads(line)
            if 'begun' in what:
                self._begun.pop(what['begun']).set_result(None)
            elif 'event' in what:
                self.heard.put_nowait(what)
            elif 'answered' in what:
                self.answered.put_nowait(what)
            else:
                ended = self._ended.pop(what['id'])
                if 'error' in what:
                    ended.set_exception(RemoteError(what['error'], what['text']))
                else:
                    ended.set_result(what['ok'])
        for future in (*self._begun.values(), *self._ended.values()):
            if not future.done():
                future.set_exception(RemoteError('EOFError', 'the process has ended'))
                future.exception()  # there may be nobody to ask

    async def begin(self, do: str, **what: Any) -> asyncio.Future[Any]:
        """Send a command, wait until it has started, and return a future for its result."""
        assert self.process.stdin is not None
        loop = asyncio.get_running_loop()
        self._number += 1
        begun = self._begun[self._number] = loop.create_future()
        ended = self._ended[self._number] = loop.create_future()
        self.process.stdin.write(json.dumps({'id': self._number, 'do': do, **what}).encode() + b'\n')
        await self.process.stdin.drain()
        await asyncio.wait_for(begun, PATIENCE)
        return ended

    async def do(self, do: str, **what: Any) -> Any:
        """Give a command and return its result.

        Raises
        ------
        RemoteError
            What iblutil raised.
        """
        return await asyncio.wait_for(await self.begin(do, **what), PATIENCE)

    async def call(self, com: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of one of iblutil's communicators."""
        return await self.do('call', com=com, method=method, args=args, **kwargs)

    async def hear(self) -> dict[str, Any]:
        """Return the next report of one of its callbacks."""
        return await asyncio.wait_for(self.heard.get(), PATIENCE)

    async def has_answered(self, *coms: str) -> None:
        """Wait until these communicators have sent one answer each, and all were confirmed."""
        reports = [await asyncio.wait_for(self.answered.get(), PATIENCE) for _ in coms]
        assert {report['com']: report['error'] for report in reports} == dict.fromkeys(coms)

    async def nothing_more(self, com: str) -> bool:
        """Return whether the process has no more reports, after another round trip to it."""
        await self.do('state', com=com)
        return self.heard.empty() and self.answered.empty()
