"""The packet captures and the programs in the documentation are real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from echorig.wire._tags import add_tag, crc32c, set_ack

ROOT = Path(__file__).parents[2]
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
    """The captures on the page are the output of `docs/captures.py`."""
    shown = blocks((ROOT / 'docs' / 'protocol.md').read_text('utf-8'))
    printed = blocks(run(SCRIPT))
    assert shown.keys() == printed.keys()
    assert shown == printed
    assert len(printed) >= 14


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('ordinary', ['echoed and delivered', 'confirmed']),
        ('plain', ['echoed; it is no message', 'dropped; rig is legacy', 'echoed and delivered', 'confirmed']),
        ('changed-address', ['echoed and delivered', 'lost', 'its address is now main-2', 'echoed, not delivered',
                             'confirmed', 'echoed and delivered; main is now main-2', 'confirmed',
                             'echoed and delivered', 'confirmed']),
        ('restart', ['echoed and delivered', 'lost', 'its program is started again', 'echoed and delivered',
                     'confirmed', 'echoed; rig was restarted', 'dropped; main is echorig', 'echoed and delivered',
                     'confirmed']),
        ('duplicate', ['echoed and delivered', 'confirmed', 'echoed, not delivered', 'dropped']),
        ('late-duplicate', ['echoed and delivered', 'confirmed', 'echoed, not delivered', 'dropped',
                            'sends 2,000 messages with send(); each is echoed and delivered',
                            'neither echoed nor delivered']),
        ('crossing', ['echoed and delivered', 'echoed and delivered', 'confirmed', 'confirmed']),
        ('damaged', ['dropped, damaged', 'echoed and delivered', 'confirmed']),
        ('expired', [*['dropped, expired'] * 7, 'EchoTimeoutError']),
        ('asked', ['kept until the sender has answered', 'EchoTimeoutError', 'kept until the sender has answered',
                   'echoed', 'echoed', 'dropped; what was kept is dropped, expired', 'dropped', 'echoed and delivered',
                   'confirmed']),
        ('unknown', ['lost', 'echoed', 'dropped; rig is echorig', 'echoed and delivered', 'confirmed']),
        ('loss', ['lost', 'echoed and delivered', 'lost', 'echoed, not delivered', 'confirmed']),
        ('plain-loss', ['echoed; it is no message', 'dropped; rig is legacy', 'echoed and delivered', 'lost',
                        'EchoTimeoutError']),
    ],
)  # fmt: skip
def test_recordings_show_what_they_are_for(name: str, said: list[str]) -> None:
    """Each capture shows the packets that the page describes, and no others."""
    text = run(SCRIPT, name)
    assert re.findall(r'^(?:[ \d.]+(?:ms|h) )? +(?:(?:main|rig): (?!\[)|(?=lost))(.*)$', text, re.MULTILINE) == said


@pytest.mark.parametrize('ack', [False, True])
def test_function_on_the_page(ack: bool) -> None:
    """The program on the page writes the same tags as echorig, and prints the checksum in hex."""
    page = (ROOT / 'docs' / 'protocol.md').read_text('utf-8')
    program = re.search(r'^```python\n(def tagged.*?)^```$', page, re.MULTILINE | re.DOTALL)
    assert program is not None
    names: dict[str, Callable[..., bytes]] = {}
    exec(program.group(1), names)
    run_of_page, checks = 0x2F6E1B03, re.findall(r'check\s+is (0x\w+) without the flag and (0x\w+) with it', page)
    frame = add_tag(b'[1, null]', run_of_page, 1234, 1000)
    assert names['tagged'](b'[1, null]', run_of_page, 1234, 1000, ack) == (set_ack(frame) if ack else frame)
    assert names['tagged'](b'[64, 20, "\xc3\xbc"]', 0x7FFFFFFF, 2**32 - 1) == add_tag(
        b'[64, 20, "\xc3\xbc"]', 0x7FFFFFFF, 2**32 - 1
    )
    words = [f'{int(check, 16):032b}'.replace('0', ' ').replace('1', '\t') for check in checks[0]]
    assert (set_ack(frame) if ack else frame)[-33:-1].decode() == words[ack]
    example = re.search(r'of these 20 bytes:\n\n```text\n(.*?)```', page, re.DOTALL)
    assert example is not None
    data = bytes.fromhex(''.join(line[:23] for line in example.group(1).splitlines()))
    assert crc32c(data) == int(checks[0][0], 16)
    assert f'exclusive-or 0x{int(checks[0][0], 16) ^ int(checks[0][1], 16):08x}' in page


@pytest.mark.slow
@pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
def test_program_on_the_page(tmp_path: Path, loop: str) -> None:
    """The programs in testing.md print the output in their comments."""
    page = (ROOT / 'docs' / 'testing.md').read_text('utf-8')
    programs = re.findall(r'^```python\n((?:from|import) .*?)^```$', page, re.MULTILINE | re.DOTALL)
    assert len(programs) == 2
    for program in programs:
        (tmp_path / 'program.py').write_text(program, 'utf-8')
        said = re.findall(r'print\(.*\)  # (.+)', program)
        assert run(tmp_path / 'program.py', ECHORIG_LOOP=loop).splitlines() == said
