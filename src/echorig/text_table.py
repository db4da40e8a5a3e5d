"""`aligned`: a table as plain text."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ['aligned']


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return a line for each row, in columns; those numbered in `right` are aligned to the right."""
    widths = [max(len(cell) for cell in cells) for cells in zip(*rows, strict=True)]
    return [
        '  '.join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
