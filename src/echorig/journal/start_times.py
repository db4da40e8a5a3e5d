"""`starts`: when each rig received each EXPSTART, and the spread over the rigs."""

from __future__ import annotations

from dataclasses import dataclass

from .files import Fields, Paths
from .reader import read

__all__ = ['Start', 'starts']

_APART = 10_000_000_000  # nanoseconds between two starts with the same reference
_SECOND = 1e9


@dataclass
class Start:
    """One start of an experiment."""

    exp_ref: str
    """str: The reference of the experiment."""
    time: int
    """int: When the first message was sent, or received if that is unknown, in nanoseconds since 1970."""
    receipts: dict[str, float]
    """dict of str to float: When each rig received it, in seconds after `time`, on the clock of the sender."""
    estimated: set[str]
    """set of str: The rigs whose receipt is taken to be in the middle of the round trip."""

    @property
    def skew(self) -> float:
        """float: The time between the first and the last receipt, in seconds."""
        return max(self.receipts.values()) - min(self.receipts.values()) if self.receipts else 0.0


def starts(paths: Paths) -> list[Start]:
    """Return the starts of experiments in journals, with the receipt of each rig.

    With the journals of the rigs, the receipts are theirs; their times are corrected by the offset of their clocks
    where that is in a journal. With the journal of the main PC alone, a receipt is taken to be in the middle of the
    round trip.

    Parameters
    ----------
    paths : str, path or iterable
        As for `read`.

    Returns
    -------
    list of Start
        The starts, in order of time.

    Raises
    ------
    OSError, TypeError, ValueError
        As for `read`.
    """
    sent: list[Fields] = []
    received: dict[str, Fields] = {}
    confirmed: dict[str, Fields] = {}
    unnumbered: list[Fields] = []
    for fields in read(paths):
        if fields.get('event') != 'EXPSTART' or 'reply_to' in fields:
            continue
        number = fields.get('id', '')
        if fields['kind'] == 'sent':
            sent.append(fields)
        elif fields['kind'] == 'received':
            received.setdefault(number, fields) if number else unnumbered.append(fields)
        elif fields['kind'] == 'confirmed' and number:
            confirmed[number] = fields
    found: list[Start] = []
    for fields in sent:
        start = _start_of(found, _reference(fields), fields['time'], str(fields.get('rig')))
        number = fields.get('id', '')
        moment = _receipt(fields, received.pop(number, None), confirmed.get(number))
        if moment is not None:
            start.receipts[str(fields['rig'])] = (moment[0] - start.time) / _SECOND
            if moment[1]:
                start.estimated.add(str(fields['rig']))
    for fields in sorted([*received.values(), *unnumbered], key=lambda fields: int(fields['time'])):
        rig, moment_of = str(fields.get('rig')), fields['time'] + _offset(fields)
        start = _start_of(found, _reference(fields), moment_of, rig)
        start.receipts.setdefault(rig, (moment_of - start.time) / _SECOND)
    return sorted(found, key=lambda start: start.time)


def _start_of(found: list[Start], reference: str, moment: int, rig: str) -> Start:
    """Return the start that a message belongs to; a rig has each start once."""
    for start in reversed(found):
        if start.exp_ref == reference and abs(moment - start.time) < _APART and rig not in start.receipts:
            return start
    found.append(Start(reference, moment, {}, set()))
    return found[-1]


def _receipt(sent: Fields, received: Fields | None, confirmed: Fields | None) -> tuple[int, bool] | None:
    """Return when a message was received, on the clock of its sender, and whether that is an estimate."""
    if received is not None:
        if 'offset' in sent:  # the clock of the rig minus that of the sender
            return received['time'] - int(sent['offset'] * _SECOND), False
        return received['time'] + _offset(received), False
    if confirmed is not None and 'rtt' in confirmed:
        return confirmed['time'] - int(confirmed['rtt'] / 2 * _SECOND), True
    return None


def _offset(received: Fields) -> int:
    return int(received.get('offset', 0.0) * _SECOND)


def _reference(fields: Fields) -> str:
    data = fields.get('data')
    return str(data[0]) if isinstance(data, list) and data else ''
