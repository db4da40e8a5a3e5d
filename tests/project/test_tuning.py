"""`Tuning`: the public fields, and the internal values that are added to them."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

import internals
from echorig import EchoProtocol, Tuning, sync
from echorig.tuning import DEFAULT_TUNING, InternalTuning
from eventually import eventually
from lab import REF

PUBLIC = {
    *('tags', 'max_peers', 'max_stream_message', 'max_connections', 'max_receive_buffer', 'max_send_buffer'),
    *('idle_timeout', 'handshake_timeout', 'max_backlog', 'max_reconnect_delay', 'min_truncated_echo'),
    *('log_burst', 'log_interval'),
}
INTERNAL = [field for field in fields(InternalTuning) if field.name not in PUBLIC]
FORMER = ['max_unfinished', 'max_unsent', 'max_reconnect', 'min_truncated', 'first_reconnect', 'fast_datagrams']
DOCS = Path(__file__).parents[2] / 'docs'


def test_the_fields_are_few():
    assert {field.name for field in fields(Tuning)} == PUBLIC
    assert len(PUBLIC) == 13


@pytest.mark.parametrize('name', ['unknown', *FORMER, *(field.name for field in INTERNAL)])
def test_other_fields_are_refused(name):
    assert not hasattr(Tuning(), name)
    with pytest.raises(TypeError, match=rf"^Tuning\.__init__\(\) got an unexpected keyword argument '{name}'"):
        Tuning(**{name: 1})


def test_the_documentation_has_these_fields():
    """Its table has each of them, and no page mentions another."""
    table = (DOCS / 'settings.md').read_text('utf-8').split('(limits)=')[1].split('(crowds)=')[0]
    rows = re.findall(r'^\| ((?:`\w+`(?:, )?)+) \|', table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r'\w+', row)} == PUBLIC
    pages = [*DOCS.glob('*.md'), *DOCS.glob('*.rst'), DOCS.parent / 'README.md', DOCS.parent / 'CHANGELOG.md']
    for page in pages:
        text = page.read_text('utf-8')
        assert set(re.findall(r'\bTuning[.(](\w+)', text)) <= PUBLIC, page
        assert not re.search('|'.join(rf'`{field.name}\b' for field in INTERNAL), text), page


def test_the_texts_of_the_package_have_these_fields():
    root = Path(__file__).parents[2]
    for path in [*root.glob('src/**/*.py'), *root.glob('ext/**/*.pyx')]:
        assert set(re.findall(r'\bTuning\.(\w+)', path.read_text('utf-8'))) <= PUBLIC, path


def test_internal_values_are_added():
    tuning = Tuning(max_peers=7, idle_timeout=3.0)
    whole = InternalTuning.of(tuning)
    assert (whole.max_peers, whole.idle_timeout, whole.log_burst) == (7, 3.0, 10)
    assert all(getattr(whole, field.name) == field.default for field in INTERNAL)
    assert InternalTuning.of(DEFAULT_TUNING) == InternalTuning()
    assert InternalTuning.of(whole) is whole
    shorter = replace(whole, close_grace=0.1)
    assert InternalTuning.of(shorter) is shorter


def test_values_of_a_subclass_are_kept():
    class LabTuning(Tuning):
        """The defaults of a lab."""

    assert InternalTuning.of(LabTuning(max_backlog=3)) == InternalTuning(max_backlog=3)


async def test_tuning_of_a_communicator():
    tuning = Tuning(max_backlog=5)
    async with await EchoProtocol.server('127.0.0.1:0', tuning=tuning) as server:
        assert server.tuning is tuning
        assert server.events().limit == 5
    async with await EchoProtocol.server('127.0.0.1:0') as server:
        assert server.tuning == Tuning()


def test_tuning_of_a_blocking_communicator():
    tuning = Tuning(max_backlog=5)
    with sync.EchoProtocol.server('127.0.0.1:0', tuning=tuning) as server:
        assert server.tuning is tuning


async def test_the_first_delay_to_reconnect_is_at_most_the_longest_one(lab):
    """The longest delay may be set shorter than the first one."""
    server = await lab.server('tcp')
    client = await lab.client(server, tuning=Tuning(max_reconnect_delay=0.001))
    assert internals.reconnect_delay(client) == 0.001
    client._transport.abort()
    await client.on_connection_lost
    await eventually(lambda: client.is_connected, 'the client is connected again')
    await client.start(REF)
