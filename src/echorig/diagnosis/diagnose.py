"""`diagnose`: the steps of a diagnosis, in order."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from ..checks import seconds
from ..security._signature import as_key
from ..security.allowlist import parse_allowlist
from .clock import check_clock
from .finding import Finding
from .limits import Limits
from .names import check_uri, look_up
from .over_nats import check_nats
from .over_tcp import check_tcp
from .over_udp import check_udp
from .way import find_way, way_finding

__all__ = ['diagnose']


async def diagnose(
    uri: str,
    *,
    key: bytes | str | None = None,
    ssl: ssl_module.SSLContext | None = None,
    allow: Any = None,
    timeout: float = 1.0,
    total: float = 15.0,
    **login: Any,
) -> AsyncIterator[Finding]:
    """Find out step by step why a rig cannot be reached, or how well it can be.

    The rig is only sent pings, for which no callback runs. Do not use it during a session with rigs that run iblutil
    or MATLAB: those may take a ping for an echo.

    Parameters
    ----------
    uri : str
        The URI of the rig.
    key : bytes or str, optional
        The key of the rig, as for :meth:`echorig.EchoProtocol.client`.
    ssl : ssl.SSLContext, optional
        The settings of TLS, as for :meth:`echorig.EchoProtocol.client`.
    allow : str or sequence of str, optional
        The allow list that the main PC uses; addresses outside of it are sent nothing.
    timeout : float
        How long a step waits for an answer, in seconds.
    total : float
        The time after which no further step waits, in seconds.
    login
        The login for a NATS broker, as for :meth:`echorig.EchoProtocol.client`.

    Yields
    ------
    Finding
        The result of each step, as soon as it is known.

    Raises
    ------
    TypeError, ValueError
        The key, the allow list or a time is not valid.
    """
    limits = Limits(seconds(timeout, 'timeout', endless=False), seconds(total, 'total', endless=False))
    if key is not None:
        as_key(key)  # before anything is sent
    allowed = await parse_allowlist(allow)
    parsed, finding = check_uri(uri)
    yield finding
    if parsed is None:
        return
    addresses, finding = await look_up(parsed, limits)
    yield finding
    if allowed is not None and addresses:
        refused = [host for host in addresses if host not in allowed]
        addresses = [host for host in addresses if host in allowed]
        if refused:
            text = f'{", ".join(refused)} is not in the allow list ({allowed}) and is sent nothing'
            advice = 'add the address of the rig to --allow (allow=)'
            fault = {'fault': 'not allowed'}
            yield Finding('allow', False if not addresses else None, text, advice, {'refused': refused, **fault})
    ways = await asyncio.gather(*(find_way(host, parsed.port) for host in addresses))
    for way in ways:
        yield way_finding(way)
    by_host = {way.host: way for way in ways if way.error is None}
    if not by_host:
        return
    if parsed.scheme == 'nats':
        async for finding in check_nats(parsed, limits, {'key': key, 'ssl': ssl, **login}):
            yield finding
        return
    if parsed.scheme == 'udp':
        steps = check_udp(parsed, by_host, key, limits)
    else:
        steps = check_tcp(parsed, by_host, key, ssl, limits)
    seen: dict[str, Finding] = {}
    async for finding in steps:
        if finding.step not in seen or not seen[finding.step].ok:
            seen[finding.step] = finding
        yield finding
    if 'round trip' in seen and 'sender' not in seen and seen['kind'].facts.get('kind') == 'echorig':
        has_key = 'key' not in seen or seen['key'].ok
        host = parsed.host if parsed.is_tls else str(seen['reach'].facts['address'])
        yield await check_clock(replace(parsed, host=host), key if has_key else None, ssl, limits)
