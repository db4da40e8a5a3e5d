"""TLS: certificates of both ends, explained errors, and no unencrypted byte; the certificates are made here."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator

import pytest

import internals
from certificates import V2, V3
from echorig import ConnectionClosedError, EchoProtocol, ExpMessage, Rejected, Services, TLSError, Tuning
from echorig.cli.main import main
from echorig.tuning import InternalTuning
from eventually import eventually
from hosts import BAD, needs_others, stranger
from lab import REF, free_port

SECRET = 'what-nobody-may-read'
QUICK = InternalTuning(first_reconnect_delay=0.01, max_reconnect_delay=0.02, handshake_timeout=5.0)


@contextlib.asynccontextmanager
async def answering(how, host='127.0.0.1', port=0) -> AsyncIterator[str]:
    """Run a TCP server that calls `how` with each connection; yield its URI."""
    tasks = set()

    async def accepted(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            await how(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(accepted, host, port)
    try:
        yield f'wss://{host}:{server.sockets[0].getsockname()[1]}'
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --- connections ---


async def test_messages_of_any_size_and_direction(lab, papers):
    server = await lab.server('wss', ssl=papers.servers['good'])
    clients = [
        await lab.client(f'wss://{host}:{server.port}', ssl=papers.client) for host in ('127.0.0.1', 'localhost')
    ]
    heard = []
    addrs = {}
    server.assign_callback('EXPINFO', lambda data, addr: (heard.append(data[1]), addrs.setdefault(addr, data[1])))
    for client in clients:
        for n in (0, 1, 16_000, 17_000, 300_000, 3_000_000):
            await client.info(0, 'é' * n, addr=None) if n < 100_000 else await client.confirmed_send(
                [64, 0, 'é' * n], timeout=30
            )
        await asyncio.gather(*(client.info(0, i) for i in range(100)))
    assert [len(each) for each in heard if isinstance(each, str)] == [0, 1, 16_000, 17_000, 300_000, 3_000_000] * 2
    assert [each for each in heard if isinstance(each, int)] == [*range(100)] * 2
    answers = [asyncio.ensure_future(client.on_event('EXPEND')) for client in clients]
    await asyncio.sleep(0)
    await asyncio.gather(*(server.stop('x' * 100_000, addr=addr) for addr in addrs))
    assert [(await answer)[0] for answer in answers] == [['x' * 100_000]] * 2
    sock = clients[0]._transport
    assert sock.get_extra_info('ssl_object').version() == 'TLSv1.3'
    assert sock.get_extra_info('peercert')['subjectAltName']
    assert sock.get_extra_info('peername') == ('127.0.0.1', server.port)
    assert server.rejected == {}


async def test_bytes_one_by_one(lab, papers):
    """Messages survive any segmentation of the stream, and data that arrives early."""
    server = await lab.server('wss', ssl=papers.servers['good'])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = papers.client.wrap_bio(incoming, outgoing, server_hostname='localhost')
    reader, writer = await asyncio.open_connection(server.hostname, server.port)

    async def until(action):
        while True:
            try:
                return action()
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0)
                incoming.write(await asyncio.wait_for(reader.read(1), 5))

    await until(ours.do_handshake)
    ours.write(b'[1, nu')
    ours.write(b'll][4, null]')
    answer = b''
    while len(answer) < 18:
        answer += await until(lambda: ours.read(100))
    assert answer == b'[1, null][4, null]'
    writer.transport.abort()


async def test_client_certificates(lab, papers):
    for version in (V2, V3):
        server = await lab.server('wss', ssl=papers.demanding[version])
        client = await lab.client(server, ssl=papers.with_cert)
        waiting = asyncio.ensure_future(server.on_event('EXPSTART'))
        await client.start(REF)
        _, addr = await waiting
        shown = internals.connections(server)[addr].transport.get_extra_info('peercert')
        assert ('email', 'main@lab.org') in shown['subjectAltName']


async def test_sets_of_rigs(lab, papers):
    server = await lab.server('wss', ssl=papers.servers['good'])

    async def answer(data, addr, event):
        await server.confirmed_send([event, *data], addr)

    server.assign_callback(ExpMessage.any(), answer)
    async with await Services.connect({'camera': server.server_uri}, ssl=papers.client) as rigs:
        assert await rigs.init('x') == {'camera': ['x']}


# --- failures of clients ---


@pytest.mark.parametrize(
    ('cert', 'trust', 'says'),
    [
        ('expired', 'client', 'the certificate has expired; renew it'),
        ('not yet', 'client', 'the certificate is not valid yet; look at the clocks'),
        ('elsewhere', 'client', r'is for another (host|address) \(.*(127\.0\.0\.1|localhost).*\); connect by a name'),
        ('stranger', 'client', r'authority that is not trusted here; pass ssl=.*cafile'),
        ('good', 'suspicious', r'authority that is not trusted here; pass ssl=.*cafile'),
    ],
)
async def test_certificates_of_servers(lab, papers, cert, trust, says):
    server = await lab.server('wss', ssl=papers.servers[cert])
    for host in ('127.0.0.1', 'localhost'):
        with pytest.raises(
            TLSError, match=rf'No TLS connection with camera \(wss://127.0.0.1:\d+\): .*{says}'
        ) as caught:
            await lab.client(f'wss://{host}:{server.port}', 'camera', ssl=getattr(papers, trust))
        assert isinstance(caught.value, ConnectionError)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert internals.connections(server) == {}


async def test_no_version_in_common(lab, papers, caplog):
    server = await lab.server('wss', ssl=papers.demanding[V2])
    with pytest.raises(TLSError, match=r'closed the connection during the handshake; .* Its log may say why'):
        await lab.client(server, ssl=papers.newest)
    assert 'no version of TLS in common' in caplog.text  # in the log of the server


async def test_plain_servers(lab, papers):
    plain = await lab.server('tcp')
    with pytest.raises(TLSError, match='does not speak TLS'):
        await lab.client(plain.server_uri.replace('tcp', 'wss'), ssl=papers.client)

    async def garbage(reader, writer):
        writer.write(b'[1, null]')
        await reader.read()

    async def hangs_up(reader, writer):
        await reader.readexactly(5)

    async def silent(reader, writer):
        await reader.read()

    for how, seconds, says in (
        (garbage, 60, 'does not speak TLS'),
        (hangs_up, 60, 'closed the connection during the handshake'),
        (silent, 0.05, r'not complete within 0.05 s \(Tuning.handshake_timeout\); is a tls:// server there'),
    ):
        async with answering(how) as uri:
            with pytest.raises(TLSError, match=says):
                await lab.client(uri, ssl=papers.client, tuning=Tuning(handshake_timeout=seconds))
    with pytest.raises(TLSError, match=r'within 0.07 s'):
        async with answering(silent) as uri:
            await lab.client(uri, ssl=papers.client, ssl_handshake_timeout=0.07)


@pytest.mark.parametrize('version', [V2, V3], ids=lambda version: version.name)
async def test_a_server_that_wants_a_certificate(lab, papers, caplog, version):
    """With TLS 1.3 the client is refused only after its handshake, when it may have sent messages."""
    server = await lab.server('wss', ssl=papers.demanding[version])
    heard = []
    server.assign_callback(ExpMessage.any(), lambda data, addr, event: heard.append(data))
    for context in (papers.client, papers.with_strange_cert, papers.with_expired_cert):
        if version == V2:
            with pytest.raises(TLSError, match=r'closed the connection during the handshake; .* Its log may say why'):
                await lab.client(server, 'camera', ssl=context)
        else:
            client = await lab.client(server, 'camera', ssl=context, reconnect=False)
            with pytest.raises(ConnectionClosedError, match='the server may want a certificate') as caught:
                await client.init(SECRET)
            assert isinstance(caught.value.__cause__, TLSError)
            assert isinstance(await client.on_connection_lost, TLSError)
    assert heard == []
    await eventually(lambda: server.rejected['127.0.0.1'].handshakes >= 3, 'three handshakes are rejected')
    assert len([record for record in caplog.records if record.name == 'server']) == 1
    assert 'no certificate, and one is required here' in caplog.text


async def test_attempts_without_a_certificate_are_logged(lab, papers, caplog):
    server = await lab.server('wss', ssl=papers.demanding[V3])
    client = await lab.client(server, 'camera', ssl=papers.client, tuning=QUICK)
    with pytest.raises(ConnectionClosedError):
        await client.init(SECRET)
    while len([record for record in caplog.records if 'may want a certificate' in record.getMessage()]) < 3:
        with contextlib.suppress(ConnectionClosedError):
            await client.init(SECRET)
        await asyncio.sleep(0.001)


@pytest.mark.blocks
async def test_a_server_of_another_kind_that_wants_a_certificate(lab, papers):
    """One that closes at once; the system may drop its last bytes."""
    with socket.create_server(('127.0.0.1', 0)) as listener:

        def serve():
            sock, _ = listener.accept()
            with sock, contextlib.suppress(ssl.SSLError, OSError):
                papers.demanding[V3].wrap_socket(sock, server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        client = await lab.client(f'wss://127.0.0.1:{listener.getsockname()[1]}', ssl=papers.client, reconnect=False)
        with pytest.raises(ConnectionClosedError, match='certificate'):
            await client.init(SECRET)
        await asyncio.to_thread(thread.join)


async def test_invalid_contexts(lab, papers):
    with pytest.raises(
        ValueError, match=r'no context for a server: use ssl.create_default_context\(ssl.Purpose.CLIENT'
    ):
        await lab.server('wss', ssl=papers.client)
    with pytest.raises(ValueError, match='no context for a client'):
        await EchoProtocol.client('wss://127.0.0.1:9', ssl=papers.servers['good'])
    with pytest.raises(ValueError, match='needs TLS'):
        await lab.server('wss', ssl=None)
    for context in (True, 'x'):
        with pytest.raises(TypeError, match=r'ssl must be an ssl\.SSLContext'):
            await lab.server('wss', ssl=context)


# --- failures of servers ---


async def test_clients_without_tls(lab, papers, caplog):
    server = await lab.server('wss', ssl=papers.servers['good'], tuning=Tuning(handshake_timeout=60))
    hasty = await lab.server('wss', 'hasty', ssl=papers.servers['good'], tuning=Tuning(handshake_timeout=0.05))
    heard = []
    server.assign_callback(ExpMessage.any(), lambda data, addr, event: heard.append(data))
    plain = await lab.client(server.server_uri.replace('wss', 'tcp'), reconnect=False)
    with pytest.raises(ConnectionClosedError):
        await plain.init(SECRET)
    for first in (b'GET / HTTP/1.1\r\n\r\n', b'\x16\x03\x01\xff\xff' + bytes(100), b''):  # the last sends nothing
        async with stranger(server if first else hasty, '127.0.0.1') as (reader, writer):
            writer.write(first)
            with contextlib.suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 5)
    async with stranger(server, '127.0.0.1'):
        pass  # and one that closes at once
    await eventually(
        lambda: (
            server.rejected['127.0.0.1'].handshakes >= 4 and hasty.rejected == {'127.0.0.1': Rejected(handshakes=1)}
        ),
        'all handshakes are rejected',
    )
    await (await lab.client(server, ssl=papers.client)).init('good')
    assert heard == [['good']]
    assert server.rejected == {'127.0.0.1': Rejected(handshakes=4)}
    told = [record.getMessage() for record in caplog.records if record.name == 'server']
    assert len(told) == 1
    assert '127.0.0.1 (client of server): it does not speak TLS' in told[0]


async def test_damage_within_a_connection(lab, papers):
    """An invalid TLS record closes that connection, and no other."""
    server = await lab.server('wss', ssl=papers.servers['good'])
    good, bad = [await lab.client(server, name, ssl=papers.client, reconnect=False) for name in ('good', 'bad')]
    await asyncio.gather(good.init(), bad.init())
    internals.tls_and_tcp(bad._transport)[1].write(b'\x17\x03\x03\x00\x20' + bytes(32))
    await asyncio.wait_for(asyncio.shield(bad.on_connection_lost), 5)
    with pytest.raises(ConnectionClosedError):
        await bad.init()
    await good.init()


@needs_others
async def test_hosts_that_are_not_allowed_get_no_handshake(lab, papers):
    server = await lab.server('wss', ssl=papers.servers['good'], allow='127.0.0.1', host='0.0.0.0')
    async with stranger(server, BAD) as (reader, writer):
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b''
    assert server.rejected == {BAD: Rejected(not_allowed=1)}
    client = await lab.client(f'wss://localhost:{server.port}', ssl=papers.client, allow='127.0.0.1')
    await client.init()


# --- corrections of the TLS of the loops ---


async def test_data_read_while_paused_is_not_lost(lab, papers):
    """Even if the other end closes meanwhile; the TLS transport of uvloop would drop it."""
    server = await lab.server('wss', ssl=papers.servers['good'])
    heard = []
    server.assign_callback('EXPINFO', lambda data, addr: heard.append(data[1]))
    client = await lab.client(server, ssl=papers.client, reconnect=False)
    await client.init()
    [connection] = internals.connections(server).values()
    assert connection.pause()
    for i in range(100):
        client.send([64, 0, i])
    client.close()
    await client.wait_closed()
    await asyncio.sleep(0.05)
    assert heard == []
    connection.resume()
    await eventually(lambda: heard == [*range(100)], 'everything is heard')


async def test_an_end_inside_a_message(lab, papers, caplog):
    """A connection that ends without closing TLS, as that of a killed process."""
    server = await lab.server('wss', ssl=papers.servers['good'])
    client = await lab.client(server, ssl=papers.client, reconnect=False)
    await client.init()
    client._transport.write(b'[64, ')
    internals.tls_and_tcp(client._transport)[1].close()
    await eventually(lambda: not internals.connections(server), 'it is lost')
    assert 'ended inside a message; 5 bytes are lost' in caplog.text
    assert server.on_eof_received.done()


async def test_bytes_in_the_tcp_transport_count(lab, papers):
    """When a peer reads a little, the loops pass all unsent bytes to the TCP transport."""
    server = await lab.server('wss', ssl=papers.servers['good'], tuning=Tuning(max_send_buffer=8_000_000))
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(
        asyncio.Protocol, '127.0.0.1', server.port, ssl=papers.client, server_hostname='localhost'
    )
    await eventually(lambda: internals.connections(server), 'it is connected')
    [connection] = internals.connections(server).values()
    for sock, option in ((connection.transport, socket.SO_SNDBUF), (transport, socket.SO_RCVBUF)):
        sock.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, option, 65536)
    transport.pause_reading()
    most, given_over = 0, False
    parts = internals.tls_and_tcp(connection.transport)
    for i in range(200):
        if server.rejected:
            break
        connection.transport.write(b' ' * 500_000)
        if internals.n_paused(server):  # as the pipeline does
            internals.limiter(server).on_write(500_000)
        most = max(most, connection.unsent)
        if i % 4 == 3:
            transport.resume_reading()
        await asyncio.sleep(0.001)
        given_over |= parts[1].get_write_buffer_size() > 1_000_000
        if server.rejected:  # asyncio of 3.10 cannot pause a closed transport
            break
        transport.pause_reading()
    transport.abort()
    assert server.rejected == {'127.0.0.1': Rejected(cut=1)}
    assert given_over
    assert 4_000_000 < most <= 8_600_000


async def test_one_long_write_counts(lab, papers):
    server = await lab.server('wss', ssl=papers.servers['good'], tuning=Tuning(max_send_buffer=8_000_000))
    client = await lab.client(server, ssl=papers.client, reconnect=False)
    await client.init()
    [connection] = internals.connections(server).values()
    connection.transport.write(b' ' * 30_000_000)
    assert internals.n_paused(server) == 1  # so that the pipeline counts it
    internals.limiter(server).on_write(30_000_000)
    assert server.rejected == {'127.0.0.1': Rejected(cut=1)}
    await asyncio.wait_for(client.on_connection_lost, 5)


@pytest.mark.blocks
async def test_a_client_that_starts_before_it_is_accepted(lab, papers):
    """uvloop reads its data before the TLS of the loop is started."""
    server = await lab.server('wss', ssl=papers.servers['good'], tuning=Tuning(handshake_timeout=60))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = papers.client.wrap_bio(incoming, outgoing, server_hostname='localhost')
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with socket.create_connection(('127.0.0.1', server.port)) as sock:
        sock.sendall(outgoing.read())
        sock.setblocking(False)
        incoming.write(await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 100_000), 10))
        tls.do_handshake()


@pytest.mark.parametrize('n', [1, 1_000_000])
async def test_a_plain_server_that_sends_first(lab, papers, n):
    """The handshake reads data that arrives before it starts."""

    async def greets(reader, writer):
        writer.write(b'x' * n)
        await reader.read()

    async with answering(greets) as uri:
        seconds = 5 if n > 1 else 0.05
        with pytest.raises(TLSError, match='does not speak TLS' if n > 1 else 'not complete within'):
            await lab.client(uri, ssl=papers.client, tuning=Tuning(handshake_timeout=seconds))


async def test_a_cancelled_handshake(lab, papers):
    """A cancelled attempt leaves nothing behind, and the server continues."""
    server = await lab.server('wss', ssl=papers.servers['good'])
    for turns in range(25):
        opening = asyncio.ensure_future(EchoProtocol.client(server.server_uri, ssl=papers.client))
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            lab.opened.append(await opening)
    await (await lab.client(server, ssl=papers.client)).init()
    await eventually(lambda: len(internals.limiter(server)) == internals.n_connections(server), 'no handshake is left')


# --- never unencrypted ---


class Recorder:
    """Relays a stream and records it; with `turned_plain` it answers itself, unencrypted."""

    def __init__(self, target) -> None:
        self.target = target
        self.seen = bytearray()
        self.turned_plain = False
        self.writers = []
        self.plain_connections = asyncio.Queue()

    async def __call__(self, reader, writer):
        self.writers.append(writer)
        if self.turned_plain:
            writer.write(b'[1, "I am plain"]')
            self.plain_connections.put_nowait(None)
            while piece := await reader.read(65536):
                self.seen += piece
            return
        other_reader, other = await asyncio.open_connection(self.target.hostname, self.target.port)

        async def pump(source, sink):
            while piece := await source.read(65536):
                self.seen += piece
                sink.write(piece)
            sink.close()

        try:
            await asyncio.gather(pump(reader, other), pump(other_reader, writer))
        finally:
            other.transport.abort()


async def test_nothing_is_sent_unencrypted(lab, papers, caplog):
    server = await lab.server('wss', ssl=papers.servers['good'])
    recorder = Recorder(server)
    async with answering(recorder) as uri:
        client = await lab.client(uri, 'camera', ssl=papers.client, tuning=QUICK)
        await client.init(SECRET)
        await client.info(0, SECRET * 10_000)
        with pytest.raises(TLSError):
            await lab.client(uri, ssl=papers.suspicious)
        recorder.turned_plain = True
        recorder.writers[0].transport.abort()  # now the client reconnects, to a plain server
        for _ in range(3):
            await asyncio.wait_for(recorder.plain_connections.get(), 5)
            with pytest.raises(ConnectionClosedError):
                await client.init(SECRET)
            if client.is_connected:
                client.send([1, SECRET])
        await eventually(lambda: 'it does not speak TLS' in caplog.text, '"it does not speak TLS" in caplog.text')
        with pytest.raises(ConnectionClosedError, match=r'is reconnecting: .*it does not speak TLS') as caught:
            await client.init(SECRET)
        assert isinstance(caught.value.__cause__, TLSError)
        with pytest.raises(TLSError):
            await lab.client(uri, ssl=papers.client)
        client.close()
        await client.wait_closed()
    assert len(recorder.seen) > 100_000
    assert SECRET.encode() not in recorder.seen


async def test_a_restarted_server_has_another_certificate(lab, papers, caplog):
    server = await lab.server('wss', ssl=papers.servers['good'])
    client = await lab.client(server, 'camera', ssl=papers.client, tuning=QUICK)
    await client.init()
    for cert, says in (('stranger', 'authority that is not trusted here'), ('expired', 'has expired')):
        server.close()
        await server.wait_closed()
        server = await EchoProtocol.server(server.server_uri, 'again', ssl=papers.servers[cert])
        lab.opened.append(server)
        await eventually(
            lambda: any(f'{says}' in record.getMessage() for record in caplog.records if record.name == 'camera'),
            'the reason is logged',
        )
        assert not client.is_connected
    server.close()
    await server.wait_closed()
    async with client.connection_events() as changes:
        server = await EchoProtocol.server(server.server_uri, 'again', ssl=papers.server_again)
        lab.opened.append(server)
        while (await asyncio.wait_for(changes.__anext__(), 10)).state != 'connected':
            pass
        await client.init()


async def test_closing_in_the_middle(lab, papers):
    async def silent(reader, writer):
        await reader.read()

    async with answering(silent) as uri:
        opening = asyncio.ensure_future(EchoProtocol.client(uri, ssl=papers.client))
        await asyncio.sleep(0.05)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    server = await lab.server('wss', ssl=papers.servers['good'], tuning=InternalTuning(close_grace=0.05))
    async with stranger(server, '127.0.0.1') as (reader, writer):
        writer.write(b'\x16\x03\x01')
        client = await lab.client(server, ssl=papers.client)
        await client.init()
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b''  # it is neither waited for nor left open
        assert await asyncio.wait_for(client.on_connection_lost, 5) is None


# --- the command line ---


def test_command_line(papers, tmp_path, capsys):
    """A server and a client in separate programs, with certificates on both sides."""
    papers.ours.cert_pem.write_to_path(tmp_path / 'ca.pem')
    for name, cert in (('rig', papers.certs['good']), ('main', papers.ours.issue_cert('main@lab.org'))):
        cert.private_key_and_cert_chain_pem.write_to_path(tmp_path / f'{name}.pem')

    def options(name):
        return ['--cafile', str(tmp_path / 'ca.pem'), '--cert', str(tmp_path / f'{name}.pem')]

    port = free_port()
    command = [sys.executable, '-m', 'echorig', 'server', f'wss://127.0.0.1:{port}', *options('rig')]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert 'Listening' in server.stdout.readline()
            uri = f'wss://localhost:{port}'
            assert main(['client', uri, *options('main'), '--timeout', '30']) == 0
            assert 'EXPSTART' in server.stdout.readline()
            assert 'confirmed EXPSTART' in capsys.readouterr().out
            assert main(['client', uri, '--cafile', str(tmp_path / 'ca.pem'), '--timeout', '30']) == 1
            assert 'certificate' in capsys.readouterr().err
            assert main(['client', uri, '--timeout', '30']) == 1
            assert 'authority that is not trusted here' in capsys.readouterr().err
        finally:
            server.terminate()
    for bad in (['--cert', 'nosuchfile.pem'], ['--key', 'nosuchfile.pem'], ['--cafile', __file__]):
        assert main(['server', 'wss://127.0.0.1:0', *bad]) == 2
        assert f'cannot use {" ".join(bad)}: ' in capsys.readouterr().err
    assert main(['server', f'wss://127.0.0.1:{port}']) == 2
    assert 'needs TLS' in capsys.readouterr().err
