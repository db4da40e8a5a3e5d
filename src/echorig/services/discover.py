"""`find`: finds exactly the rigs that were asked for among those that announce themselves, or says which are missing.

1. Anybody on the network can announce anything, and several rooms share one network. A name that two rigs have is an
   error, and nothing is sent to either.
2. When all rigs are found, it listens a little longer, since a second rig of the same name may answer later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from time import monotonic
from typing import Any

from ..checks import described, short, text
from ..discovery.browser import Browser
from ..discovery.found_rig import FoundRig
from ..discovery.options import checked_group, checked_interfaces, checked_name
from ..errors import EchoError, EchoTimeoutError
from ..stall import wait
from ..uri import Uri, parse_broker, with_login
from .fan_out import services_error

__all__ = ['find', 'resolve_mdns']

SCHEME = 'mdns:'
_SETTLE = 0.3  # seconds; rigs answer a query within a tenth of a second, so that not all do at once
_GROUP_SEARCH = 2.0  # seconds to listen for the rigs of a group, whose number is not known
_BROKER_SEARCH = 1.0  # seconds for rigs to answer
_HINT = (
    'A rig is found if it announces itself (announce=True), is in the same subnet, and neither the firewalls '
    '(UDP port 5353) nor the switch or Wi-Fi stop multicast; echorig.discover() lists what is found'
)


@dataclass(frozen=True)
class Wanted:
    """A rig to find; `group` None stands for any."""

    name: str
    group: str | None

    def fits(self, rig: FoundRig) -> bool:
        """Return whether a rig is meant."""
        return rig.name == self.name and self.group in (None, rig.group)

    def __str__(self) -> str:
        return self.name if self.group is None else f'{self.name} of group {self.group}'


def _checked_names(names: Any, group: str | None) -> dict[str, Wanted] | None:
    """Return the rigs to find, by name; None for all of a group."""
    if names is None:
        if group is None:
            raise ValueError('names=None stands for all rigs of a group: give the group, or the names')
        return None
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise TypeError(f"names must be a list of names such as ['camera'], not {described(names)}")
    wanted: dict[str, Wanted] = {}
    for name in names:
        if checked_name(name, 'names') in wanted:
            raise ValueError(f'names has {short(name)} twice')
        wanted[name] = Wanted(name, group)
    if not wanted:
        raise ValueError('names is empty: give at least one, or None and a group')
    return wanted


def _read_mdns(uri: str, what: str) -> Wanted | None:
    """Return the rig that ``mdns:name`` or ``mdns:name?group=room`` means; None for another URI."""
    if uri[: len(SCHEME)].lower() != SCHEME:
        return None
    name, mark, query = uri[len(SCHEME) :].partition('?')
    key, _, group = query.partition('=')
    try:
        if mark and key != 'group':
            raise ValueError
        return Wanted(checked_name(name, what), checked_group(group if mark else None))
    except ValueError:
        raise ValueError(
            f'{what} must be of the form mdns:camera or mdns:camera?group=room-2, not {short(uri)}'
        ) from None


async def resolve_mdns(uris: Mapping[str, Any], timeout: float | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return URIs with each ``mdns:`` one replaced by that of the rig; None or 0 is no time limit."""
    wanted: dict[str, Wanted] = {}
    for name, uri in uris.items():
        found = _read_mdns(uri, f'The URI of {short(name)}') if isinstance(uri, str) else None
        if found is not None:
            wanted[text(name, 'rigs', ' for each name')] = found
    if not wanted:
        return dict(uris)
    rigs = await _find_rigs(wanted, timeout, checked_interfaces(None))
    _check_security(rigs, options)
    return {name: rigs[name].uri if name in rigs else uri for name, uri in uris.items()}


async def find(
    names: Any, group: Any, timeout: float | None, interfaces: Any, broker: str | None, options: Mapping[str, Any]
) -> dict[str, str]:
    """Return the URIs of rigs by name, or of all rigs of a group; None or 0 is no time limit."""
    group = checked_group(group)
    wanted, chosen = _checked_names(names, group), checked_interfaces(interfaces)
    if broker is not None:
        rigs = await _find_at_broker(wanted, group, timeout, parse_broker(broker), options)
    elif wanted is not None:
        rigs = await _find_rigs(wanted, timeout, chosen)
    else:
        rigs = await _find_group(group, timeout, chosen)
    _check_security(rigs, options)
    return {name: rig.uri for name, rig in rigs.items()}


async def _find_rigs(
    wanted: Mapping[str, Wanted], timeout: float | None, interfaces: Sequence[str] | None
) -> dict[str, FoundRig]:
    """Find rigs, by any name; raise `ServicesError` if one is missing or is there twice. None or 0 is no time limit."""
    changed = asyncio.Event()
    async with Browser(interfaces, lambda kind, rig: changed.set()) as browser:

        async def all_found() -> None:
            while not all(any(map(one.fits, browser.rigs)) for one in wanted.values()):
                changed.clear()
                await changed.wait()

        searching = asyncio.ensure_future(all_found())
        try:
            await wait([searching], timeout or None)
            if searching.done():
                await asyncio.sleep(_SETTLE)
        finally:
            searching.cancel()
        return _chosen(wanted, browser.rigs, timeout, _HINT)


async def _find_at_broker(
    wanted: Mapping[str, Wanted] | None,
    group: str | None,
    timeout: float | None,
    broker: Uri,
    options: Mapping[str, Any],
) -> dict[str, FoundRig]:
    """Find rigs, or all of a group, that announce themselves at a NATS broker, as `_find_rigs` and `_find_group` do."""
    from ..discovery.over_nats import login_in, rigs_at

    hint = f'A rig is found if it announces itself (announce=True) at {broker}, with a login of the same account'
    until = monotonic() + timeout if timeout else inf
    while True:
        rigs = await rigs_at(broker, login_in(options), max(0.0, min(_BROKER_SEARCH, until - monotonic())))
        if wanted is None:
            found = _chosen_of_group(group, rigs, _BROKER_SEARCH, hint)
            break
        if monotonic() >= until or all(any(map(one.fits, rigs)) for one in wanted.values()):
            found = _chosen(wanted, rigs, timeout, hint)
            break
    # A login in the URI of the broker is that of the clients, too.
    return {name: replace(rig, uri=with_login(rig.uri, broker.login)) for name, rig in found.items()}


async def _find_group(group: str, timeout: float | None, interfaces: Sequence[str] | None) -> dict[str, FoundRig]:
    """Find all rigs of a group, by name; raise `ServicesError` if a name is there twice, or there is no rig."""
    limit = min(timeout or _GROUP_SEARCH, _GROUP_SEARCH)
    async with Browser(interfaces) as browser:
        await asyncio.sleep(limit)
        rigs = browser.rigs
    return _chosen_of_group(group, rigs, limit, _HINT)


def _check_security(rigs: Mapping[str, FoundRig], options: Mapping[str, Any]) -> None:
    """Refuse rigs that need a key that is not given, or that are without TLS although it is asked for."""
    for name, rig in rigs.items():
        if rig.key and options.get('key') is None:
            raise ValueError(f'{name}: {rig} signs its messages: give its key, key=')
        if not rig.tls and options.get('ssl') is not None and not rig.uri.startswith('nats:'):
            raise ValueError(f'{name}: {rig} announces no TLS, but ssl= was given')


def _chosen_of_group(group: str | None, rigs: list[FoundRig], limit: float, hint: str) -> dict[str, FoundRig]:
    wanted = {rig.name: Wanted(rig.name, group) for rig in rigs if rig.group == group}
    if not wanted:
        reason = EchoTimeoutError(f'no rig of this group announces itself within {limit} s. {_described(rigs, hint)}')
        raise _error({}, {f'group {group}': reason})
    return _chosen(wanted, rigs, limit, hint)


def _chosen(
    wanted: Mapping[str, Wanted], rigs: list[FoundRig], timeout: float | None, hint: str
) -> dict[str, FoundRig]:
    found = {name: [rig for rig in rigs if one.fits(rig)] for name, one in wanted.items()}
    failures: dict[str, Exception] = {}
    for name, fitting in found.items():
        if not fitting:
            failures[name] = EchoTimeoutError(f'{wanted[name]} was not found within {timeout} s')
        elif len(fitting) > 1:
            failures[name] = EchoError(
                f'{len(fitting)} rigs are called {wanted[name].name}: {", ".join(map(str, fitting))}; '
                f'give each its own name, or the group'
            )
    if failures:
        is_missing = any(isinstance(error, EchoTimeoutError) for error in failures.values())
        raise _error(
            {name: one[0].uri for name, one in found.items() if name not in failures},
            failures,
            f'. {_described(rigs, hint)}' if is_missing else '',
        )
    return {name: fitting[0] for name, fitting in found.items()}


def _error(responses: dict[str, str], failures: dict[str, Exception], more: str = '') -> Exception:
    error = services_error(responses, failures)
    return type(error)(f'{error}{more}', error.responses, error.failures)


def _described(rigs: list[FoundRig], hint: str) -> str:
    seen = f'Found: {", ".join(map(str, rigs))}' if rigs else 'No rig was found at all'
    return f'{seen}. {hint}'
