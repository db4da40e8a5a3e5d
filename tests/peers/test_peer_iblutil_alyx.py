"""Alyx tokens between echorig and iblutil: sent and requested, in both directions, and never logged."""

from __future__ import annotations

import asyncio

import iblutil_fixtures
import pytest

from echorig import Services

pytest.importorskip('iblutil')
patience, iblutil, wire, alyx_like = (
    iblutil_fixtures.patience,
    iblutil_fixtures.iblutil,
    iblutil_fixtures.wire,
    iblutil_fixtures.alyx_like,
)


@pytest.fixture(autouse=True)
def _no_token_in_log(alyx_like):
    with iblutil_fixtures.recorded() as records:
        yield
    texts = [record.getMessage() for record in records]
    assert 'Confirmation received' in texts or any(' bytes>' in text for text in texts)
    assert not any(alyx_like._token['token'] in text for text in texts)


@pytest.fixture
def content(alyx_like):
    return [alyx_like.base_url, {alyx_like.user: alyx_like._token}]


async def test_we_hand_one_over(wire, alyx_like, content):
    await wire.they_listen(events=['ALYX'])
    assert await wire.say('alyx', alyx_like) is None
    assert (await wire.process.hear())['data'] == content
    assert await wire.process.nothing_more('theirs')


async def test_they_hand_one_over(wire, alyx_like, content):
    heard = []
    wire.ours.assign_callback('ALYX', lambda data, addr: heard.append((data, addr)))
    assert await wire.they_say('alyx', vars(alyx_like)) is None
    assert heard == [(content, wire.their_addr)]


async def test_we_ask(wire, alyx_like, content):
    """iblutil sends its answer directly after its echo."""
    await wire.they_listen('token', token=vars(alyx_like), events=['ALYX'])
    assert await wire.say('alyx') == content
    assert (await wire.process.hear())['data'] == [None, {}]
    await wire.process.has_answered('theirs')
    assert await wire.process.nothing_more('theirs')


async def test_they_ask(wire, alyx_like, content):
    asked = asyncio.Queue()
    wire.ours.assign_callback('ALYX', lambda data, addr: asked.put_nowait((data, addr)))
    answer = await wire.begin('alyx', None)
    data, addr = await asyncio.wait_for(asked.get(), 10)
    assert data == [None, {}]
    # Over TCP iblutil would take our echo and our answer for one message if they came together.
    await wire.process.do('confirmed', com='theirs')
    await wire.ours.alyx(alyx_like, addr)
    assert await asyncio.wait_for(answer, 10) == content


@pytest.mark.parametrize('wire', ['server-udp', 'client-udp'], indirect=True)
async def test_they_ask_and_are_told_at_once(wire, alyx_like, content):
    """Our answer directly follows our echo: iblutil can separate them over UDP, but not over TCP."""

    async def answer(data, addr):
        await wire.ours.alyx(alyx_like, addr)

    wire.ours.assign_callback('ALYX', answer)
    assert await wire.they_say('alyx', None) == content


async def test_services_hand_one_over(iblutil, lab, alyx_like, content):
    """Services sends the token to iblutil rigs and to echorig rigs, and requests no answer."""
    coms = []
    for name, scheme in (('camera', 'udp'), ('daq', 'ws')):
        uri, _ = await iblutil.do('open', com=name, role='server', uri=f'{scheme}://127.0.0.1')
        await iblutil.do('listen', com=name, how='report', events=['ALYX'])
        coms.append(await lab.client(uri, name))
    rig = await lab.server('udp', 'rig')
    heard = []
    rig.assign_callback('ALYX', lambda data, addr: heard.append(data))
    services = Services([*coms, await lab.client(rig, 'rig')])
    await services.alyx(alyx_like)
    assert heard == [content]
    told = [await iblutil.hear() for _ in coms]
    assert {what['com']: what['data'] for what in told} == {'camera': content, 'daq': content}
