"""The diagnosis of a rig behind a NATS broker: the connection with the broker, the login, and the rig."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ..communicator.protocol import EchoProtocol
from ..errors import EchoError, EchoTimeoutError, PeerUnreachableError, TLSError
from ..stall import wait_for
from ..uri import Uri, with_login
from .clock import clock_finding
from .finding import Finding
from .limits import Limits
from .timing import round_trip_finding

__all__ = ['check_nats']

_PINGS = 50


async def check_nats(uri: Uri, limits: Limits, options: dict[str, Any]) -> AsyncIterator[Finding]:
    """Yield the findings about a broker and the rig behind it; `options` are those of `EchoProtocol.client`."""
    broker = f'the broker {uri.host}:{uri.port}'
    try:
        client = await wait_for(
            EchoProtocol.client(with_login(str(uri), uri.login), 'doctor', **options), limits.wait(5)
        )
    except ImportError as ex:
        yield Finding('reach', False, str(ex), "pip install 'echorig[nats]'", {'fault': 'not installed'})
    except TLSError as ex:
        advice = 'give the authority of its certificate with --cafile (ssl=), and its name, not its address, in the URI'
        yield Finding('tls', False, f'there is no TLS connection: {ex}', advice, {'fault': 'tls'})
    except PermissionError as ex:
        advice = 'look at the user and password, the token or the file of --creds, and at the accounts of the broker'
        yield Finding('reach', False, f'{broker} refuses the login: {ex}', advice, {'fault': 'login'})
    except (EchoError, OSError, ValueError, TimeoutError) as ex:
        advice = f'is nats-server running there? If a firewall refuses it, open TCP port {uri.port}'
        yield Finding('reach', False, f'{broker} cannot be used: {ex}', advice, {'fault': 'broker'})
    else:
        try:
            yield Finding('reach', True, f'{broker} accepts the login')
            async for finding in _check_rig(client, uri, limits):
                yield finding
        finally:
            client.close()
            await client.wait_closed()


async def _check_rig(client: EchoProtocol, uri: Uri, limits: Limits) -> AsyncIterator[Finding]:
    trips: list[float] = []
    try:
        trips.append(await client.ping(timeout=limits.wait()))
    except PeerUnreachableError:
        advice = (
            f'start the program of the rig with this URI; the subject {uri.subject} must be the same, also its case'
        )
        yield Finding('echo', False, f'nobody subscribes to {uri.subject}', advice, {'fault': 'nobody subscribes'})
        return
    except EchoTimeoutError as ex:
        advice = 'the program stands still, has another key, or is not echorig; the broker may forbid the way back'
        yield Finding(
            'echo',
            False,
            f'something subscribes to {uri.subject} and echoes nothing: {ex}',
            advice,
            {'fault': 'silent'},
        )
        return
    yield Finding('echo', True, f'the rig at {uri.subject} echoes')
    sent = 1
    while sent < _PINGS and limits.left > 1.0:
        sent += 1
        try:
            trips.append(await client.ping(timeout=limits.wait()))
        except EchoTimeoutError:
            if sent - len(trips) > _PINGS // 10:
                break
    yield round_trip_finding(trips, sent)
    yield clock_finding(client.clock())
