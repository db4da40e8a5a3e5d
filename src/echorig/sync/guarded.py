"""Callbacks that run on the background thread, which serves the whole program and must survive each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..events.callbacks import WithService, checked_listener

__all__ = ['Guarded']


class Guarded(WithService):
    """A callback whose attempt to end the program is a failure like any other: logged, and told to the sender.

    Parameters
    ----------
    callback : callable
        The callback.
    extra
        What it is told besides.
    """

    def __init__(self, callback: Callable[..., Any], *extra: Any) -> None:
        super().__init__(checked_listener(callback, futures=False), None)
        self._extra = extra

    def __eq__(self, other: object) -> bool:
        """Tell whether it is the same callback; whoever removes it has it unwrapped."""
        return bool(self.callback == (other.callback if isinstance(other, WithService) else other))

    def __hash__(self) -> int:
        return hash(self.callback)

    def __call__(self, *args: Any) -> Any:
        try:
            return self.callback(*args, *self._extra)
        except (SystemExit, KeyboardInterrupt) as ex:
            raise RuntimeError(f'{ex!r} in a callback ends no program: it runs on the background thread') from ex
