"""The journal of a session: every message of a program as one JSON object a line, and what reads, exports and plots it.

See docs/journal.md.
"""

from .writer import Journal

__all__ = ['Journal']
