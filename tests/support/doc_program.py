"""Run the Python blocks of one page in a process, one after another, in one namespace.

``python doc_program.py FILE``: the file is a list of blocks in JSON, each with `name`, `line`, `text`, `during` and
`until`. A block may use ``await`` at its top level, as in a notebook. `during` is code that runs in a task of its own,
from the moment at which the block waits. If `until` is not empty, the block has no end of its own: it is cancelled when
this text has been printed.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import sys
import types
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import echorig
from programs import Program

__all__ = ['IMPORTS', 'run_steps', 'step']

IMPORTS = (
    'import asyncio\nfrom echorig import EchoProtocol, ExpMessage, Services\nfrom echorig.testing import FakeRig\n'
)
"""str: What the blocks that are no whole programs use without an import."""


def step(name: str, text: str, line: int = 1, during: str = '', until: str = '') -> dict[str, str | int]:
    """Return a block for `run_steps`."""
    return {'name': name, 'line': line, 'text': text, 'during': during, 'until': until}


def run_steps(steps: list[dict[str, str | int]], folder: Path) -> list[str]:
    """Run blocks in a process whose working folder is `folder`; return the lines that they print."""
    file = folder / 'blocks.json'
    file.write_text(json.dumps(steps), 'utf-8')
    with Program('', command=[sys.executable, __file__, str(file)], folder=folder) as program:
        assert program.wait(90) == 0, program.output
    assert 'Traceback' not in program.output, program.output
    return program.lines


class Printed:
    """The standard output; it notices a text."""

    def __init__(self, until: str) -> None:
        self.until = until
        self.seen = asyncio.Event()
        self._stream, self._text = sys.stdout, ''

    def write(self, text: str) -> int:
        self._text += text
        if self.until in self._text:
            self.seen.set()
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


async def run_until(work: Coroutine[Any, Any, Any], until: str) -> None:
    """Run a block without an end until it has printed a text; an error of the block is raised."""
    printed = Printed(until)
    stdout, sys.stdout = sys.stdout, printed  # type: ignore[assignment]
    task = asyncio.ensure_future(work)
    seen = asyncio.ensure_future(printed.seen.wait())
    try:
        await asyncio.wait({task, seen}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        if not printed.seen.is_set():
            raise TimeoutError(f'the block has not printed {until!r}')
    finally:
        sys.stdout = stdout
        for one in (task, seen):
            one.cancel()
        await asyncio.wait({task, seen})


async def run_beside(work: Coroutine[Any, Any, Any], other: Coroutine[Any, Any, Any]) -> None:
    """Run a block, and other work from the moment at which the block waits."""
    await asyncio.gather(work, other)


def compiled(block: dict[str, Any], part: str) -> types.CodeType:
    """Return the code of a block or of what runs at the same time; a traceback names the line of the page."""
    text = '\n' * (block['line'] - 1) + block[part]
    return compile(text, block['name'], 'exec', ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def main() -> None:
    """Run the blocks of the file."""
    module = types.ModuleType('__main__')
    sys.modules['__main__'] = module  # data classes and pickles look their module up
    loop: asyncio.AbstractEventLoop | None = None
    for block in json.loads(Path(sys.argv[1]).read_text('utf-8')):
        code = compiled(block, 'text')
        if not code.co_flags & inspect.CO_COROUTINE:
            exec(code, module.__dict__)
            continue
        if loop is None:
            loop = asyncio.new_event_loop()
        work = eval(code, module.__dict__)
        if block['until']:
            work = run_until(work, block['until'])
        if block['during']:
            work = run_beside(work, eval(compiled(block, 'during'), module.__dict__))
        loop.run_until_complete(work)
    if loop is not None:
        loop.run_until_complete(end())
        loop.close()


async def end() -> None:
    """Close what the blocks have left open, as the end of a program does."""
    names = vars(sys.modules['__main__'])
    for value in [*names.values()]:
        if isinstance(value, (echorig.EchoProtocol, echorig.Services)):
            value.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)


if __name__ == '__main__':
    main()
