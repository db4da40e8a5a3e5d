"""Real programs on a bad network, stopped, killed and restarted: delivery is exactly once, and never after a failure.

``ECHORIG_ORACLE_SECONDS=180`` takes longer, ``ECHORIG_ORACLE_SEED`` repeats the random choices of a seed, and
``ECHORIG_LOOP`` selects the event loop of all programs.
"""

from __future__ import annotations

import os
import sys

import pytest

from . import event_log
from .driver import RIGS, Driver
from .oracle import check, report, summary

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get('ECHORIG_ORACLE_SECONDS', '20'))


@pytest.mark.skipif(sys.platform != 'linux', reason='needs /proc')
@pytest.mark.timeout(SECONDS + 300)
def test_real_programs(tmp_path):
    seed = os.environ.get('ECHORIG_ORACLE_SEED') or os.urandom(4).hex()
    print(f'Seed {seed}, event logs in {tmp_path}')
    with Driver(tmp_path, seed) as driver:
        driver.disturb(SECONDS)
        driver.finish()
    found = event_log.read(tmp_path)
    counts = summary(found)
    print(counts)
    if violations := check(found):
        pytest.fail(report(violations), pytrace=False)
    assert counts['last: ok'] == len(RIGS)
