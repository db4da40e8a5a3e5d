"""The clock of a rig, compared with the clock of this computer."""

from __future__ import annotations

import ssl as ssl_module

from ..communicator.peer_clocks import PeerClock
from ..communicator.protocol import EchoProtocol
from ..errors import EchoError
from ..stall import wait_for
from ..uri import Uri
from .finding import Finding
from .limits import Limits

__all__ = ['check_clock', 'clock_finding']

_WRONG = 0.1  # seconds
_LEAST = 0.2  # seconds for the pings


async def check_clock(uri: Uri, key: bytes | str | None, ssl: ssl_module.SSLContext | None, limits: Limits) -> Finding:
    """Measure the clock of an echorig rig, by pings of a client that is closed again."""
    if limits.left < _LEAST:
        return Finding('clock', None, 'no time was left to compare the clocks')
    opening = EchoProtocol.client(str(uri), 'doctor', key=key, ssl=ssl if uri.is_tls else None)
    try:
        client = await wait_for(opening, limits.wait(2))
        try:
            clock = await client.measure_clock(timeout=limits.wait())
        finally:
            client.close()
            await client.wait_closed()
    except (EchoError, OSError, TimeoutError) as ex:
        text = f'the clock of the rig is not known: {ex}'
        return Finding('clock', False, text, 'the rig answered before, so try again', {'fault': 'clock unknown'})
    return clock_finding(clock)


def clock_finding(clock: PeerClock | None) -> Finding:
    """Return the finding about the clock of a rig."""
    if clock is None:
        advice = 'install the same version of echorig there as here'
        return Finding('clock', None, 'the rig does not tell the time of its clock', advice)
    facts: dict[str, object] = {'offset': clock.offset, 'error': clock.error}
    size = abs(clock.offset)
    if size - clock.error <= _WRONG:
        direction = 'ahead' if clock.offset > 0 else 'behind'
        text = f'its clock is {size * 1e3:.2f} ms {direction} ± {clock.error * 1e3:.2f} ms'
        if size <= clock.error:
            text = f'its clock is that of this computer, ± {clock.error * 1e3:.2f} ms'
        return Finding('clock', True, text, facts=facts)
    text = f'its clock is {_time(size)} {"ahead" if clock.offset > 0 else "behind"}'
    advice = (
        'set both clocks by one time server: timedatectl set-ntp true, or chrony (Windows: w32tm /resync); '
        'an hour is a wrong time zone or summer time in the BIOS clock'
    )
    return Finding('clock', False, text, advice, facts | {'fault': 'clock'})


def _time(seconds: float) -> str:
    for unit, name in ((86_400, 'days'), (3_600, 'hours'), (60, 'minutes')):
        if seconds >= 0.95 * unit:
            return f'{seconds / unit:.1f} {name}'
    return f'{seconds:.2f} s'
