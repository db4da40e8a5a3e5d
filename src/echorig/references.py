"""`checked_reference`: experiment references of the form ``yyyy-mm-dd_n_subject``."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from .checks import short

__all__ = ['checked_reference']

_FORM = re.compile(r'(\d{4}-\d{2}-\d{2})_(\d+)_(\S.*)')


def checked_reference(reference: Any) -> str:
    """Return an experiment reference, or raise `ValueError` if it has another form.

    Parameters
    ----------
    reference : str
        The reference as text.
    """
    found = _FORM.fullmatch(reference) if isinstance(reference, str) else None
    try:
        if found is not None and date.fromisoformat(found[1]):
            return found[0]
    except ValueError:  # there is no such day
        pass
    raise ValueError(
        f'exp_ref must be date_number_subject, such as 2026-01-31_1_mouse7, not {short(reference)}; '
        'check_exp_ref=False allows another form'
    )
