"""Frames of any kind: no error reaches the event loop, and the communicator stays usable."""

from __future__ import annotations

import asyncio
import logging
import warnings
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import internals
from echorig import ConnectionClosedError, EchoProtocol, ExpMessage
from echorig.delivery._exchange import Exchange
from echorig.delivery.verdicts import Verdict
from echorig.tuning import InternalTuning
from eventually import eventually
from lab import REF, RawUdp, free_port

BAD = {
    'one byte': b'x',
    'invalid UTF-8': b'["\xff", 2]',
    'not JSON': b'[2, "a"',
    'deep': b'[' * 60_000,
    'object': b'{"event": 2}',
    'number': b'2',
    'text': b'foo',
    'empty array': b'[]',
    'unknown code': b'[3000, null]',
    'huge code': b'[' + b'9' * 5000 + b']',
    'negative code': b'[-1, null]',
    'compound code': b'[3, null]',
    'boolean code': b'[true, null]',
    'float code': b'[2.0, null]',
    'unknown name': b'["EXPSTOP"]',
    'array code': b'[[2]]',
    'null code': b'[null, 1]',
    'NUL': b'\x00',
}
ODD_NOTICES = [
    b'[0]', b'[0, "text"]', b'[0, null]', b'[0, {"a": 1}, [2]]', b'[0, "text", "[2, \\"ref\\", null]"]',
    b'[0, "text", 3]', b'[0, "text", 4096, 1, 2]', b'[0, "text", "\xf0\x9f\x98\x80"]', b' [ 0 , 1, true]',
]  # fmt: skip


@pytest.mark.parametrize('data', BAD.values(), ids=BAD.keys())
async def test_bad_input_over_the_socket(lab, data, caplog):
    server, client = await lab.pair()
    received = []
    server.assign_callback(ExpMessage.any(), lambda *args: received.append(args[0]))
    peer = await RawUdp.open()
    peer.say(b'', (server.hostname, server.port))
    peer.say(data, (server.hostname, server.port))
    assert await peer.hear() == (data, (server.hostname, server.port))  # echoed before it is looked at
    await client.start(REF)
    assert received == [[REF, None]]
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(records) == 1
    assert 'Ignored' in records[0].getMessage()
    assert str(len(data)) in records[0].getMessage()
    assert await peer.silence(0.02)
    peer.close()


@pytest.mark.parametrize('data', BAD.values(), ids=BAD.keys())
async def test_bad_input_over_tcp(lab, data, caplog):
    server, client = await lab.pair('tcp')
    reader, writer = await asyncio.open_connection(server.hostname, server.port)
    writer.write(data)
    if data not in (BAD['not JSON'], BAD['deep']):  # those wait for the rest of the message
        echo = await asyncio.wait_for(reader.readexactly(len(data)), 2)
        assert echo == data
    writer.close()
    await client.start(REF)
    await eventually(
        lambda: any(record.levelno == logging.WARNING for record in caplog.records),
        'a warning is logged',
    )
    await writer.wait_closed()


@pytest.mark.parametrize('data', ODD_NOTICES)
async def test_odd_notices_are_delivered_and_never_echoed(lab, data, caplog):
    server, client = await lab.pair()
    notices = []
    server.assign_callback(0, lambda data, addr: notices.append(data))
    peer = await RawUdp.open()
    peer.say(data, (server.hostname, server.port))
    await client.init()
    assert await peer.silence(0.02)
    assert len(notices) == 1
    assert isinstance(notices[0], list)
    assert sum('failed with' in record.getMessage() for record in caplog.records) == 1
    peer.close()


@pytest.mark.parametrize(
    'data',
    [
        b'["' + b'x' * 60_000 + b'"]',
        b'[' + b'9' * 4000 + b']',
        b'[["\\u001b[2J"]]',
        b'[0, "' + b'x' * 60_000 + b'", 2]',
        b'[0, "\\u001b[2J and a lone \\ud800", 2]',
        b'[0, ["\\n"], 2]',
    ],
)
async def test_what_is_logged_of_bad_input_is_short_and_legible(lab, data, caplog):
    server = await lab.server()
    internals.pipeline(server).receive_verified(data, ('127.0.0.1', 9))
    texts = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(texts) == 1
    assert len(texts[0]) < 2500
    assert texts[0].isprintable()


async def test_what_stands_in_place_of_an_event_is_shown_once_and_without_what_may_be_secret(lab, caplog):
    server = await lab.server()
    internals.pipeline(server).receive_verified(b'[[{"user": "0123456789abcdef"}]]', ('127.0.0.1', 9))
    assert 'Ignored' in caplog.text
    assert '0123456789abcdef' not in caplog.text


async def test_names_of_events_are_understood(lab):
    server = await lab.server()
    peer = await RawUdp.open()
    waiting = asyncio.ensure_future(server.on_event('EXPSTART'))
    await asyncio.sleep(0)
    peer.say(b'["expstart", 1]', (server.hostname, server.port))
    assert (await asyncio.wait_for(waiting, 2))[0] == [1]
    peer.close()


async def test_bad_input_with_warnings_as_errors_or_not(lab):
    server = await lab.server()
    with pytest.warns(RuntimeWarning, match='Expected list, got <3 bytes>'):
        server._receive(b'foo', ('127.0.0.1', 9))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        server.datagram_received(b'foo', ('127.0.0.1', 9))


async def test_warnings_of_bad_input_do_not_pile_up(lab):
    server = await lab.server()
    with warnings.catch_warnings():
        warnings.simplefilter('default')
        warnings.showwarning = lambda *args, **kwargs: None
        for i in range(1000):
            server.datagram_received(b'bad %d' % i, ('127.0.0.1', 9))
    assert internals.n_warned() <= internals.MAX_WARNED + 2


async def test_a_program_error_in_receiving_is_logged_not_raised(lab, caplog):
    server, client = await lab.pair()
    with mock.patch.object(server, '_receive', side_effect=ZeroDivisionError):
        server.datagram_received(b'[8]', ('127.0.0.1', 9))
    assert 'could not be processed' in caplog.text
    await client.init()


@pytest.mark.parametrize('of', ['class', 'object'])
async def test_a_replaced_hook_receives_every_frame(lab, monkeypatch, of):
    server, client = await lab.pair()
    await client.init()
    received = []
    plain = EchoProtocol._receive

    def receive(self: EchoProtocol, data: bytes, addr: tuple[str, int]) -> None:
        if self is server:
            received.append(data)
        plain(self, data, addr)

    if of == 'class':
        monkeypatch.setattr(EchoProtocol, '_receive', receive)
    else:
        monkeypatch.setattr(server, '_receive', receive.__get__(server))
    await client.start(REF)
    monkeypatch.undo()
    await client.stop()
    assert [data[:4] for data in received] == [b'[2, ']


async def test_a_subclass_receives_datagrams_itself():
    received = []

    class Own(EchoProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            received.append(data)
            super().datagram_received(data, addr)

    com = Own('udp://127.0.0.1:9', 'server')
    com.assign_callback('EXPINFO', lambda data, addr: received.append(data))
    com.datagram_received(b'[64, 20, 1]', ('127.0.0.1', 9))
    assert received == [b'[64, 20, 1]', [20, 1]]
    com.close()


async def test_frames_to_thousands_of_peers_that_are_gone(lab):
    """Each of them ends what is waiting for its peer."""
    server = await lab.server('tcp')
    outbox = internals.exchange(server).outbox
    outbox.extend((b'[4, null]', ('127.0.0.1', port)) for port in range(1, 5001))
    internals.pipeline(server).flush()
    assert not outbox


async def test_datagrams_of_strangers_are_ignored_by_a_client(lab, caplog):
    _, client = await lab.pair()
    with mock.patch.object(client, '_receive') as receive:
        client.datagram_received(b'foo', ('192.168.0.0', client.port))
        receive.assert_not_called()
    assert any('unexpected host' in r.getMessage() and r.levelno == logging.WARNING for r in caplog.records)


async def test_two_ends_that_misunderstand_each_other_stop(lab, caplog):
    server, client = await lab.pair()
    with pytest.warns(RuntimeWarning):
        client._receive(b'foo', (server.hostname, server.port))  # never sent by the server
    await eventually(lambda: 'keep coming back' in caplog.text, '"keep coming back" in caplog.text')
    await client.init()
    assert len([r for r in caplog.records if r.getMessage().startswith('Received')]) < 20


@pytest.mark.blocks  # hypothesis keeps its examples in files
async def test_the_receive_path_takes_anything(lab):
    server, client = await lab.pair()

    @given(st.binary(max_size=100), st.sampled_from(['10.0.0.1', '10.0.0.2']))
    def feed(data, host):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            server.datagram_received(data, (host, 9))

    logging.getLogger('server').setLevel(logging.CRITICAL)
    try:
        feed()
    finally:
        logging.getLogger('server').setLevel(logging.NOTSET)
    await client.init()


async def test_logging_as_programs_look_for_it(lab, caplog):
    caplog.set_level(logging.DEBUG)
    server, client = await lab.pair()
    await client.start(REF)
    texts = {(r.name, r.levelname): r.getMessage() for r in caplog.records}
    host, port = client._transport.get_extra_info('sockname')
    assert texts['server', 'INFO'] == f'Received \'[2, "{REF}", null]\' from udp://{host}:{port}'
    assert texts['client', 'INFO'] == 'Confirmation received'
    assert texts['server', 'DEBUG'] == 'No callbacks to execute for event EXPSTART'
    assert not client.logger.handlers
    assert client.logger.level == logging.NOTSET


def test_any_address_will_do():
    """The exchange takes addresses as they are, none included, and forgets a peer wholly."""
    exchange = Exchange(InternalTuning(), False, 65535)
    for _ in range(2):
        assert exchange.classify(b'[2]', None, 1.0) == Verdict.DELIVER
        exchange.disconnect(None, 1.0)


async def test_a_transport_that_raises_leaves_nothing_behind(lab, transport):
    server, client = await lab.pair(transport)
    for expected in (RuntimeError if transport == 'tcp' else ConnectionClosedError, RuntimeError):
        with mock.patch.object(client, '_transport') as broken:
            broken.is_closing.return_value = False
            broken.sendto.side_effect = broken.write.side_effect = RuntimeError('no transport')
            with pytest.raises(expected, match='no transport'):  # at first it is a ping that cannot be sent
                await client.start(REF)
            assert not client.awaiting_response()
        await client.start(REF)


async def test_a_refusal_of_an_earlier_message_does_not_fail_the_next(lab):
    port = free_port()
    client = await lab.client(f'udp://127.0.0.1:{port}')
    client.send([2, 'to nobody'])
    server = await EchoProtocol.server(f'udp://127.0.0.1:{port}')
    try:
        await client.start(REF)
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize('cut', [80, 150])
async def test_an_echo_that_is_cut_short_before_or_inside_its_tag(lab, cut):
    peer = await RawUdp.open()
    client = await lab.client(peer.uri)
    client.max_message_size = cut
    sending = asyncio.ensure_future(client.confirmed_send([2, 'x' * 83, None]))
    data, addr = await peer.hear()
    assert len(data) == 224
    peer.say(data[:cut], addr)
    await sending
    peer.close()
