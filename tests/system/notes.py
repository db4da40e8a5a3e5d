"""What a program notes: one line of JSON for each thing that happens, written at once, so that a kill loses none."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

_STEP = 0.05  # seconds between two looks at the clock
STALL = 0.1  # seconds: a shorter stall is not noted


class Notes:
    """The file of one run of a program.

    The times are those of the monotonic clock, which all programs of a computer share.
    """

    def __init__(self, folder: str | Path, by: str) -> None:
        self.by = by
        self._file = os.open(Path(folder) / f'{by}.notes', os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def __call__(self, what: str, **details: Any) -> None:
        note = {'t': time.monotonic(), 'by': self.by, 'what': what, **details}
        os.write(self._file, json.dumps(note).encode() + b'\n')

    def watch_clock(self) -> None:
        """Note when this program stood still, whoever was to blame: from a thread of its own, which does nothing else.

        Blocking calls of the program are not among it, as they let other threads go on.
        """

        def watch() -> None:
            while True:
                before = time.monotonic()
                time.sleep(_STEP)
                if (now := time.monotonic()) > before + _STEP + STALL:
                    self('stood', since=before, until=now)

        threading.Thread(target=watch, daemon=True).start()


def read(folder: str | Path) -> list[dict[str, Any]]:
    """Return what all programs noted, in the order of time; what one program noted stays in its order."""
    notes = []
    for path in sorted(Path(folder).glob('*.notes')):
        lines = path.read_text().split('\n')
        notes += [json.loads(line) for line in lines[:-1]]  # after the last line end there is nothing, or half a line
    return sorted(notes, key=lambda note: float(note['t']))
