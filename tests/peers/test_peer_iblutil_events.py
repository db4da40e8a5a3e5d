"""Every event, both ways, between echorig and iblutil in its own process.

Limits of iblutil's own, which these tests keep to: over TCP it serves a single client and takes every
piece of the stream for one message, so nothing may be sent before it has read what was; a message that comes
while it waits for an echo is a mismatch to it; and after a timeout or a mismatch it closes itself.
"""

from __future__ import annotations

import asyncio

import iblutil_fixtures
import pytest
from iblutil_peer import RemoteError

from echorig import ConnectionClosedError, EchoTimeoutError, ExpMessage
from lab import REF

pytest.importorskip('iblutil')
patience, iblutil, wire = iblutil_fixtures.patience, iblutil_fixtures.iblutil, iblutil_fixtures.wire

DATA = {'foo': 'bär 🐭', 'numbers': [1, 2.5, -3e-7, None, True]}
MESSAGES = [
    ('init', [], {'data': DATA}, 'EXPINIT', [DATA]),
    ('init', [], {}, 'EXPINIT', [None]),
    ('start', [REF], {}, 'EXPSTART', [REF, None]),
    ('start', [{'date': '2022-01-01', 'sequence': '1', 'subject': 'subject'}], {'data': DATA}, 'EXPSTART', [REF, DATA]),
    ('status', [20], {}, 'EXPSTATUS', [20]),
    ('status', ['RUNNING'], {}, 'EXPSTATUS', [20]),
    ('info', ['INITIALIZED'], {'data': DATA}, 'EXPINFO', [10, DATA]),
    ('stop', [], {'data': DATA}, 'EXPEND', [DATA]),
    ('stop', [], {'data': 'now', 'immediately': True}, 'EXPINTERRUPT', ['now']),
    ('cleanup', [], {'data': []}, 'EXPCLEANUP', [[]]),
]


async def test_they_hear_every_event(wire):
    await wire.they_listen()
    for method, args, kwargs, event, data in MESSAGES:
        await wire.say(method, *args, **kwargs)
        heard = await wire.process.hear()
        assert (heard['event'], heard['data']) == (event, data)
        assert tuple(heard['addr']) == wire.our_addr
    assert await wire.process.nothing_more('theirs')


async def test_we_hear_every_event(wire):
    heard = []
    wire.ours.assign_callback(ExpMessage.any(), lambda data, addr, event: heard.append((event.name, data, addr)))
    for method, args, kwargs, _, _ in MESSAGES:
        await wire.they_say(method, *args, **kwargs)
    assert heard == [(event, data, wire.their_addr) for *_, event, data in MESSAGES]


async def test_turns(wire):
    """A hundred messages in each direction, in turns: each is confirmed and delivered once."""
    heard = []
    wire.ours.assign_callback('EXPINFO', lambda data, addr: heard.append(data[1]))
    await wire.they_listen(events=['EXPINFO'])
    for i in range(100):
        await wire.say('info', 'RUNNING', data=i)
        assert (await wire.process.hear())['data'] == [20, i]
        await wire.they_say('info', 'RUNNING', data=i)
    assert heard == list(range(100))
    assert await wire.process.nothing_more('theirs')
    assert not wire.ours.awaiting_response()


async def test_same_message_again(wire):
    """Equal bytes in both directions are messages and not echoes of each other."""
    heard = []
    wire.ours.assign_callback('EXPSTATUS', lambda data, addr: heard.append(data))
    await wire.they_listen(events=['EXPSTATUS'])
    for _ in range(20):
        await wire.say('status', 'RUNNING')
        assert (await wire.process.hear())['data'] == [20]
        await wire.they_say('status', 'RUNNING')
    assert heard == [[20]] * 20
    assert await wire.process.nothing_more('theirs')


async def test_on_event(wire):
    theirs = await wire.begin('on_event', 'EXPSTART')
    await wire.say('start', REF, data=DATA)
    assert await theirs == [[REF, DATA], list(wire.our_addr)]

    ours = asyncio.create_task(wire.ours.on_event(ExpMessage.EXPEND | ExpMessage.EXPINTERRUPT))
    await wire.they_say('stop', data='enough', immediately=True)
    assert await ours == (['enough'], wire.their_addr, ExpMessage.EXPINTERRUPT)


async def test_text(wire):
    """Text that is no message is confirmed as well; iblutil also only logs a warning."""
    await wire.say('confirmed_send', 'bär')
    with pytest.warns(RuntimeWarning, match='Expected list'):
        await wire.they_say('confirmed_send', 'bär')
    await wire.they_say('start', REF)


async def test_large_message(wire):
    """Sizes up to a whole datagram; over TCP up to one read of iblutil."""
    text = 'x' * (65_507 - len('[1, ""]') if wire.is_udp else 16_000)
    heard = []
    wire.ours.assign_callback('EXPINIT', lambda data, addr: heard.append(data))
    await wire.they_listen(events=['EXPINIT'])
    await wire.say('init', data=text)
    assert (await wire.process.hear())['data'] == [text]
    await wire.they_say('init', data=text)
    assert heard == [[text]]


@pytest.mark.parametrize('wire', ['client-udp', 'client-ws'], indirect=True)
async def test_one_that_gave_up(wire):
    """An iblutil client closes itself when a send times out; our server continues with another client."""
    with pytest.raises(RemoteError) as caught:
        await wire.they_say('confirmed_send', [0, 'Error: a notice is never echoed', 2], timeout=0.1)
    assert caught.value.kind == 'TimeoutError'
    assert await wire.process.do('state', com='theirs') == [False, False]
    with pytest.raises((EchoTimeoutError, ConnectionClosedError), match=str(wire.their_addr[1])):
        await wire.say('confirmed_send', [1, None], timeout=0.2)

    _, addr = await wire.process.do('open', com='other', role='client', uri=wire.ours.server_uri)
    heard = []
    wire.ours.assign_callback('EXPSTART', lambda data, addr: heard.append(addr))
    await wire.process.call('other', 'start', REF)
    assert heard == [tuple(addr)]
    await wire.process.do('listen', com='other', how='report')
    await wire.ours.start(REF, addr=tuple(addr))
    assert (await wire.process.hear())['data'] == [REF, None]


@pytest.mark.parametrize('scheme', ['udp', 'tcp'])
async def test_many_clients(iblutil, lab, scheme):
    """Eight iblutil clients send to our server at the same time, and each message is confirmed."""
    server = await lab.server(scheme)
    heard = []
    server.assign_callback('EXPINFO', lambda data, addr: heard.append((addr, data[1])))
    names = [f'theirs{i}' for i in range(8)]
    addrs = [tuple((await iblutil.do('open', com=n, role='client', uri=server.server_uri))[1]) for n in names]
    for i in range(5):
        sends = [await iblutil.begin('call', com=name, method='info', args=['RUNNING', i]) for name in names]
        await asyncio.gather(*sends)
    assert sorted(heard) == sorted((addr, i) for addr in addrs for i in range(5))
    for name in names:
        await iblutil.do('listen', com=name, how='report')
    await asyncio.gather(*(server.init(data=addr[1], addr=addr) for addr in addrs))
    told = [await iblutil.hear() for _ in names]
    assert sorted((m['com'], m['data'][0]) for m in told) == sorted(zip(names, (a[1] for a in addrs), strict=True))
