"""Which event loop runs: uvloop (winloop on Windows) wherever the program has not chosen otherwise.

1. Importing the package sets the policy, so that a plain ``asyncio.run()`` runs on uvloop.
2. ``ECHORIG_LOOP=asyncio``, a policy chosen by the program, or no uvloop: everything is left alone.
3. Nothing is printed and no warning reaches the user, on any Python.
"""

from __future__ import annotations

import asyncio
import importlib
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
    """Return uvloop or winloop, or None if it is not installed or not wanted."""
    choice = os.environ.get(ENVIRONMENT, '').strip().lower()
    if choice == 'asyncio':
        return None
    if choice not in ('', 'uvloop', 'winloop'):
        raise ValueError(f"{ENVIRONMENT} is {choice!r}; it must be 'uvloop' or 'asyncio', or not be set")
    try:
        return importlib.import_module('winloop' if sys.platform == 'win32' else 'uvloop')
    except ImportError:
        return None


def install_policy() -> bool:
    """Make uvloop the event loop policy of the process, unless there is a reason not to.

    Returns
    -------
    bool
        Whether the policy was set.

    Raises
    ------
    ValueError
        ``ECHORIG_LOOP`` has a value that is not known.
    """
    module = _fast_loop()
    if module is None:
        return False
    with warnings.catch_warnings():
        # Policies are deprecated from Python 3.14 on, but they are what asyncio.run() still goes by.
        warnings.simplefilter('ignore', DeprecationWarning)
        current = asyncio.get_event_loop_policy()
        if type(current) is not asyncio.DefaultEventLoopPolicy:
            return False
        policy = _with_child_watcher(module.EventLoopPolicy, current)()
        # A loop that the program has already set stays the one that get_event_loop() returns.
        loop = getattr(getattr(current, '_local', None), '_loop', None)
        asyncio.set_event_loop_policy(policy)
        if loop is not None:
            policy.set_event_loop(loop)
    return True


def _with_child_watcher(base: Any, default: Any) -> Any:
    """Return a policy under which the loops of asyncio can still start processes.

    Before Python 3.14 they ask the policy who waits for them, and uvloop's has no answer.
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
    """Make an event loop of the kind that `run` uses, whatever the policy is.

    Returns
    -------
    asyncio.AbstractEventLoop
        The loop; whoever asked for it closes it.
    """
    module = _fast_loop()
    if module is not None:
        loop: asyncio.AbstractEventLoop = module.new_event_loop()
        return loop
    return _plain_loop()


def _plain_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == 'win32':
        return asyncio.ProactorEventLoop()
    return asyncio.SelectorEventLoop()


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
    """Run a coroutine to its end on uvloop, without touching the event loop policy.

    Parameters
    ----------
    main : coroutine
        What to run.
    debug : bool, optional
        Whether the loop runs in debug mode.

    Returns
    -------
    Any
        What `main` returned.

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
    with asyncio.Runner(debug=debug, loop_factory=_plain_loop) as runner:
        return runner.run(main)


def loop_name() -> str:
    """Tell which event loop is in use.

    Returns
    -------
    str
        ``'uvloop'``, ``'winloop'`` or ``'asyncio'`` (or the package of another loop): of the running loop,
        or where none runs, of the one that ``asyncio.run()`` would use.
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
