"""`documented_like`: docstrings of methods that are those of `Service` with more around them, written once."""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import cleandoc
from typing import Any, TypeVar

__all__ = ['documented_like']

_F = TypeVar('_F', bound=Callable[..., Any])
_PARAMETERS = re.compile(r'^Parameters\n-+\n(.*?)(?:\n\n|\Z)', re.MULTILINE | re.DOTALL)


def documented_like(
    source: Callable[..., Any], opening: str, ending: str, parameters: str, sections: str
) -> Callable[[_F], _F]:
    """Return a decorator that sets a docstring made of that of another method.

    Parameters
    ----------
    source : callable
        The method whose summary, ``Compose the message that …``, and parameters are copied.
    opening, ending : str
        Replace ``Compose`` and the final period of the summary.
    parameters, sections : str
        Stand behind the parameters that are copied.
    """
    text = cleandoc(source.__doc__ or '')
    summary = text.partition('\n')[0].replace('Compose', opening, 1).removesuffix('.') + ending
    copied = _PARAMETERS.search(text)
    rows = '\n'.join([*([copied.group(1)] if copied else []), cleandoc(parameters)])
    doc = f'{summary}\n\nParameters\n----------\n{rows}\n\n{cleandoc(sections)}\n'

    def decorate(method: _F) -> _F:
        method.__doc__ = doc
        return method

    return decorate
