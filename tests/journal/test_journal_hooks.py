"""What communicators, sets of rigs and rigs note in a journal."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import echorig
from echorig import EchoProtocol, EchoTimeoutError, Rig, Services, sync
from echorig.communicator.direct_send import DirectSender
from echorig.journal import Journal, check, read
from eventually import eventually
from lab import REF, RawUdp, free_port
from programs import Program
from systems import NOBODY

TOKEN = 'deadbeef00deadbeef11deadbeef22deadbeef33'
pytestmark = pytest.mark.blocks  # the tests read the files


def records(path: Path | str, *kinds: str, rig: str = '', event: str = '') -> list[dict[str, Any]]:
    return [
        fields
        for fields in read(path)
        if (not kinds or fields['kind'] in kinds)
        and (not rig or fields.get('rig') == rig)
        and (not event or fields.get('event') == event)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'session.jsonl'


async def closed(*coms: EchoProtocol) -> None:
    for com in coms:
        com.close()
    for com in coms:
        await com.wait_closed()


async def test_sent_received_confirmed(lab, transport: str, path: Path) -> None:
    server, client = await lab.pair(transport, journal=path)
    server.assign_callback('EXPSTART', lambda data, addr: None)
    await client.start(REF, {'fps': 60})
    await closed(client, server)
    [sent], [received], [confirmed] = (records(path, kind) for kind in ('sent', 'received', 'confirmed'))
    assert sent['rig'] == confirmed['rig'] == 'client'
    assert received['rig'] == 'server'
    assert (sent['role'], received['role']) == ('client', 'server')
    assert sent['event'] == received['event'] == confirmed['event'] == 'EXPSTART'
    assert sent['data'] == received['data'] == [REF, {'fps': 60}]
    assert sent['id'] == received['id'] == confirmed['id']
    assert sent['addr'] == confirmed['addr'] == server.server_uri.partition('://')[2]
    assert 0 < confirmed['rtt'] < 10
    assert confirmed['tries'] >= 1
    assert sent['mono'] <= received['mono'] <= confirmed['mono']
    assert check(path).is_complete


async def test_answers(lab, path: Path) -> None:
    """A confirmed answer and one that nobody confirms; both name the message that they answer."""
    server, client = await lab.pair(journal=path)

    async def confirmed(data: list[Any], addr: Any) -> None:
        await server.info(20, 'confirmed', addr)

    server.assign_callback('EXPINFO', confirmed)
    server.assign_callback('EXPSTATUS', lambda data, addr: server.send([32, 20], addr))
    heard = []
    for event in ('EXPINFO', 'EXPSTATUS'):
        client.assign_callback(event, lambda data, addr: heard.append(data))
    await client.info(10)
    await client.status(10)
    await eventually(lambda: len(heard) == 2, 'both answers arrive')
    await closed(client, server)
    answers = records(path, 'answered')
    assert [fields['event'] for fields in answers] == ['EXPINFO', 'EXPSTATUS']
    assert [fields['reply_to'] for fields in answers] == [fields['id'] for fields in records(path, 'sent')]
    arrived = records(path, 'received', rig='client')
    assert [fields['reply_to'] for fields in arrived] == [fields['reply_to'] for fields in answers]


async def test_notice(lab, path: Path) -> None:
    server, client = await lab.pair(journal=path)
    heard = []

    def fails(data: list[Any], addr: Any) -> None:
        raise OSError('no disk')

    server.assign_callback('EXPSTART', fails)
    client.assign_callback(0, lambda data, addr: heard.append(data))
    await client.start(REF)
    await eventually(lambda: heard, 'the notice arrives')
    await closed(client, server)
    [notice] = records(path, 'notice')
    assert (notice['rig'], notice['event'], notice['about']) == ('client', 'NOTICE', 'EXPSTART')
    assert 'OSError: no disk' in notice['data'][0]
    assert [fields['event'] for fields in records(path, 'answered')] == ['NOTICE']


async def test_unconfirmed(lab, path: Path) -> None:
    server, client = await lab.pair(journal=path)
    heard = []
    server.assign_callback('EXPEND', lambda data, addr: heard.append(data))
    await client.ping()
    client.send([4, 'a'])
    await eventually(lambda: heard, 'it arrives')
    await closed(client, server)
    assert [fields['data'] for fields in records(path, 'sent')] == [['a']]
    assert records(path, 'sent')[0]['id'] == records(path, 'received')[0]['id']
    assert records(path, 'confirmed') == []


async def test_pings_are_not_in_it(lab, path: Path) -> None:
    server, client = await lab.pair(journal=path)
    await client.ping()
    await client.ping()
    await closed(client, server)
    with_messages = records(path, 'sent', 'received', 'answered', 'confirmed', 'failed', 'notice')
    assert with_messages == []


async def test_clock(lab, path: Path) -> None:
    """After pings, the clock of the peer is in lines of its own, and in those of messages to it."""
    server, client = await lab.pair(journal=path)
    await client.measure_clock()
    await client.start(REF)
    await closed(client, server)
    clock = records(path, 'clock')[0]
    [sent] = records(path, 'sent')
    for fields in (clock, sent):
        assert abs(fields['offset']) <= fields['error']  # the same clock
        assert 0 < fields['error'] < 5
    assert 'offset' not in records(path, 'received')[0]


async def test_common_start(lab, path: Path) -> None:
    """When the callbacks of `start(at=)` are to run, and when they ran."""
    server = await lab.answering()
    async with await Services.connect({'a': server.server_uri}, journal=path) as rigs:
        await rigs.start(REF, at=0.05)
    [sent] = records(path, 'sent', event='EXPSTART')
    [answer] = [fields for fields in records(path, 'received', event='EXPSTART') if 'reply_to' in fields]
    assert abs(sent['at'] - sent['time']) < 5e9
    assert answer['at'] >= sent['at'] - 1e9
    assert answer['reply_to'] == sent['id']


async def test_failed_by_time_out(lab, path: Path) -> None:
    silent = await RawUdp.open()
    client = await lab.client(silent.uri, 'camera', journal=path)
    with pytest.raises(EchoTimeoutError):
        await client.confirmed_send([2, REF], timeout=0.2)
    await closed(client)
    [sent], [failed] = records(path, 'sent'), records(path, 'failed')
    assert failed['event'] == sent['event'] == 'EXPSTART'
    assert 'did not echo EXPSTART within' in failed['reason']


async def test_failed_by_refusal(lab, path: Path) -> None:
    client = await lab.client(f'udp://127.0.0.1:{free_port()}', 'camera', journal=path)
    with pytest.raises(EchoTimeoutError):
        await client.confirmed_send([2, REF], timeout=1.0)
    await closed(client)
    assert NOBODY in records(path, 'failed')[0]['reason']


async def test_failed_ping_is_not_in_it(lab, path: Path) -> None:
    silent = await RawUdp.open()
    client = await lab.client(silent.uri, journal=path)
    with pytest.raises(EchoTimeoutError):
        await client.ping(timeout=0.05)
    await closed(client)
    assert records(path, 'failed') == []


async def test_failed_by_closing_and_by_cancellation(lab, path: Path) -> None:
    silent = await RawUdp.open()
    client = await lab.client(silent.uri, journal=path)
    cancelled = asyncio.ensure_future(client.confirmed_send([2, REF], timeout=30))
    left = asyncio.ensure_future(client.confirmed_send([4, 'x'], timeout=30))
    await asyncio.sleep(0.01)
    cancelled.cancel()
    await asyncio.wait({cancelled})
    await closed(client)
    with pytest.raises(echorig.ConnectionClosedError):
        await left
    failed = {fields['event']: fields['reason'] for fields in records(path, 'failed')}
    assert failed['EXPSTART'] == 'cancelled'
    assert 'closed' in failed['EXPEND']
    assert len(records(path, 'failed')) == 2


async def test_tries(lab, path: Path) -> None:
    """A message that is lost at first is confirmed at a later try."""
    server, client = await lab.pair(journal=path)
    await client.ping()
    real, dropped = client._transport, []

    class Lossy:
        def sendto(self, data: bytes, *addr: Any) -> None:
            if len(dropped) < 2:
                dropped.append(data)
            else:
                real.sendto(data, *addr)

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    client._transport = Lossy()
    await client.start(REF)
    client._transport = real
    await closed(client, server)
    [confirmed] = records(path, 'confirmed')
    assert confirmed['tries'] == 3


async def test_messages_that_wait_for_their_turn_have_their_numbers(lab, path: Path) -> None:
    server, client = await lab.pair(journal=path)
    await asyncio.gather(*(client.confirmed_send([64, 20, n]) for n in range(20)))
    await closed(client, server)
    sent, confirmed = records(path, 'sent'), records(path, 'confirmed')
    assert [fields['data'] for fields in sent] == [[20, n] for n in range(20)]
    assert [fields['id'] for fields in sent] == [fields['id'] for fields in confirmed]


async def test_calls_on_many_rigs(lab, path: Path) -> None:
    """The sends without a coroutine are in the journal, too."""
    rigs = await lab.services(5)
    rigs = Services(rigs.values(), journal=path)
    assert DirectSender.of(rigs['rig0'], 'start') is not None
    await rigs.start(REF)
    await closed(*lab.opened)
    names = [f'rig{n}' for n in range(5)]
    for kind in ('sent', 'confirmed', 'received'):
        assert sorted(fields['rig'] for fields in records(path, kind, event='EXPSTART')) == names
    assert check(path).is_complete


async def test_services_connect(lab, path: Path) -> None:
    server = await lab.answering()
    async with await Services.connect({'a': server.server_uri, 'b': server.server_uri}, journal=path) as rigs:
        assert rigs['a'].journal is rigs['b'].journal is not None
        await rigs['a'].start(REF)
        await rigs['b'].start(REF)
    assert len(records(path, 'session')) == 1
    assert {fields['rig'] for fields in records(path, 'confirmed')} == {'a', 'b'}
    assert [fields['state'] for fields in records(path, 'connection', rig='a')] == ['opened', 'closed']


async def test_services_from_a_file(lab, tmp_path: Path, path: Path) -> None:
    server = await lab.answering()
    (tmp_path / 'rigs.yaml').write_text(f'camera: {server.server_uri}\n')
    async with await Services.connect(tmp_path / 'rigs.yaml', journal=path) as rigs:
        await rigs.start(REF)
    assert [fields['rig'] for fields in records(path, 'sent')] == ['camera']


async def test_rig(lab, path: Path) -> None:
    rig = Rig('camera')
    rig.on('EXPSTART')(lambda exp_ref: 'recording')
    rig.on('EXPEND')(lambda: None)
    async with await rig.open('udp://127.0.0.1:0', journal=path):
        async with await Services.connect({'camera': rig.server_uri}) as rigs:
            await rigs.start(REF)
            await rigs.stop()
    assert [fields['data'] for fields in records(path, 'answered', event='EXPSTART')] == [[REF, 'recording']]


def test_sync(path: Path) -> None:
    with sync.EchoProtocol.server('udp://127.0.0.1:0', 'server') as server:
        with sync.Services.connect({'camera': server.server_uri}, journal=path) as rigs:
            assert rigs['camera'].journal is not None
            rigs['camera'].start(REF)
        with sync.EchoProtocol.client(server.server_uri, 'other') as client:
            with sync.Services([client], journal=path):
                client.start(REF)
    assert [fields['rig'] for fields in records(path, 'confirmed')] == ['camera', 'other']


async def test_journal_of_the_program(lab, path: Path) -> None:
    """It is not closed with a communicator."""
    with Journal(path) as journal:
        server, client = await lab.pair(journal=journal)
        await client.start(REF)
        await closed(client)
        other = await lab.client(server, 'other', journal=journal)
        await other.start(REF)
        await closed(other, server)
        assert journal.flush()
        assert len(records(path, 'confirmed')) == 2
    assert len(records(path, 'session')) == 1


async def test_switched_on_and_off(lab, path: Path) -> None:
    server, client = await lab.pair()
    assert client.journal is None
    await client.start(REF)
    client.journal = path
    await client.stop()
    client.journal = None
    await client.cleanup()
    await closed(client, server)
    await eventually(lambda: records(path, 'confirmed'), 'it is written')
    assert [fields['event'] for fields in records(path, 'confirmed')] == ['EXPEND']


async def test_connections(lab, path: Path) -> None:
    server, client = await lab.pair('tcp', journal=path)
    server.clear_connection_callbacks()
    await client.start(REF)
    await closed(client)
    await eventually(lambda: records(path, 'connection', rig='server')[2:], 'it is noted')
    await closed(server)
    states = [fields['state'] for fields in records(path, 'connection', rig='server')]
    assert states == ['opened', 'connected', 'lost', 'closed']
    assert [fields['state'] for fields in records(path, 'connection', rig='client')] == [
        *('connected', 'opened', 'closed')
    ]


async def test_tokens(lab, path: Path) -> None:
    server, client = await lab.pair(journal=path)
    await client.confirmed_send([128, 'https://alyx.example.org', {'anna': {'token': TOKEN}}])
    await closed(client, server)
    assert len(records(path, 'sent', 'received', 'confirmed', event='ALYX')) == 3
    assert TOKEN.encode() not in path.read_bytes()


async def test_signed(lab, path: Path) -> None:
    server, client = await lab.pair(journal=path, key='a key of sixteen bytes')
    await client.start(REF)
    await closed(client, server)
    assert records(path, 'sent')[0]['id'] == records(path, 'received')[0]['id']
    assert b'sixteen' not in path.read_bytes()


@pytest.mark.parametrize('wrong', [3, b'x', True, Ellipsis], ids=repr)
async def test_wrong_type(lab, wrong: Any) -> None:
    with pytest.raises(TypeError, match='journal must be the path of a file, or a Journal'):
        await lab.server(journal=wrong)


async def test_path_that_cannot_be_opened(lab, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='Cannot open the journal'):
        await lab.server(journal=tmp_path / 'none' / 'j')
    with pytest.raises(OSError, match='Cannot open the journal'):
        await lab.client('udp://127.0.0.1:9', journal=tmp_path)


async def test_opening_that_fails_leaves_the_journal(lab, path: Path) -> None:
    """The file is closed again, so that the next program begins with a line of its own."""
    with pytest.raises(OSError):
        await lab.client(f'tcp://127.0.0.1:{free_port()}', journal=path)
    server = await lab.server(journal=path)
    await closed(server)
    assert len(records(path, 'session')) == 2


# --- the environment variable ---

PROGRAM = """
    import asyncio
    from echorig import EchoProtocol

    async def main():
        server = await EchoProtocol.server('udp://127.0.0.1:0', 'server')
        client = await EchoProtocol.client(server.server_uri, 'client')
        await client.start('2022-01-01_1_subject')
        client.close()
        server.close()

    asyncio.run(main())
    """


def test_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file for each process, in a folder that is created; the programs know nothing of it."""
    folder = tmp_path / 'journals' / 'room-2'
    monkeypatch.setenv('ECHORIG_JOURNAL', str(folder))
    for _ in range(2):
        with Program(PROGRAM) as process:
            assert process.wait() == 0, process.lines
    files = list(folder.iterdir())
    assert len(files) == 2
    for file in files:
        assert file.suffix == '.jsonl'
        [session] = records(file, 'session')
        assert file.stem.endswith(f'_{session["pid"]}')
        assert [fields['kind'] for fields in records(file, 'sent', 'received', 'confirmed')] == [
            *('sent', 'received', 'confirmed')
        ]
    assert len(records(folder, 'confirmed')) == 2


def test_environment_variable_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('ECHORIG_JOURNAL', str(tmp_path / 'file'))
    with Program(PROGRAM) as process:
        assert process.wait() == 1
        assert 'ECHORIG_JOURNAL=' in process.lines[-1]


def test_journal_argument_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('ECHORIG_JOURNAL', str(tmp_path / 'folder'))
    program = PROGRAM.replace("'server')", "'server', journal='own.jsonl')").replace(
        "'client')", "'client', journal='own.jsonl')"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(path for path in sys.path if path))
    with Program(program) as process:
        assert process.wait() == 0, process.lines
    assert len(records(tmp_path / 'own.jsonl', 'confirmed')) == 1
    assert not (tmp_path / 'folder').exists()
