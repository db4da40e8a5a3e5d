"""`Rig` for programs without an event loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ..aliases import Announce, ServerOptions, SingleEvent, Unpack, UriLike
from ..messages import ExpStatus
from ..rig import Rig as Asynchronous
from .portal import current_portal
from .proxy import ClosableProxy

__all__ = ['Rig']

_Function = TypeVar('_Function', bound=Callable[..., Any])


class Rig(ClosableProxy):
    """A rig that is served on the background thread, so that the program can do other work.

    Everything else is as with :class:`echorig.Rig`. Handlers that are plain functions run in a thread of their own, and
    may use the blocking classes.
    """

    asynchronous: Asynchronous

    def __init__(self, name: str, *, log: logging.Logger | None = None, announce: Announce = False) -> None:
        super().__init__(Asynchronous(name, log=log, announce=announce), current_portal())
        self.name = name

    def __repr__(self) -> str:
        return repr(self.asynchronous)

    def on(self, *events: SingleEvent) -> Callable[[_Function], _Function]:
        """Register the decorated function as the handler of events; see :meth:`echorig.Rig.on`."""
        return self.asynchronous.on(*events)

    def on_lost(self, function: _Function) -> _Function:
        """Register the decorated function for the loss of the main PC; see :meth:`echorig.Rig.on_lost`."""
        return self.asynchronous.on_lost(function)

    @property
    def status(self) -> ExpStatus:
        """ExpStatus: The status of the rig."""
        return self.asynchronous.status

    @property
    def exp_ref(self) -> str | None:
        """:obj:`str` or None: The reference of the experiment that runs, or was the last one to run."""
        return self.asynchronous.exp_ref

    @property
    def server_uri(self) -> str | None:
        """:obj:`str` or None: The URI on which the rig listens, while it is open."""
        return self.asynchronous.server_uri

    @property
    def is_cancelled(self) -> bool:
        """bool: In a handler, whether EXPINTERRUPT or EXPEND has cancelled its work."""
        return self.asynchronous.is_cancelled

    def progress(self, fraction: float, text: str = '') -> None:
        """Report how far the work of the present handler is; see :meth:`echorig.Rig.progress`."""
        self.asynchronous.progress(fraction, text)

    def open(self, server_uri: UriLike, **kwargs: Unpack[ServerOptions]) -> Rig:
        """Listen, and serve sessions in the background; see :meth:`echorig.Rig.open`. ``with`` closes it at its end."""
        self.portal.open('open', partial(self.asynchronous.open, server_uri, **kwargs))
        return self

    def serve(self, server_uri: UriLike, **kwargs: Unpack[ServerOptions]) -> None:
        """Serve one session after another until Ctrl-C, or until another thread closes the rig."""
        with self.open(server_uri, **kwargs):
            self.portal.call('serve', self.asynchronous.wait_closed, False)

    def run(self, server_uri: UriLike, **kwargs: Unpack[ServerOptions]) -> None:
        """Serve one session after another until Ctrl-C or SIGTERM; see :meth:`echorig.Rig.run`."""
        self.asynchronous.run(server_uri, **kwargs)
