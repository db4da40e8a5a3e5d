"""The documentation as a site: its four parts, and the check of the built pages that `make docs` runs."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from doc_blocks import DOCS, ROOT, read_blocks

SITE = ROOT / '.ci' / 'check_site.py'
PARTS = ['Tutorial', 'How-to guides', 'Reference', 'Explanation']

pytestmark = pytest.mark.skipif(not SITE.exists(), reason='the source distribution has no gates')


def test_each_page_is_in_one_part() -> None:
    trees = [
        b.text for b in read_blocks('docs/index.md', (DOCS / 'index.md').read_text('utf-8')) if b.language == 'toctree'
    ]
    assert [tree.split(':caption: ')[1].splitlines()[0] for tree in trees] == PARTS
    pages = [line for tree in trees for line in tree.splitlines() if line and line[0] != ':']
    assert sorted(pages) == sorted(
        path.stem for path in DOCS.iterdir() if path.suffix in ('.md', '.rst') and path.stem != 'index'
    )
    assert len(pages) == len(set(pages))


def test_readme_names_the_four_parts() -> None:
    text = (ROOT / 'README.md').read_text('utf-8')
    section = text[text.index('## Documentation') :]
    assert [part for part in PARTS if f'**{part}' in section] == PARTS


def built(folder: Path, links: str) -> Path:
    """Write a site of two pages, with the index that Sphinx writes."""
    index = {'docnames': ['index', 'doctor'], 'terms': {'firewal': 1, 'exact': 0}, 'titleterms': {'onc': 0}}
    (folder / 'searchindex.js').write_text(f'Search.setIndex({json.dumps(index)})', 'utf-8')
    (folder / 'index.html').write_text(links, 'utf-8')
    (folder / 'doctor.html').write_text('<a href="index.html">', 'utf-8')
    (folder / 'search.html').touch()
    return folder


def test_check_of_a_site(tmp_path: Path) -> None:
    """The check finds a word in the wrong place, and a page without a link to it."""
    pytest.importorskip('sphinx')
    check = runpy.run_path(str(SITE))
    check['SEARCHES'].clear()
    check['SEARCHES'].update({'Firewalls': {'doctor'}, 'exactly once': {'index'}})
    problems = check['problems']
    assert problems(built(tmp_path, '<a href="doctor.html">')) == []
    assert check['exit_status'](tmp_path) == 0
    assert problems(built(tmp_path, '')) == ['no link leads to doctor']
    assert check['exit_status'](tmp_path) == 'no link leads to doctor'
    check['SEARCHES'].update({'firewall': {'index', 'doctor'}, 'exactly once': {'doctor'}, 'as a camera': {'doctor'}})
    assert problems(built(tmp_path, '<a href="doctor.html#key">')) == [
        "a search for 'exactly once' does not find doctor",
        "a search for 'firewall' does not find index",
        "a search for 'as a camera' does not find doctor",
    ]
