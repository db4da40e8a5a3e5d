"""The journal of a session: every message of a program as one JSON object a line, and what reads, exports and plots it.

See docs/journal.md. Each part is imported when it is used, since most programs have no journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_attributes

if TYPE_CHECKING:
    from .checking import JournalCheck, check
    from .exporting import export
    from .plotting import plot
    from .reader import JournalReader, read
    from .start_times import Start, starts
    from .tables import to_frame
    from .writer import Journal

__all__ = [
    'Journal',
    'JournalCheck',
    'JournalReader',
    'Start',
    'check',
    'export',
    'plot',
    'read',
    'starts',
    'to_frame',
]

__getattr__ = lazy_attributes(
    __name__,
    {
        'Journal': 'writer',
        'JournalCheck': 'checking',
        'check': 'checking',
        'export': 'exporting',
        'plot': 'plotting',
        'JournalReader': 'reader',
        'read': 'reader',
        'Start': 'start_times',
        'starts': 'start_times',
        'to_frame': 'tables',
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
