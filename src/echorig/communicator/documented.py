"""`documented_like`: makes the docstrings of methods out of those of `Service`."""

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

    The summary and the parameters of the source are copied. `opening` and `ending` replace ``Compose`` and the final
    period of the summary; `parameters` and `sections` follow the copied parameters.
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
