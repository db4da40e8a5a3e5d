"""The event log of a program: one line of JSON for each event, written unbuffered so that a kill loses none."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

_STEP = 0.05  # seconds between two checks of the clock
STALL = 0.1  # seconds: a shorter stall is not logged


class EventLog:
    """The event log of one run of a program.

    Times are those of the monotonic clock, which all programs of a computer share.
    """

    def __init__(self, folder: str | Path, by: str) -> None:
        self.by = by
        self._file = os.open(Path(folder) / f'{by}.log', os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def __call__(self, what: str, **details: Any) -> None:
        record = {'t': time.monotonic(), 'by': self.by, 'what': what, **details}
        os.write(self._file, json.dumps(record).encode() + b'\n')

    def watch_clock(self) -> None:
        """Log stalls of this process, detected by a thread of its own.

        Blocking calls of the program are not logged, since other threads continue during them.
        """

        def watch() -> None:
            while True:
                before = time.monotonic()
                time.sleep(_STEP)
                if (now := time.monotonic()) > before + _STEP + STALL:
                    self('stood', since=before, until=now)

        threading.Thread(target=watch, daemon=True).start()


def read(folder: str | Path) -> list[dict[str, Any]]:
    """Return the events of all programs in order of time; the events of one program stay in their order."""
    records: list[dict[str, Any]] = []
    for path in sorted(Path(folder).glob('*.log')):
        lines = path.read_text().split('\n')
        records += [json.loads(line) for line in lines[:-1]]  # a killed program may have written half a line
    return sorted(records, key=lambda record: float(record['t']))
