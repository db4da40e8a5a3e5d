"""Two hosts in network namespaces, whose cable is unplugged during a session.

Only root can make them, and only Linux has them: elsewhere these tests are skipped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from namespaces import IMPOSSIBLE, Host, confirmed, rest_of, two_hosts

N_MESSAGES = 60
N_BEFORE = 20  # confirmed before the cable is unplugged
UNPLUGGED = 0.5  # seconds
TIMEOUT = 30.0  # seconds; much longer than the break, and ARP may need seconds to retry

pytestmark = [pytest.mark.slow, pytest.mark.skipif(IMPOSSIBLE is not None, reason=str(IMPOSSIBLE))]


@pytest.fixture
def hosts() -> Iterator[dict[str, Host]]:
    """A main PC and a rig, and a cable between them."""
    with two_hosts() as pair:
        yield pair


@pytest.mark.parametrize('unplugged', ['main', 'rig'])
@pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
def test_cable_unplugged(hosts: dict[str, Host], loop: str, unplugged: str) -> None:
    """Every message is confirmed and delivered once and in order, whichever end is unplugged."""
    with hosts['rig'].start(loop, 'rig', hosts['rig'].address) as rig:
        try:
            (uri,) = confirmed(rig, 1)
            assert uri.startswith(f'udp://{hosts["rig"].address}:')
            with hosts['main'].start(loop, 'main', uri, str(N_MESSAGES), str(TIMEOUT)) as main:
                try:
                    lines = confirmed(main, N_BEFORE)
                    hosts[unplugged].plug('down')
                    time.sleep(UNPLUGGED)  # the duration of the break
                    assert main.poll() is None  # the session is still running
                    hosts[unplugged].plug('up')
                    rest = rest_of(main)
                    lines += rest.splitlines()
                finally:
                    main.kill()
            heard = rest_of(rig)
        finally:
            rig.kill()
    assert lines == [str(number) for number in range(N_MESSAGES)]
    assert json.loads(heard) == list(range(N_MESSAGES))
    assert (main.returncode, rig.returncode) == (0, 0)
