"""`Progress`: how far the work of a rig is, sent as EXPINFO with a dict that has the key ``progress``."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Any

__all__ = ['Progress', 'is_progress', 'read_progress', 'written_progress']


@dataclass(frozen=True)
class Progress:
    """How far the work of a rig is."""

    name: str
    """str: The rig."""
    event: str
    """str: The event whose handler works, such as ``EXPINIT``."""
    fraction: float
    """float: The part that is done, from 0 to 1."""
    text: str
    """str: What the rig does."""
    time: float
    """float: When the report was received, on the clock of `time.monotonic`, in seconds."""


def written_progress(event: str, fraction: float, text: str) -> dict[str, Any]:
    """Return the details of an EXPINFO message that reports progress."""
    return {'progress': fraction, 'text': text, 'event': event}


def is_progress(data: Any) -> bool:
    """Return whether the data of an EXPINFO message report progress."""
    return (
        isinstance(data, list)
        and len(data) == 2
        and isinstance(data[1], dict)
        and isinstance(data[1].get('progress'), int | float)
        and 'event' in data[1]
    )


def read_progress(name: str, data: list[Any]) -> Progress:
    """Return the progress that the data of an EXPINFO message of a rig report."""
    details = data[1]
    return Progress(
        name, str(details['event']), float(details['progress']), str(details.get('text') or ''), monotonic()
    )
