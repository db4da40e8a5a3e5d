"""Signatures are whitespace for iblutil: it reads a signed message and echoes it unchanged."""

from __future__ import annotations

import iblutil_fixtures
import pytest

from echorig import EchoTimeoutError
from echorig.security._signing import Signer
from lab import REF, RawUdp
from tagging import tag

pytest.importorskip('iblutil')
iblutil = iblutil_fixtures.iblutil
KEY = 'only the laboratory has this key'


def signed(*frames):
    """Return messages signed for another peer, preceded by the handshake of that session."""
    one, other = Signer(KEY), Signer(KEY)
    for number, frame in enumerate(frames):
        one.seal(tag(frame, number), 'other', 0.0)
    ((hello, _),) = one.outbox
    one.outbox.clear()
    other.open(hello, 'one', 0.0)
    one.open(other.outbox[0][0], 'other', 0.0)
    return hello, *(frame for frame, _ in one.outbox)


async def test_it_understands_signed_messages(iblutil):
    uri, addr = await iblutil.do('open', com='theirs', role='server', uri='udp://127.0.0.1')
    await iblutil.do('listen', com='theirs', how='report')
    _, *frames = signed(b'[1, {"foo": "bar"}]', b'[2, "%s", null]' % REF.encode(), b'[4, null]')
    peer = await RawUdp.open()
    heard = []
    for frame in frames:
        peer.say(frame, tuple(addr))
        assert (await peer.hear(30))[0] == frame
        what = await iblutil.hear()
        heard.append((what['event'], what['data']))
    assert heard == [('EXPINIT', [{'foo': 'bar'}]), ('EXPSTART', [REF, None]), ('EXPEND', [None])]


async def test_it_is_not_believed(lab, iblutil):
    """It echoes the handshake, runs no callback for it, and continues to serve others."""
    uri, _ = await iblutil.do('open', com='theirs', role='server', uri='udp://127.0.0.1')
    await iblutil.do('listen', com='theirs', how='report')
    client = await lab.client(uri, key=KEY)
    with pytest.raises(EchoTimeoutError, match='not signed with the same key'):
        await client.confirmed_send([1, None], timeout=1.0)
    plain = await lab.client(uri)
    await plain.confirmed_send([1, 'plain'], timeout=30)
    what = await iblutil.hear()
    assert (what['event'], what['data']) == ('EXPINIT', ['plain'])
    assert await iblutil.nothing_more('theirs')
