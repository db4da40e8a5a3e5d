"""Real programs, stopped, killed and started anew on a bad network: once if confirmed, never late if failed.

``ECHORIG_ORACLE_SECONDS=180`` takes longer, ``ECHORIG_ORACLE_SEED`` repeats what a seed stands for, as far as the
machine does, and ``ECHORIG_LOOP`` has all programs run on one loop.
"""

from __future__ import annotations

import os
import sys

import pytest

from . import notes
from .driver import RIGS, Driver
from .oracle import check, report, summary

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get('ECHORIG_ORACLE_SECONDS', '20'))


@pytest.mark.skipif(sys.platform != 'linux', reason='stopped programs are looked for in /proc')
@pytest.mark.timeout(SECONDS + 300)
def test_real_programs(tmp_path):
    seed = os.environ.get('ECHORIG_ORACLE_SEED') or os.urandom(4).hex()
    print(f'Seed {seed}, notes in {tmp_path}')
    with Driver(tmp_path, seed) as driver:
        driver.disturb(SECONDS)
        driver.finish()
    found = notes.read(tmp_path)
    happened = summary(found)
    print(happened)
    if violations := check(found):
        pytest.fail(report(violations), pytrace=False)
    assert happened['last: ok'] == len(RIGS)
