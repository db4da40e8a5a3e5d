"""The one module of the tests that uses undocumented private attributes of the package.

A test that needs an internal part of a communicator gets it from a function here, so that a renamed attribute changes
this file only. `tests/project/test_layers.py` counts the attributes used here and forbids them everywhere else. The
documented hooks ``_transport``, ``_receive``, ``_last_sent``, ``_callbacks`` and ``_socket`` need no function.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from echorig import stall
from echorig.communicator.answers import AnswerMatcher
from echorig.events import message_log

STALL_TICK = stall._TICK
"""float: Seconds between two checks of the stall monitor."""


# --- a communicator ---


def connections(com: Any) -> dict[tuple[str, int], Any]:
    """Return the TCP connections of a communicator by remote address."""
    return com._pipeline.connections


def n_connections(com: Any) -> int:
    return len(com._pipeline.connections)


def limiter(com: Any) -> Any:
    """Return the `ConnectionLimiter` of a TCP server."""
    return com._endpoint.limiter


def n_throttled(com: Any) -> int:
    """Return how many connections are throttled."""
    return len(limiter(com)._throttled)


def connection_user(com: Any) -> Any:
    """Return the argument of a new `Connection` of a communicator."""
    return com._endpoint._context


def reconnector(com: Any) -> Any:
    return com._endpoint.reconnector


def reconnect_delay(com: Any) -> float:
    """Return the seconds before the next attempt to reconnect."""
    return reconnector(com)._delay


def reconnect_task(com: Any) -> asyncio.Task[None]:
    return reconnector(com)._task


def wrap_connect(com: Any, wrapper: Callable[[Callable[[], Awaitable[None]]], Callable[[], Awaitable[None]]]) -> None:
    """Wrap the function that makes an attempt to reconnect."""
    reconnector(com)._connect = wrapper(reconnector(com)._connect)


def pipeline(com: Any) -> Any:
    """Return the `MessagePipeline` of a communicator."""
    return com._pipeline


def is_awake(com: Any) -> bool:
    """Return whether a communicator with `busy_poll` polls at the moment."""
    return com._busy_poll.is_running


def n_paused(com: Any) -> int:
    """Return how many transports have too much to write."""
    return com._pipeline.n_paused


def exchange(com: Any) -> Any:
    return com._exchange


def flow_control(com: Any) -> Any:
    return com._flow_control


def event_queue(com: Any) -> Any:
    return com._event_queue


def waiters(com: Any) -> Any:
    """Return the futures that wait for an event."""
    return com._event_queue.waiters


def backlog(com: Any) -> Any:
    return com._event_queue.backlog


def kept_messages(com: Any) -> list[Any]:
    """Return the messages in the backlog of a communicator."""
    return list(com._event_queue.backlog._entries)


def log_limit(com: Any) -> Any:
    return com._log_limit


def n_logged_once(com: Any) -> int:
    """Return the number of log lines that are logged once only."""
    return len(com._log_limit._logged_once)


def connection_callbacks(com: Any) -> Any:
    """Return the callbacks for made and lost connections."""
    return com._connection_notifier._callbacks


# --- parts by themselves ---


def never_expire(backlog: Any, mask: int) -> None:
    """Exempt a combination of events from expiry in a backlog."""
    backlog._calls[mask] = float('inf')


def n_held(stream: Any) -> int:
    """Return the size of the messages in a stream, in bytes."""
    return stream._n_bytes


def tls_and_tcp(transport: Any) -> tuple[asyncio.Transport, asyncio.Transport]:
    """Return the two layers of a TLS transport."""
    return transport._tls, transport._tcp


def monitor_timer(monitor: stall.StallMonitor) -> Any:
    return monitor._timer


def n_warned() -> int:
    """Return the size of the registry of warnings that were shown."""
    return len(message_log._warned)


MAX_WARNED = message_log._MAX_WARNED


# --- sets of rigs ---


def call_rigs(rigs: Any, *args: Any, **kwargs: Any) -> Any:
    """Call the common method behind all calls of `Services`."""
    return rigs._signal(*args, **kwargs)


def pending_calls(com: Any) -> Any:
    """Return the calls that wait for an answer of a rig."""
    return AnswerMatcher.of(com)._pending_calls


def owed_answers(com: Any) -> Any:
    """Return the outstanding answers to calls that are over."""
    return AnswerMatcher.of(com)._unanswered


def n_rigs_with_answers() -> int:
    return len(AnswerMatcher._of_rigs)


def n_watching(rigs: Any) -> int:
    """Return how many watches of a set of rigs are running."""
    return sum(bool(watch._watchers and not watch.is_closed) for watch in rigs._watches)


# --- the blocking interface ---


def endless_calls(portal: Any) -> Any:
    """Return the calls in the background that have no time-out."""
    return portal._endless


def opened(portal: Any) -> Any:
    """Return the communicators that are open in the background."""
    return portal._opened


def service_of(rig: Any) -> Any:
    """Return the open service of a `Rig`."""
    return rig._service
