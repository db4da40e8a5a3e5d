"""The types for annotations name every event, status and option, and can be evaluated at run time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

import echorig
from echorig import ExpMessage, ExpStatus, sync
from echorig.aliases import ClientOptions, EventName, RigOptions, ServerOptions, SingleEvent, Status

OWN = {'allow', 'tuning', 'key', 'busy_poll'}


def literals(alias: Any) -> Iterator[Any]:
    """Yield the values in a union of literals and types."""
    for value in get_args(alias):
        if get_origin(value) in (Union, UnionType) or get_args(value):
            yield from literals(value)
        elif not inspect.isclass(value):
            yield value


def parameters(*names: str) -> set[str]:
    """Return the parameters of methods of the event loop, without those that echorig sets."""
    found = {name for method in names for name in inspect.signature(getattr(asyncio.BaseEventLoop, method)).parameters}
    return found - {'self', 'protocol_factory', 'host', 'port', 'kwargs'}


def test_every_event_has_its_names() -> None:
    names = list(ExpMessage.__members__)
    assert set(literals(EventName)) == {*names, *map(str.lower, names)}
    assert {ExpMessage.validate(name) for name in literals(EventName)} == {*ExpMessage.__members__.values()}


def test_single_events_are_members() -> None:
    """One member is missing, because mypy takes a literal of all members for every value of the class."""
    members = {event for event in literals(SingleEvent) if isinstance(event, ExpMessage)}
    assert members == {*ExpMessage.__members__.values()} - {ExpMessage.ALYX}


def test_every_status_has_its_names() -> None:
    names = list(ExpStatus.__members__)
    assert set(literals(Status)) == {*names, *map(str.lower, names)}


def test_options_are_those_of_the_event_loop() -> None:
    """Each option that the loop of this Python accepts is there; some are of later Pythons."""
    server = parameters('create_server', 'create_datagram_endpoint') - {'remote_addr'}
    client = parameters('create_connection', 'create_datagram_endpoint') - {'reuse_address'}
    assert server | OWN | {'announce'} <= set(ServerOptions.__annotations__)
    assert client | OWN | {'reconnect'} <= set(ClientOptions.__annotations__)
    assert set(RigOptions.__annotations__) == {*ClientOptions.__annotations__, 'log'}


@pytest.mark.parametrize(
    'cls',
    [echorig.EchoProtocol, echorig.Services, echorig.Service, sync.EchoProtocol, sync.Services],
    ids=lambda cls: f'{cls.__module__}.{cls.__name__}',
)
def test_annotations_can_be_evaluated(cls: type) -> None:
    """Programs that make forms or proxies from signatures evaluate them."""
    evaluated = [
        get_type_hints(member)
        for name, member in inspect.getmembers(cls, inspect.isfunction)
        if name[0] != '_' and getattr(member, '__module__', '').startswith('echorig')
    ]
    assert len(evaluated) > 6
