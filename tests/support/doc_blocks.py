"""The code blocks of the documentation, read with markdown-it, the parser that also builds the site.

A block is run by a test, or the comment ``<!-- not run: REASON -->`` stands directly before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

__all__ = ['DOCS', 'PAGES', 'ROOT', 'Block', 'all_blocks', 'read_blocks', 'select', 'unprompted']

ROOT = Path(__file__).parents[2]
DOCS = ROOT / 'docs'
PAGES = [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md')]
PAGES += sorted(DOCS.glob('*.md'))
COMMENT = re.compile(r'<!-- *([\w ]+): *(.*?) *-->', re.DOTALL)
DIRECTIVE = re.compile(r'\{(\w+)\}\s*(.*)')


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    """str: The path of the page in the repository, with slashes."""
    line: int
    """int: The line of its first line of code."""
    language: str
    """str: Such as ``python``; of a directive its name, such as ``literalinclude``."""
    argument: str
    """str: The argument of a directive, such as a path."""
    text: str
    """str: The code."""
    comment: tuple[str, str]
    """tuple of str: Kind and text of the comment before it, such as ``('not run', 'it needs MATLAB')``; else empty."""

    @property
    def why_not(self) -> str:
        """str: Why it is not run; empty if it has to be run."""
        return self.comment[1] if self.comment[0] == 'not run' else ''

    def __str__(self) -> str:
        return f'{self.page}:{self.line}'


def read_blocks(page: str, text: str) -> list[Block]:
    """Return the fenced and indented code blocks of a page in Markdown."""
    found = []
    comment = ('', '')
    for token in MarkdownIt('commonmark').parse(text):
        if token.type in ('fence', 'code_block'):
            assert token.map is not None
            info = token.info.strip() or 'none'
            directive = DIRECTIVE.fullmatch(info)
            language, argument = directive.groups() if directive else (info, '')
            first = token.map[0] + (2 if token.type == 'fence' else 1)
            found.append(Block(page, first, language, argument, token.content, comment))
        comment = ('', '')
        if token.type == 'html_block' and (match := COMMENT.match(token.content)):
            comment = (match[1], match[2])
    return found


def all_blocks() -> list[Block]:
    """Return the blocks of all pages."""
    return [
        block
        for path in PAGES
        if path.exists()
        for block in read_blocks(path.relative_to(ROOT).as_posix(), path.read_text('utf-8'))
    ]


def select(blocks: Iterable[Block], language: str, page: str = '') -> list[Block]:
    """Return the blocks of a language, and of a page if one is given, that have to be run."""
    return [b for b in blocks if b.language == language and page in ('', b.page) and not b.why_not]


def unprompted(block: Block) -> list[tuple[str, list[str]]]:
    """Return each command of a console block, and the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith('$ '):
            found.append((line[2:].split('  #')[0].strip(), []))
        else:
            assert found, f'{block}: output without a command'
            found[-1][1].append(line)
    return found
