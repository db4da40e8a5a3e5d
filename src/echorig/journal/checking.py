"""`check`: whether journals are complete."""

from __future__ import annotations

from dataclasses import dataclass, field

from .files import Paths
from .reader import read

__all__ = ['JournalCheck', 'check']


@dataclass
class JournalCheck:
    """What a check has found."""

    lines: int = 0
    """int: Records."""
    skipped: int = 0
    """int: Lines that are torn or no records."""
    missing: int = 0
    """int: Records that were written and are not there."""
    lost: int = 0
    """int: Records that the programs could not write."""
    programs: dict[str, str] = field(default_factory=dict)
    """dict of str to str: The programs that have written, by the id of their lines."""

    @property
    def is_complete(self) -> bool:
        """bool: Whether nothing is torn, missing or lost."""
        return not (self.skipped or self.missing or self.lost)


def check(paths: Paths) -> JournalCheck:
    """Count the records of journals, and what is torn, missing or lost.

    Parameters
    ----------
    paths : str, path or iterable
        As for `read`.

    Returns
    -------
    JournalCheck
        The counts.

    Raises
    ------
    OSError, TypeError, ValueError
        As for `read`.
    """
    found = JournalCheck()
    counts: dict[str, tuple[int, int]] = {}  # lines, and the highest number
    reader = read(paths)
    for fields in reader:
        writer, number = fields.get('writer'), fields.get('seq')
        if isinstance(writer, str) and isinstance(number, int):
            n, highest = counts.get(writer, (0, 0))
            counts[writer] = n + 1, max(highest, number)
            if fields['kind'] == 'session':
                found.programs[writer] = f'{fields.get("program")} (pid {fields.get("pid")} on {fields.get("host")})'
    found.lines, found.skipped, found.lost = reader.lines, reader.skipped, reader.lost
    found.missing = sum(max(0, highest - n) for n, highest in counts.values())
    return found
