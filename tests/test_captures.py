"""The pages on the protocol and on testing show what really happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / 'docs' / 'captures.py'
BLOCK = re.compile(r'^<!-- capture: ([\w-]+) -->\n```text\n.*?^```\n', re.MULTILINE | re.DOTALL)


def run(*arguments: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, '-W', 'error', *map(str, arguments)],
        capture_output=True,
        encoding='utf-8',
        env={**os.environ, 'PYTHONUTF8': '1', **environment},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, '')
    return done.stdout


def blocks(text: str) -> dict[str, str]:
    return {match.group(1): match.group(0) for match in BLOCK.finditer(text)}


def test_recordings_on_the_page() -> None:
    """They are what `docs/captures.py` prints, all of them."""
    shown = blocks((ROOT / 'docs' / 'protocol.md').read_text('utf-8'))
    printed = blocks(run(SCRIPT))
    assert shown.keys() == printed.keys()
    assert shown == printed
    assert len(printed) >= 6


@pytest.mark.parametrize(
    ('name', 'delivered', 'confirmed', 'lost'),
    [('ordinary', 1, 1, 0), ('loss', 1, 1, 2), ('duplicate', 1, 1, 0), ('unknown', 1, 1, 1), ('crossing', 2, 2, 0),
     ('plain', 1, 1, 0), ('plain-loss', 1, 0, 1)],
)  # fmt: skip
def test_recordings_show_what_they_are_for(name: str, delivered: int, confirmed: int, lost: int) -> None:
    text = run(SCRIPT, name)
    assert [text.count(word) for word in (' delivered\n', ': confirmed\n', ' lost\n')] == [
        delivered + text.count('not delivered'),
        confirmed,
        lost,
    ]
    assert ('EchoTimeoutError' in text) is (confirmed == 0)


@pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
def test_program_on_the_page(tmp_path: Path, loop: str) -> None:
    """The programs in testing.md print what they say."""
    page = (ROOT / 'docs' / 'testing.md').read_text('utf-8')
    programs = re.findall(r'^```python\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)
    assert len(programs) == 2
    for program in programs:
        (tmp_path / 'program.py').write_text(program, 'utf-8')
        said = re.findall(r'print\(.*\)  # (.+)', program)
        assert run(tmp_path / 'program.py', ECHORIG_LOOP=loop).splitlines() == said
