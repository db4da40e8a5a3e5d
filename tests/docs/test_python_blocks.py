"""Every Python block of the documentation runs, with real sockets, as a user would copy it.

The blocks of a page run one after another in one process. The scene of a page has what the page takes for granted, such
as a rig; only addresses and paths are replaced. A block that listens on the address of a rig is a program of its own:
it is started, and a main PC sends it a start.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from doc_blocks import Block, all_blocks, select
from doc_program import IMPORTS, run_steps, step
from echorig import sync
from lab import free_port
from programs import Program

LISTENS = "'udp://0.0.0.0:11001'"
REFERENCE = '2026-01-31_1_mouse7'
ELSEWHERE = {'README.md', 'docs/journal.md', 'docs/discovery.md', 'docs/nats.md'}  # see test_all_blocks.py
PYTHON = [block for block in select(all_blocks(), 'python') if block.page not in ELSEWHERE]
RIGS = [block for block in PYTHON if LISTENS in block.text]
PARTS = [block for block in PYTHON if block not in RIGS]


@dataclass
class Scene:
    """What the blocks of a page take for granted."""

    before: str = ''
    """str: Code that runs before the first block."""
    during: dict[int, str] = field(default_factory=dict)
    """dict: Code that runs while the block of this index waits."""
    until: dict[int, str] = field(default_factory=dict)
    """dict: For blocks without an end: the text after which they are cancelled."""
    after: str = ''
    """str: Code that checks what the blocks have done."""
    replace: dict[str, str] = field(default_factory=dict)
    """dict: Addresses and paths, each of which the page must have."""
    printed: tuple[str, ...] = ()
    """tuple: Texts that must be printed."""


SCENES = {
    'docs/connections.md': Scene(
        before="rig = await FakeRig('tcp://127.0.0.1:0').__aenter__()",
        replace={"'tcp://192.168.0.12'": 'rig.uri'},
        during={2: 'await rig.power_off()'},
        until={2: 'lost'},
        printed=('lost',),
    ),
    'docs/doctor.md': Scene(
        replace={'udp://camera': f'udp://127.0.0.1:{free_port()}'}, printed=('no program listens on the port',)
    ),
    'docs/presence.md': Scene(
        before="""
camera, scanner = await FakeRig().__aenter__(), await FakeRig(kind='iblutil').__aenter__()
rigs = await Services.connect({'camera': camera.uri, 'scanner': scanner.uri})
""",
        printed=("{'camera': 0.0", 'camera online'),
    ),
    'docs/protocol.md': Scene(
        before="""
rig = await FakeRig().__aenter__()
com = await EchoProtocol.client(rig.uri, 'camera')
await com.info('RUNNING')
""",
        printed=('echorig 1 0 0 ',),
    ),
    'docs/security.md': Scene(
        before="""
import os
os.environ['LAB_KEY'] = '0123456789abcdef' * 4
with open('lab.key', 'w') as file:
    file.write(os.environ['LAB_KEY'] + '\\n')
rig = await EchoProtocol.server('udp://127.0.0.1:0', 'camera', key=os.environ['LAB_KEY'])
""",
        replace={
            "'udp://192.168.0.12'": 'rig.server_uri',
            "'udp://0.0.0.0'": "'udp://127.0.0.1:0'",
            '/etc/lab.key': 'lab.key',
        },
        after="""
await camera.info('RUNNING')
async with await EchoProtocol.client(com.server_uri, 'camera', key=os.environ['LAB_KEY']) as other:
    await other.info('RUNNING')
""",
    ),
    'docs/settings.md': Scene(
        replace={
            "'udp://0.0.0.0'": "'udp://127.0.0.1:0'",
            'main-pc.lab.org': 'localhost',
            "'tls://0.0.0.0:11001'": "'tls://127.0.0.1:0'",
            "'tls://camera.lab.org:11001'": 'com.server_uri',
            "'tcp://0.0.0.0'": "'tcp://127.0.0.1:0'",
        },
        after='await camera.info("RUNNING")\nassert context.verify_mode == ssl.CERT_REQUIRED',
    ),
    'docs/streams.md': Scene(
        before="""
com = await EchoProtocol.server('udp://127.0.0.1:0', 'camera')
main_pc = await EchoProtocol.client(com.server_uri, 'camera')

async def work(data):
    print('work on', data)
""",
        during={0: "await main_pc.info('RUNNING', 'dim')", 1: f"await main_pc.start('{REFERENCE}')"},
        until={0: "EXPINFO [20, 'dim']", 1: 'work on'},
        printed=("EXPINFO [20, 'dim']", f"work on ['{REFERENCE}', None]"),
    ),
}


def steps(page: str) -> list[dict[str, str | int]]:
    """Return the blocks of a page and of its scene, for the program that runs them."""
    scene, blocks = SCENES.get(page, Scene()), select(PARTS, 'python', page)
    for old in scene.replace:
        assert any(old in block.text for block in blocks), f'{page} has no {old!r} any more'

    found = [step(f'scene of {page}', IMPORTS + scene.before)]
    for number, block in enumerate(blocks):
        text = block.text
        for old, new in scene.replace.items():
            text = text.replace(old, new)
        found.append(step(page, text, block.line, scene.during.get(number, ''), scene.until.get(number, '')))
    return [*found, step(f'end of the scene of {page}', scene.after)]


def shown(blocks: list[Block]) -> list[str]:
    """Return the outputs that comments behind calls of `print` show."""
    return [text for block in blocks for text in re.findall(r'^ *print\(.*\)  # (.+)$', block.text, re.MULTILINE)]


def fits(expected: str, line: str) -> bool:
    """Return whether a line is the one of the page; `...` stands for any text, and figures may differ beside it."""
    if '...' not in expected:
        return expected == line
    pattern = re.escape(expected).replace(re.escape('...'), '.*')
    return re.fullmatch(re.sub(r'\d+(\\\.\d+)?', r'[\\d.e-]+', pattern), line) is not None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with the files that the pages name."""
    trustme = pytest.importorskip('trustme')
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / 'lab-authority.pem')
    certificate = authority.issue_cert('127.0.0.1', 'localhost')
    certificate.private_key_pem.write_to_path(tmp_path / 'camera.key')
    for part in certificate.cert_chain_pems:
        part.write_to_path(tmp_path / 'camera.pem', append=True)
    return tmp_path


@pytest.mark.parametrize('page', sorted({block.page for block in PARTS}))
def test_python_blocks_of_a_page(page: str, folder: Path) -> None:
    if page == 'docs/doctor.md' and sys.platform == 'win32':
        pytest.skip('Windows does not report to each socket that a datagram was refused')
    lines = run_steps(steps(page), folder)
    for text in SCENES.get(page, Scene()).printed:
        assert any(text in line for line in lines), f'{text!r} is not printed, but {lines}'
    left = iter(lines)
    for expected in shown(select(PARTS, 'python', page)):
        assert any(fits(expected, line) for line in left), f'{page} shows {expected!r}; printed is {lines}'


@pytest.mark.parametrize('block', RIGS, ids=str)
def test_rig_programs(block: Block, folder: Path) -> None:
    """A program that listens as a rig answers the start of a main PC."""
    uri = f'udp://127.0.0.1:{free_port()}'
    with Program(block.text.replace(LISTENS, repr(uri))) as rig:
        with sync.Services.connect({'camera': uri}, wait=True, timeout=60) as rigs:
            assert rigs.start(REFERENCE)['camera'][0] == REFERENCE, rig.output


def test_scenes_belong_to_pages() -> None:
    assert set(SCENES) <= {block.page for block in PARTS}


def test_outputs_in_comments() -> None:
    block = Block('page', 1, 'python', '', 'print(a)  # 1\nprint(b(c))  # {...: 2.5 ...}\nx = 1  # 2\n', ('', ''))
    assert shown([block]) == ['1', '{...: 2.5 ...}']
    assert fits('1', '1')
    assert not fits('1', '2')
    assert fits("{'camera': 0.00021, ...}", "{'camera': 1.5e-05, 'ephys': 1}")
    assert not fits("{'camera': 0.00021, ...}", "{'ephys': 1.5e-05, 'camera': 1}")
