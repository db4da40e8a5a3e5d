"""Check the built site: ``python .ci/check_site.py docs/_build/html``. `make docs` runs it after each build.

Sphinx itself reports dead links and pages in no table of contents. This checks what a reader would miss as well: that a
search for a well-known word finds the right pages, and that each page can be reached by links from the first one.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from sphinx.search.en import SearchEnglish

SEARCHES = {
    'firewall': {'troubleshooting', 'doctor', 'discovery', 'quickstart'},
    'exactly once': {'index', 'which_tool'},
    'as in MATLAB': {'moving', 'protocol', 'testing'},
    'iblutil': {'moving', 'which_tool'},
    'remote_devices': {'quickstart', 'main_pc', 'discovery', 'command_line'},
    'Ctrl-C': {'rig', 'main_pc', 'task_code'},
    'RigLostError': {'errors', 'main_pc', 'api'},
    'confirmed_send': {'api', 'architecture', 'which_program'},
    'netsh': {'troubleshooting', 'discovery', 'doctor'},
    'NWB': {'journal'},
    'LSL': {'which_tool'},
    'time-out': {'settings', 'errors'},
}


def found_by(query: str, index: dict[str, object]) -> set[str]:
    """Return the pages that have each word of a query, in their text or their titles, as the search box finds them."""
    english = SearchEnglish({})
    pages = list(map(str, index['docnames']))
    found = set(pages)
    for word in english.split(query.lower()):
        if word in english.stopwords:
            continue
        numbers: set[int] = set()
        for kind in ('terms', 'titleterms'):
            for term in {word, english.stem(word)}:
                entry = index[kind].get(term, [])
                numbers.update([entry] if isinstance(entry, int) else entry)
        found &= {pages[number] for number in numbers}
    return found


def unreached(links: dict[str, set[str]]) -> set[str]:
    """Return the pages to which no links lead from the first page."""
    reached, todo = set(), ['index']
    while todo:
        page = todo.pop()
        if page not in reached:
            reached.add(page)
            todo.extend(links.get(page, set()) & links.keys())
    return links.keys() - reached


def problems(folder: Path) -> list[str]:
    """List what is wrong with a built site."""
    text = (folder / 'searchindex.js').read_text('utf-8')
    index = json.loads(text[text.index('{') : text.rindex('}') + 1])
    found = []
    for query, pages in SEARCHES.items():
        if missing := pages - found_by(query, index):
            found.append(f'a search for {query!r} does not find {", ".join(sorted(missing))}')
    links = {
        page: set(re.findall(r'href="([\w-]+)\.html', (folder / f'{page}.html').read_text('utf-8')))
        for page in index['docnames']
    }
    found += [f'no link leads to {page}' for page in sorted(unreached(links))]
    if not (folder / 'search.html').exists():
        found.append('the search page is missing')
    return found


def exit_status(folder: Path) -> str | int:
    """Return the argument of `sys.exit`: the problems, or 0. An empty text would be a failure."""
    return '\n'.join(problems(folder)) or 0


if __name__ == '__main__':
    sys.exit(exit_status(Path(sys.argv[1])))
