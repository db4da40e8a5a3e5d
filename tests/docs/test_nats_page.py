"""docs/nats.md: the rigs, the main PC and the command of the page reach each other by a broker."""

from __future__ import annotations

import sys

import pytest

from brokers import needs_broker, subject
from doc_blocks import all_blocks, select, unprompted
from doc_terminal import compare, without_figures
from lab import free_port
from programs import Program

PAGE, LONG = 'docs/nats.md', 60.0


@needs_broker
@pytest.mark.skipif(sys.platform == 'win32', reason='the output of the page is UTF-8')
def test_nats_page(broker) -> None:
    for_rig, for_main = (block.text for block in select(all_blocks(), 'python', PAGE))
    words, there = subject(), 'nats://broker.lab.org/lab.room2'
    here, udp = f'{broker.uri}/{words}', f'udp://127.0.0.1:{free_port()}'
    assert there in for_rig
    for_rig = for_rig.replace(there, here)
    for_ephys = for_rig.replace('camera', 'ephys')
    for_stimulus = for_rig.replace(f'{here}.camera', udp).replace("'camera'", "'stimulus'")
    with Program(for_rig), Program(for_ephys), Program(for_stimulus):
        with Program(for_main.replace(there, here).replace('udp://192.168.0.14', udp)) as main:
            assert main.wait(LONG) == 0, main.output
        for name in ('camera', 'ephys', 'stimulus'):
            assert f"'{name}': 0." in main.output
        [(command, expected)] = [
            both for block in select(all_blocks(), 'console', PAGE) if not block.why_not for both in unprompted(block)
        ]
        program, _, rest = command.replace(there, here).partition(' ')
        assert program == 'echorig'
        with Program('', command=[sys.executable, '-m', 'echorig', *rest.split(), '--timeout', '20']) as doctor:
            assert doctor.wait(LONG) == 0, doctor.output
    where = f'127.0.0.1:{broker.port}'
    # The page has a broker with a name, of which the way there is looked up.
    shown = [line.replace(where, 'broker.lab.org:4222').replace(words, 'lab.room2') for line in doctor.lines]
    assert len(shown) == len(expected)
    keep = [0, *range(3, len(expected))]
    found = compare([expected[i] for i in keep], [shown[i] for i in keep], without_figures)
    assert found == '', f'{found}: {doctor.output}'
