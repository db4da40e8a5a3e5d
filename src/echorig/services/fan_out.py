"""The results of a call on several rigs: the answers, or one error that names each rig that failed, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from ..checks import described
from ..communicator.labels import described_state
from ..errors import ServicesError, ServicesTimeoutError

__all__ = ['checked_rigs', 'described_rigs', 'result_or_error', 'results', 'services_error']

_R = TypeVar('_R')


def results(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answers of all rigs, or raise the error that names the rigs that failed."""
    failures = {name: error for name, error in found.items() if isinstance(error, Exception)}
    responses = {name: answer for name, answer in found.items() if name not in failures}
    if failures:
        raise services_error(responses, failures)
    return responses


def services_error(responses: Mapping[str, Any], failures: Mapping[str, Exception]) -> ServicesError:
    """Return the error that names the rigs that failed, and why."""
    timed_out = any(isinstance(error, TimeoutError | asyncio.TimeoutError) for error in failures.values())
    reasons = '; '.join(f'{name}: {type(error).__name__}: {error}' for name, error in failures.items())
    text = f'{len(failures)} of {len(failures) + len(responses)} rigs failed: {reasons}'
    return (ServicesTimeoutError if timed_out else ServicesError)(text, responses, failures)


async def result_or_error(work: Callable[[], Awaitable[_R]]) -> _R | Exception:
    """Return the result of a coroutine function, or its exception."""
    try:
        return await work()
    except Exception as ex:
        return ex


def checked_rigs(rigs: Iterable[object], kind: type[_R], what: str) -> Iterator[_R]:
    """Yield the rigs that a user gave, or raise `TypeError` if one is of another kind."""
    if not isinstance(rigs, Iterable) or isinstance(rigs, (str, bytes)):
        raise TypeError(f'remote_rigs must be several rigs, such as a list of them, not {described(rigs)}')
    for rig in rigs:
        if not isinstance(rig, kind):
            raise TypeError(f'A rig (in remote_rigs) must be {what}, not {described(rig)}')
        yield rig


def described_rigs(rigs: Mapping[str, Any]) -> str:
    """Return the number, the names and the states of rigs, for the `repr` of their set."""
    number = f'{len(rigs)} rig{"s" * (len(rigs) != 1)}'
    shown = [f'{name} ({described_state(rig)})' for name, rig in rigs.items() if isinstance(rig.is_connected, bool)]
    return f'{number}: {", ".join(shown)}' if shown else number
