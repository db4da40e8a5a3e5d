"""Each cell of the table in docs/security.md, shown by an attack.

A relay of the attacker stands between a rig and a main PC. Data that he injects there comes from the address of the
main PC or of the rig. Other data comes from an address of his own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import ssl
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio

import internals
from attack_scene import TO_MAIN, TO_RIG, TcpRelay, UdpRelay
from echorig import EchoError, EchoProtocol, ExpMessage, Tuning
from echorig.wire import _tags
from echorig.wire._codec import encode
from hosts import BAD, GOOD, needs_others
from lab import RawUdp
from secrets_watch import token
from tagging import TAG_SIZE, read_tag, set_ack, strip_tag, tag

trustme = pytest.importorskip('trustme')
pytestmark = [pytest.mark.slow, needs_others, pytest.mark.filterwarnings('ignore:Expected list:RuntimeWarning')]

KEY = 'only the laboratory has this key'
TOKEN = token()
SHORT = 0.5  # seconds; an attack that can succeed takes less
COLUMNS = ('plain', 'allow', 'key', 'TLS')
MODES = (*COLUMNS, 'key over TCP')  # the row of `key` must hold on a stream too
DONE = [64, 20, 'done']
TABLE = Path(__file__).parents[2] / 'docs' / 'security.md'


def rows() -> dict[str, dict[str, bool]]:
    """Read the table."""
    found = re.findall(
        r'^\| (\w.*?) \| (yes|no) \| (yes|no) \| (yes|no) \| (yes|no) \|$', TABLE.read_text('utf-8'), re.M
    )
    return {row: {mode: cell == 'yes' for mode, cell in zip(COLUMNS, cells, strict=True)} for row, *cells in found}


ROWS = rows()
SHOWN: set[str] = set()


def attack(row: str):
    """Decorate a test that returns whether the attack succeeds, and compare that with the table for each mode."""
    SHOWN.add(row)

    def decorator(function):
        @functools.wraps(function)
        async def test(scene):
            mode = scene.mode
            assert await function(scene) is ROWS[row][mode.split()[0]], f'can an attacker {row}, with {mode}?'

        return pytest.mark.parametrize('mode', MODES)(test)

    return decorator


@pytest.fixture(scope='module')
def papers():
    """Certificates of the lab and of another authority. They are read from files before any loop runs."""
    lab, other = trustme.CA(), trustme.CA()

    def server(authority):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(GOOD).configure_cert(context)
        lab.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client(*with_certificate_of):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        lab.configure_trust(context)
        for authority in with_certificate_of:
            authority.issue_cert('main@lab.org').configure_cert(context)
        return context

    return SimpleNamespace(
        rig=server(lab), main=client(lab), fake_rig=server(other), nobody=client(), stranger=client(other)
    )


class Scene:
    """A rig, a main PC, and the relay of the attacker between them."""

    def __init__(self, mode, lab, papers):
        self.mode, self.lab = mode, lab
        self.scheme = {'TLS': 'wss', 'key over TCP': 'tcp'}.get(mode, 'udp')
        self.udp = self.scheme == 'udp'
        self.rig_kwargs, self.main_kwargs, self.fake_kwargs, self.own_kwargs = {}, {}, {}, {}
        if mode == 'allow':
            self.rig_kwargs = self.main_kwargs = {'allow': [GOOD]}
        elif mode.startswith('key'):
            self.rig_kwargs = self.main_kwargs = {'key': KEY}
        elif mode == 'TLS':
            self.rig_kwargs, self.main_kwargs = {'ssl': papers.rig}, {'ssl': papers.main}
            self.fake_kwargs, self.own_kwargs = {'ssl': papers.fake_rig}, {'ssl': papers.stranger}

    async def open(self):
        self.rig = await self.lab.server(self.scheme, 'rig', **self.rig_kwargs)
        self.heard = self.listen(self.rig)
        self.relay = await (UdpRelay if self.udp else TcpRelay).open(self.rig)
        self.main = await self.lab.client(self.relay.uri, 'main', **self.main_kwargs)
        self.main.default_echo_timeout = 2.0

    def listen(self, com):
        heard = []
        com.assign_callback(ExpMessage.any(), lambda data, addr, event: heard.append([int(event), *data]))
        return heard

    async def restart(self):
        """Restart the program of the rig."""
        self.rig.close()
        await self.rig.wait_closed()
        self.rig = await self.lab.server_again(self.rig, **self.rig_kwargs)
        self.heard = self.listen(self.rig)

    async def open_attacker(self):
        """Open a communicator at the address of the attacker; return None if the rig refuses it."""
        kwargs = {'local_addr': (BAD, 0), 'reconnect': False, **self.own_kwargs}
        if self.udp:
            kwargs['remote_addr'] = self.rig.hostname, self.rig.port
        try:
            com = await self.lab.client(self.rig.server_uri, 'attacker', **kwargs)
        except OSError:
            return None
        com.default_echo_timeout = SHORT
        return com

    async def received_messages(self):
        """Return the messages of the rig, after it has processed all data that was sent so far."""
        colleague = await EchoProtocol.client(self.rig.server_uri, 'colleague', **self.main_kwargs)
        await colleague.confirmed_send(DONE, timeout=20)
        colleague.close()
        await colleague.wait_closed()
        assert self.heard.count(DONE)
        return [message for message in self.heard if message != DONE]

    def forge(self, frame, direction=TO_RIG):
        """Send a frame from the address of the main PC or of the rig."""
        with contextlib.suppress(KeyError, OSError, RuntimeError):  # the connection is closed
            self.relay.inject(direction, frame)


@pytest_asyncio.fixture
async def scene(lab, mode, papers):
    async def server_again(rig, **kwargs):
        com = await EchoProtocol.server(rig.server_uri, 'rig', **kwargs)
        lab.opened.append(com)
        return com

    lab.server_again = server_again
    scene = Scene(mode, lab, papers)
    await scene.open()
    yield scene
    scene.relay.close()
    await asyncio.sleep(0)


async def failed(send):
    """Return whether a send fails."""
    try:
        await send
    except EchoError:
        return True
    return False


# --- eavesdropping ---


@attack('read messages and Alyx tokens')
async def test_reading(scene):
    await scene.main.confirmed_send([128, 'https://alyx.example.org', {'olivia': {'token': TOKEN}}])
    assert scene.heard
    return TOKEN.encode() in b''.join(data for _, data in scene.relay.recorded)


# --- forged messages ---


@attack('start an experiment from another computer')
async def test_starting(scene):
    com = await scene.open_attacker()
    if com is not None:
        await failed(com.start('2022-01-01_1_attack'))
    if scene.udp:
        enemy = await RawUdp.open(BAD)
        for frame in (b'[2, "raw", null]', tag(b'[2, "tagged", null]', 7)):
            enemy.say(frame, (scene.rig.hostname, scene.rig.port))
    heard = await scene.received_messages()
    return bool(heard)


@attack('start an experiment under the address of the main PC')
async def test_starting_under_a_forged_address(scene):
    await scene.main.init()
    for frame in (b'[2, "raw", null]', tag(b'[2, "tagged", null]', 7), scene.relay.sent(TO_RIG)[-1][:-60]):
        scene.forge(frame)
    heard = await scene.received_messages()
    assert heard[0] == [1, None]
    return len(heard) > 1


@attack('make a rig send more than was sent to it, to a forged address')
async def test_amplification(scene):
    """A callback that fails makes the rig send a notice, which may be longer than the message."""
    await scene.main.init()

    def fail(data, addr):
        raise RuntimeError('x' * 900)

    scene.rig.assign_callback('EXPSTART', fail)
    before = len(b''.join(scene.relay.sent(TO_MAIN)))
    sent = [*scene.relay.sent(TO_RIG), b'[2, null]', tag(b'[2, null]', 7)]
    for frame in sent:
        scene.forge(frame)
    await scene.received_messages()
    return len(b''.join(scene.relay.sent(TO_MAIN))) - before > len(b''.join(sent))


@attack('get the Alyx token of a rig by requesting it')
async def test_asking_for_the_token(scene):
    async def answer(data, addr):
        if not any(data):
            await scene.rig.confirmed_send([128, 'https://alyx.example.org', {'olivia': {'token': TOKEN}}], addr)

    scene.rig.assign_callback('ALYX', answer)
    assert TOKEN in json.dumps(await scene.main.alyx())  # an authorized peer gets it
    com = await scene.open_attacker()
    if com is None:
        return False
    com.response_timeout = SHORT
    try:
        return TOKEN in json.dumps(await com.alyx())
    except EchoError:
        return False


# --- changed and replayed messages ---


@attack('modify a message in transit, and its echo')
async def test_changing(scene):
    await scene.main.init()
    scene.relay.change = {
        TO_RIG: lambda data: rewritten(data, b'subject', b'SUBJECT') if scene.udp else flipped(data),
        TO_MAIN: lambda data: rewritten(data, b'SUBJECT', b'subject') if scene.udp else flipped(data),
    }
    fails = await failed(scene.main.start('2022-01-01_1_subject'))
    scene.relay.change = {TO_RIG: bytes, TO_MAIN: bytes}
    changed = [2, '2022-01-01_1_SUBJECT', None] in await scene.received_messages()
    assert fails or changed
    return changed and not fails


def rewritten(data, old, new):
    """Change the text of a message and recompute its checksum; a signature cannot be recomputed."""
    if b'subject' not in data.lower():
        return data
    ack, run, number, life = _tags.read_tag(data)
    changed = _tags.add_tag(data[: -1 - TAG_SIZE].replace(old, new) + b']', run, number, life)
    return set_ack(changed) if ack else changed


def flipped(data):
    """Flip a bit in the middle of encrypted data."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@attack('replay a recorded message')
async def test_replaying(scene):
    await scene.main.init()
    await scene.main.start('2022-01-01_1_subject')
    recorded = scene.relay.sent(TO_RIG)
    for frame in recorded:
        scene.forge(frame)
        if scene.udp and read_tag(frame) >= 0:  # under another number
            scene.forge(tag(strip_tag(frame), read_tag(frame) ^ 512))
    heard = await scene.received_messages()
    assert [2, '2022-01-01_1_subject', None] in heard
    return heard.count([2, '2022-01-01_1_subject', None]) > 1


@attack('replay a recorded message to a rig that was restarted')
async def test_replaying_after_a_restart(scene):
    await scene.main.start('2022-01-01_1_subject')
    recorded = scene.relay.sent(TO_RIG)
    await scene.restart()
    for _ in range(2):
        for frame in recorded:
            scene.forge(frame)
    return bool(await scene.received_messages())


@attack('confirm a message that the rig has not received')
async def test_confirming(scene):
    await scene.main.init()
    scene.relay.change[TO_RIG] = lambda data: scene.forge(data, TO_MAIN) or scene.forge(flag(data), TO_MAIN) or b''
    fails = await failed(scene.main.confirmed_send([2, '2022-01-01_1_subject', None], timeout=SHORT))
    scene.relay.change[TO_RIG] = bytes
    assert [2, '2022-01-01_1_subject', None] not in await scene.received_messages()
    return not fails


def flag(data):
    """Turn a message into its echo."""
    return set_ack(data) if read_tag(data) >= 0 else data


@attack('impersonate a rig at its address')
async def test_standing_in(scene):
    fake = await scene.lab.server(scene.scheme, 'fake', **scene.fake_kwargs)
    heard = scene.listen(fake)
    kwargs = {'local_addr': None} if not scene.udp else {}
    try:
        main = await scene.lab.client(fake.server_uri, 'main', **scene.main_kwargs, **kwargs)
    except OSError:
        return False
    fails = await failed(main.confirmed_send([2, '2022-01-01_1_subject', None], timeout=SHORT))
    return bool(heard) and not fails


@attack('delay a message, and deliver it after the next one')
async def test_holding_back(scene):
    await scene.main.init()
    held: list[bytes] = []
    scene.relay.change[TO_RIG] = lambda data: held.append(data) or b''
    assert await failed(scene.main.confirmed_send([2, '2022-01-01_1_subject', None], timeout=SHORT))
    scene.relay.change[TO_RIG] = bytes
    if not scene.udp:  # a stream keeps the order: the next message needs a new connection
        scene.forge(flipped(held[0]))
    for _ in range(100):
        try:
            await scene.main.confirmed_send([4, None], timeout=5)
            break
        except EchoError:
            await asyncio.sleep(0.05)
    for frame in held:
        scene.forge(frame)
    heard = await scene.received_messages()
    assert [4, None] in heard
    return [2, '2022-01-01_1_subject', None] in heard[heard.index([4, None]) :]


@attack('prevent messages from arriving')
async def test_keeping(scene):
    await scene.main.init()
    scene.relay.change[TO_RIG] = lambda data: b''
    with pytest.raises(EchoError, match='main'):  # the sender gets an error
        await scene.main.confirmed_send([2, '2022-01-01_1_subject', None], timeout=SHORT)
    scene.relay.change[TO_RIG] = bytes
    return [2, '2022-01-01_1_subject', None] not in await scene.received_messages()


# --- denial of service ---

GARBAGE = [
    *(b'', b'[', b']', b'{}', b'\x00' * 100, b'\xff' * 1000, b'[' * 60_000, b'[2, "', b'null', b'[' * 300 + b']' * 300),
    *(
        b'[0, "x"]',
        b'[999, 1]',
        b'[3, 4]',
        b'[1e999]',
        b'[2, "\\ud800"]',
        b'\x16\x03\x01' + b'x' * 500,
        b' ' * 200 + b']',
    ),
    *(
        b'["alyx", {}]',
        b'[128]',
        b'[128, 1, 2, 3]',
        b'[64, 99]',
        tag(b'[]', 1),
        tag(b'[2]', 2),
        set_ack(tag(b'[1]', 3)),
    ),
]


@attack('stop or block the program of a rig with any bytes')
async def test_garbage(scene):
    await scene.main.init()
    # The relay drops echoes of the garbage, since the main PC has not sent it.
    scene.relay.change[TO_MAIN] = lambda data: b'' if data in GARBAGE else data
    for data in GARBAGE:
        if scene.udp:
            scene.forge(data)
        else:
            _, writer = await asyncio.open_connection(scene.rig.hostname, scene.rig.port, local_addr=(BAD, 0))
            writer.write(data)
            writer.close()
        await asyncio.sleep(0)
    await scene.received_messages()  # the guards check that no exception has reached the loop
    await scene.main.confirmed_send([4, None], timeout=5)
    return not scene.rig.is_connected or [4, None] not in scene.heard


BOUNDED = Tuning(max_peers=64)


@attack('make a rig store more than its bounds')
async def test_filling(scene):
    """For many connections see test_tcp_bounds.py, for 100,000 addresses test_flood.py."""
    rig = await scene.lab.server(scene.scheme, 'small', tuning=BOUNDED, **scene.rig_kwargs)
    heard = scene.listen(rig)
    main = await scene.lab.client(rig.server_uri, 'main', **scene.main_kwargs)
    await main.confirmed_send([1, None], timeout=20)
    if scene.udp:
        handshake = next((frame for frame in await handshakes(scene)), b'[64, 20]')
        for batch in range(10):
            for i in range(20):
                host = GOOD if scene.mode == 'allow' else BAD
                one = await RawUdp.open(host)
                for frame in (tag(encode([64, 20, batch, i]), i), handshake):
                    one.say(frame, (rig.hostname, rig.port))
                one.close()
            await main.confirmed_send([64, 20, 'still there'], timeout=20)
    else:
        for _ in range(50):
            _, writer = await asyncio.open_connection(rig.hostname, rig.port, local_addr=(BAD, 0))
            writer.write(b'[64, 20]')
            writer.close()
    await main.confirmed_send([4, None], timeout=20)
    assert [1, None] in heard
    assert [4, None] in heard
    signer = internals.pipeline(rig).signer
    remembered = [len(rig.peers), *(signer.sizes.values() if signer else ()), internals.n_connections(rig)]
    return max(remembered) > BOUNDED.max_peers


async def handshakes(scene):
    """Return the recorded handshakes of sessions, if the mode has any."""
    await scene.main.init()
    return [frame for frame in scene.relay.sent(TO_RIG) if scene.mode.startswith('key') and len(frame) == 322]


def test_every_row_is_shown():
    assert set(ROWS) == SHOWN
    assert len(ROWS) == 14
