"""The blocking classes have every public name of the asynchronous ones, with the same parameters."""

from __future__ import annotations

import inspect
from concurrent.futures import Future
from typing import Any, get_args, get_origin, get_type_hints

import pytest

import echorig
from echorig import sync
from echorig.sync import SubmitEchoProtocol, SubmitServices

PAIRS = [(echorig.EchoProtocol, sync.EchoProtocol), (echorig.Services, sync.Services)]
SUBMITS = [(echorig.EchoProtocol, SubmitEchoProtocol), (echorig.Services, SubmitServices)]
CALLED_BY_THE_LOOP = {
    'connection_lost', 'connection_made', 'data_received', 'datagram_received', 'eof_received', 'error_received',
    'pause_writing', 'resume_writing',
}  # fmt: skip
FOR_THE_PACKAGE = {'last_failure', 'receiver_id'}  # read by other parts of it, and not documented
NEVER_SET = {'server', 'name'}  # documented names of Services that nothing sets
OF_MAPPINGS = set(dir(dict))


def public(cls: type) -> set[str]:
    names = {name for name in dir(cls) if name[0] != '_'} | {name for name in get_type_hints(cls) if name[0] != '_'}
    return names - CALLED_BY_THE_LOOP - FOR_THE_PACKAGE - (NEVER_SET if cls is echorig.Services else set())


def parameters(cls: type, name: str) -> list[inspect.Parameter]:
    """The parameters of a method, without those that say which object it is."""
    given = inspect.signature(getattr(cls, name)).parameters.values()
    return [parameter.replace(annotation=Any) for parameter in given if parameter.name not in ('self', 'cls')]


def methods() -> list[Any]:
    return [
        pytest.param(ours, theirs, name, id=f'{ours.__name__}.{name}')
        for ours, theirs in PAIRS
        for name in sorted(public(ours) - (OF_MAPPINGS if ours is echorig.Services else set()))
        if inspect.isroutine(getattr(ours, name, None))
    ]


@pytest.mark.parametrize(('ours', 'theirs'), PAIRS)
def test_every_public_name_has_a_twin(ours: type, theirs: type) -> None:
    of_instances = {'name', 'logger', 'server_uri', 'tuning', 'data'}
    assert public(ours) - public(theirs) - of_instances == set()


def test_names_of_instances() -> None:
    with sync.EchoProtocol.server('127.0.0.1:0', 'rig') as com:
        assert [name for name in public(echorig.EchoProtocol) if not hasattr(com, name)] == []
        rigs = sync.Services([com])
        assert [name for name in public(echorig.Services) if not hasattr(rigs, name)] == []


@pytest.mark.parametrize(('ours', 'theirs', 'name'), methods())
def test_same_parameters(ours: type, theirs: type, name: str) -> None:
    """In the same order and with the same defaults; what waits without limit may have a timeout besides."""
    extra = [parameter for parameter in parameters(theirs, name) if parameter not in parameters(ours, name)]
    assert [parameter.name for parameter in extra] in ([], ['timeout'])
    assert [parameter for parameter in parameters(theirs, name) if parameter not in extra] == parameters(ours, name)


@pytest.mark.parametrize(('ours', 'theirs', 'name'), methods())
def test_nothing_is_to_be_awaited(ours: type, theirs: type, name: str) -> None:
    """What was a coroutine function is a function with the same result."""
    method, twin = getattr(ours, name), getattr(theirs, name)
    assert not inspect.iscoroutinefunction(twin)
    assert not inspect.isasyncgenfunction(twin)
    assert twin.__doc__
    if inspect.iscoroutinefunction(method):
        results = [inspect.signature(function).return_annotation for function in (method, twin)]
        assert results[0] == results[1]


@pytest.mark.parametrize(('ours', 'submit'), SUBMITS)
def test_what_waits_can_be_submitted(ours: type, submit: type) -> None:
    opening = {'client', 'server', 'connect', 'discover'}
    waiting = {name for name in public(ours) if inspect.iscoroutinefunction(getattr(ours, name))} - opening
    assert waiting == public(submit)
    twin = dict(PAIRS)[ours]
    for name in waiting:
        assert parameters(submit, name) == parameters(twin, name)
        result, future = (get_type_hints(getattr(cls, name))['return'] for cls in (twin, submit))
        assert get_origin(future) is Future
        assert (get_args(future)[0] or type(None)) == result
        assert getattr(submit, name).__doc__
