"""The event loop: uvloop (winloop on Windows), unless the program has chosen another one.

1. Importing the package sets the event loop policy, so that a plain ``asyncio.run()`` runs on uvloop.
2. With ``ECHORIG_LOOP=asyncio``, a policy set by the program, or without uvloop, nothing is changed.
3. Nothing is printed and no warning is shown, on any Python.
"""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from collections.abc import Callable, Coroutine
from types import ModuleType
from typing import Any, TypeVar

__all__ = ['ENVIRONMENT', 'install_policy', 'loop_name', 'new_event_loop', 'run']

ENVIRONMENT = 'ECHORIG_LOOP'
"""str: The environment variable that chooses the loop: ``uvloop`` (the default) or ``asyncio``."""

_T = TypeVar('_T')


def _fast_loop() -> ModuleType | None:
    """Return uvloop or winloop; None if it is not installed or the environment excludes it."""
    choice = os.environ.get(ENVIRONMENT, '').strip().lower()
    if choice == 'asyncio':
        return None
    if choice not in ('', 'uvloop', 'winloop'):
        raise ValueError(f"{ENVIRONMENT} is {choice!r}; it must be 'uvloop' or 'asyncio', or not be set")
    try:  # as import statements, which programs that freeze packages read
        if sys.platform == 'win32':
            import winloop as module
        else:
            import uvloop as module
    except ImportError:
        return None
    return module  # type: ignore[no-any-return,unused-ignore]


def install_policy() -> None:
    """Make uvloop the event loop policy of the process, unless the program or the environment chooses another."""
    module = _fast_loop()
    if module is None:
        return
    with warnings.catch_warnings():
        # Policies are deprecated from Python 3.14 on, but asyncio.run() still uses them.
        warnings.simplefilter('ignore', DeprecationWarning)
        current = asyncio.get_event_loop_policy()
        if type(current) is not asyncio.DefaultEventLoopPolicy:
            return
        policy = _with_child_watcher(module.EventLoopPolicy, current)()
        # get_event_loop() must still return a loop that the program has already set.
        loop = getattr(getattr(current, '_local', None), '_loop', None)
        asyncio.set_event_loop_policy(policy)
        if loop is not None:
            policy.set_event_loop(loop)


def _with_child_watcher(base: Any, default: Any) -> Any:
    """Return a policy under which the loops of asyncio can still start processes.

    Before Python 3.14 they ask the policy for a child watcher, which the policy of uvloop does not have.
    """
    if sys.platform == 'win32' or not hasattr(default, 'get_child_watcher'):
        return base

    class Policy(base):  # type: ignore[misc]
        def get_child_watcher(self) -> Any:
            return default.get_child_watcher()

        def set_child_watcher(self, watcher: Any) -> None:
            default.set_child_watcher(watcher)

    return Policy


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop of the kind that `run` uses, whatever the policy is."""
    module = _fast_loop()
    if module is not None:
        loop: asyncio.AbstractEventLoop = module.new_event_loop()
        return loop
    if sys.platform == 'win32':
        return asyncio.ProactorEventLoop()
    return asyncio.SelectorEventLoop()


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
    """Run a coroutine on uvloop, whatever the event loop policy is.

    Parameters
    ----------
    main : coroutine
        The coroutine.
    debug : bool, optional
        Whether the loop runs in debug mode.

    Returns
    -------
    Any
        The result of `main`.

    Raises
    ------
    RuntimeError
        A loop is already running in this thread.
    """
    module = _fast_loop()
    if module is not None:
        uvloop_run: Callable[..., _T] = module.run
        return uvloop_run(main, debug=debug)
    if sys.version_info < (3, 11):
        return asyncio.run(main, debug=debug)
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)


def loop_name() -> str:
    """Return the name of the running event loop, or of the one that ``asyncio.run()`` would use.

    Returns
    -------
    str
        ``'uvloop'``, ``'winloop'`` or ``'asyncio'``, or the package of another loop.
    """
    try:
        source: object = asyncio.get_running_loop()
    except RuntimeError:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', DeprecationWarning)
            source = asyncio.get_event_loop_policy()
    for cls in type(source).__mro__:
        name = cls.__module__.partition('.')[0]
        if name in ('uvloop', 'winloop'):
            return name
    return type(source).__module__.partition('.')[0]
