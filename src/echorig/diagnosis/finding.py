"""`Finding`: the result of one step of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ['Finding']


@dataclass(frozen=True)
class Finding:
    """The result of one step of a diagnosis.

    Attributes
    ----------
    step : str
        What was checked: ``'uri'``, ``'name'``, ``'allow'``, ``'way'``, ``'reach'``, ``'sender'``, ``'transport'``,
        ``'tls'``, ``'key'``, ``'kind'``, ``'echo'``, ``'size'``, ``'round trip'``, ``'clock'`` or ``'firewall'``.
    ok : bool or None
        Whether it is as it should be; None if the step only tells something.
    text : str
        What was found.
    advice : str
        What to do, of one or several lines; empty if nothing is to be done.
    facts : dict
        The same for programs, as numbers and text.
    """

    step: str
    ok: bool | None
    text: str
    advice: str = ''
    facts: dict[str, object] = field(default_factory=dict)
