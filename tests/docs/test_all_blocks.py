"""No block of the documentation is left out: a test runs it, or a comment before it says why none does."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from collections import Counter
from dataclasses import dataclass

import pytest

import echorig
from doc_blocks import DOCS, ROOT, Block, all_blocks, read_blocks, select
from echorig.wire import _codec

BLOCKS = all_blocks()

# Which test runs the blocks of a language. A page that needs more than that has a test of its own, which comes first.
LANGUAGES = {
    'python': 'tests/docs/test_python_blocks.py::test_python_blocks_of_a_page',
    'console': 'tests/docs/test_console_blocks.py::test_console_blocks_of_a_page',
    'literalinclude': 'tests/docs/test_all_blocks.py::test_included_files',
    'json': 'tests/docs/test_all_blocks.py::test_json_blocks',
    'toctree': 'tests/docs/test_site.py::test_each_page_is_in_one_part',
}
PAGES = {
    ('README.md', 'python'): 'tests/project/test_docs_examples.py::test_readme',
    ('docs/discovery.md', 'python'): 'tests/docs/test_discovery_page.py::test_discovery_page',
    ('docs/discovery.md', 'yaml'): 'tests/docs/test_discovery_page.py::test_discovery_page',
    ('docs/doctor.md', 'console'): 'tests/docs/test_doctor_page.py::test_doctor_page',
    ('docs/errors.md', 'text'): 'tests/docs/test_all_blocks.py::test_tree_of_errors',
    ('docs/journal.md', 'console'): 'tests/project/test_docs_journal.py::test_commands',
    ('docs/journal.md', 'python'): 'tests/project/test_docs_journal.py::test_python_blocks',
    ('docs/nats.md', 'console'): 'tests/docs/test_nats_page.py::test_nats_page',
    ('docs/nats.md', 'python'): 'tests/docs/test_nats_page.py::test_nats_page',
    ('docs/protocol.md', 'text'): 'tests/docs/test_all_blocks.py::test_recordings_are_captures',
    ('docs/quickstart.md', 'yaml'): 'tests/docs/test_console_blocks.py::test_console_blocks_of_a_page',
    ('docs/values.md', 'text'): 'tests/docs/test_all_blocks.py::test_error_about_a_value',
}
# Programs that pages include, and the test that runs each.
INCLUDED = {
    'examples/main_pc.py': 'tests/project/test_docs_examples.py::test_both_files',
    'examples/rig.py': 'tests/project/test_docs_examples.py::test_both_files',
    'examples/task_code.py': 'tests/project/test_docs_examples.py::test_task_code',
    'examples/lab/main_pc.py': 'tests/project/test_lab_example.py::test_a_session',
    'examples/lab/rig.py': 'tests/project/test_lab_example.py::test_a_session',
    'examples/lab/task.py': 'tests/project/test_lab_example.py::test_a_session',
    'examples/suite/test_lab_program.py': 'tests/testing/test_pytest_plugin.py::test_the_example_suite',
}
# The blocks that no test runs, for each page. Who adds one gives the reason on the page, and counts it here.
NOT_RUN = {
    'CONTRIBUTING.md': 1,  # the targets of the Makefile
    'README.md': 3,  # a drawing; the installation; the targets of the Makefile
    'docs/command_line.md': 1,  # programs of the reader
    'docs/discovery.md': 2,  # the installation; a command of Windows
    'docs/fuzzing.md': 1,  # clang
    'docs/main_pc.md': 1,  # Alyx
    'docs/nats.md': 1,  # the installation
    'docs/quickstart.md': 1,  # the installation
}


def runner_of(block: Block) -> str:
    """Return the test that runs a block."""
    return PAGES.get((block.page, block.language)) or LANGUAGES.get(block.language, '')


def exists(test: str) -> bool:
    path, _, name = test.partition('::')
    tree = ast.parse((ROOT / path).read_text('utf-8'))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(node, kinds) and node.name == name for node in tree.body)


@pytest.mark.parametrize('block', BLOCKS, ids=str)
def test_block_is_run_or_marked(block: Block) -> None:
    if block.comment[0] == 'not run':
        assert len(block.why_not.split()) > 2, f'{block}: the comment gives no reason'
    else:
        assert runner_of(block), (
            f'{block}: a {block.language} block is neither run nor marked with <!-- not run: ... -->'
        )


@pytest.mark.parametrize('test', sorted({*LANGUAGES.values(), *PAGES.values(), *INCLUDED.values()}))
def test_runners_exist(test: str) -> None:
    assert exists(test), test


def test_runners_are_needed() -> None:
    used = {(block.page, block.language) for block in BLOCKS}
    assert set(PAGES) <= used
    assert set(LANGUAGES) <= {language for _, language in used}


def test_few_blocks_are_not_run() -> None:
    assert Counter(block.page for block in BLOCKS if block.why_not) == NOT_RUN


def test_included_files() -> None:
    found = {block.argument: block for block in BLOCKS if block.language == 'literalinclude'}
    assert set(found) == set(INCLUDED)
    for path in found:
        assert (DOCS / path).is_file()


def test_json_blocks() -> None:
    blocks = select(BLOCKS, 'json')
    assert blocks
    for block in blocks:
        message = json.loads(block.text)
        assert echorig.ExpMessage(message[0]).name == 'EXPSTART'
        assert json.loads(_codec.encode(message)) == message


def test_tree_of_errors() -> None:
    """docs/errors.md has all errors, below their base, and with the built-in errors that they also are."""
    [block] = select(BLOCKS, 'text', 'docs/errors.md')
    above: list[type] = [Exception]
    shown = set()
    for line in block.text.splitlines():
        match = re.fullmatch(r'([│├└─ ]*)(\w+)(?:\((.*)\))?', line)
        assert match is not None, line
        depth, kind = len(match[1]) // 4 + 1, getattr(echorig, match[2])
        del above[depth:]
        bases = [
            above[-1],
            *(eval(name, {'asyncio': asyncio}, vars(echorig)) for name in (match[3] or '').split(', ') if name),
        ]
        assert set(bases) - {Exception} == set(kind.__bases__) - {Exception}, line
        above.append(kind)
        shown.add(kind)
    public = [getattr(echorig, name) for name in echorig.__all__]
    assert shown == {kind for kind in public if isinstance(kind, type) and issubclass(kind, echorig.EchoError)}


def test_recordings_are_captures() -> None:
    """docs/protocol.md: test_captures.py compares those with a name, and computes the check of the other one."""
    others = [block for block in select(BLOCKS, 'text', 'docs/protocol.md') if block.comment[0] != 'capture']
    assert [block.text.splitlines()[0] for block in others] == ['5b 31 2c 20 6e 75 6c 6c   [1, null']
    assert len(select(BLOCKS, 'text', 'docs/protocol.md')) >= 15


def test_error_about_a_value() -> None:
    @dataclass
    class Head:
        camera: object

    [block] = select(BLOCKS, 'text', 'docs/values.md')
    with pytest.raises(TypeError) as error:
        _codec.encode({'pose': [0, 1, 2, Head(object())]})
    assert str(error.value) == block.text.strip()


def test_reading_of_blocks() -> None:
    text = (
        '# A\n\n<!-- not run: it needs\na camera -->\n```console\n$ true\n```\n\n- b\n\n  ```python\n  1\n  ```\n\n'
        'c\n\n    indented\n\n```{literalinclude} examples/x.py\n:language: python\n```\n'
    )
    found = read_blocks('page', text)
    assert [(b.language, b.line) for b in found] == [
        ('console', 6),
        ('python', 12),
        ('none', 17),
        ('literalinclude', 20),
    ]
    assert [b.why_not for b in found] == ['it needs\na camera', '', '', '']
    assert found[3].argument == 'examples/x.py'
    assert [runner_of(b) == '' for b in found] == [False, False, True, False]
