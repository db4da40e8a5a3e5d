"""Logins and TLS at a real NATS broker; no login is shown anywhere."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import signal
import time

import nkeys
import pytest

from brokers import needs_broker, running_broker, subject
from echorig import EchoProtocol, EchoTimeoutError, Services, ServicesError, TLSError, discover
from lab import REF
from secrets_watch import token

pytestmark = [needs_broker, pytest.mark.blocks]

SECRET = token(77)
USERS = f"""
authorization {{
  users = [
    {{ user: main, password: "{SECRET}" }}
    {{ user: talker, password: "{SECRET}", permissions: {{ subscribe: ["_INBOX.>"] }} }}
    {{
      user: limited, password: "{SECRET}"
      permissions: {{ publish: ["lab.open", "_INBOX.>"], subscribe: ["lab.open", "_INBOX.>"] }}
    }}
  ]
}}
"""


async def exchange(uri: str, **options: object) -> None:
    """Send a message over a server and a client at one subject."""
    async with await EchoProtocol.server(uri, 'rig', **options) as server:
        assert SECRET not in f'{server!r} {server.server_uri} {server.name}'
        async with await EchoProtocol.client(uri, 'main', **options) as client:
            await client.start(REF)
            assert SECRET not in f'{client!r} {client.server_uri} {client.peers!r} {list(server.peers)}'


def with_login(uri: str, login: str) -> str:
    return uri.replace('nats://', f'nats://{login}@')


async def test_user_and_password(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with running_broker(tmp_path, config=USERS) as broker:
        uri = f'{broker.uri}/{subject()}'
        await exchange(uri, user='main', password=SECRET)
        await exchange(with_login(uri, f'main:{SECRET}'))
        wrong = token(78)
        for options in (
            {},
            {'user': 'main', 'password': wrong},
            {'user': 'nobody', 'password': SECRET},
            {'token': SECRET},
        ):
            with pytest.raises(PermissionError, match='refuses the login') as caught:
                await EchoProtocol.client(uri, 'main', **options)
            assert broker.uri in str(caught.value)
        with pytest.raises(PermissionError, match='refuses the login'):
            await EchoProtocol.server(with_login(uri, f'main:{wrong}'))
        with pytest.raises(PermissionError, match='refuses the login'):
            await discover(broker=with_login(broker.uri, f'main:{wrong}'), timeout=0.1)


async def test_a_password_with_escapes(tmp_path):
    """As in any URI, `%40` is `@`; a password in an argument is taken as it is."""
    config = f'authorization {{ user: main, password: "{SECRET}@/:%25" }}'
    with running_broker(tmp_path, config=config) as broker:
        uri = f'{broker.uri}/{subject()}'
        await exchange(with_login(uri, f'main:{SECRET}%40%2F%3A%2525'))
        await exchange(with_login(uri, f'main:{SECRET}@/:%2525'))
        await exchange(uri, user='main', password=f'{SECRET}@/:%25')


async def test_token(tmp_path):
    with running_broker(tmp_path, config=f'authorization {{ token: "{SECRET}" }}\n') as broker:
        uri = f'{broker.uri}/{subject()}'
        await exchange(uri, token=SECRET)
        await exchange(with_login(uri, SECRET))
        with pytest.raises(PermissionError, match='refuses the login'):
            await EchoProtocol.client(uri)


async def test_a_login_survives_a_restart_of_the_broker(tmp_path):
    with running_broker(tmp_path, config=USERS) as broker:
        uri = f'{broker.uri}/{subject()}'
        async with await EchoProtocol.server(uri, 'rig', user='main', password=SECRET):
            async with await EchoProtocol.client(uri, 'main', user='main', password=SECRET) as client:
                await client.start(REF)
                broker.restart()
                await client.confirmed_send([2, REF], timeout=30)


def nkey(kind: int = nkeys.PREFIX_BYTE_USER) -> tuple[str, str]:
    """Return the seed and the public key of a new NKey."""
    seed = nkeys.encode_seed(bytes(nkeys_random(32)), kind)
    return seed.decode(), nkeys.from_seed(bytearray(seed)).public_key.decode()


def nkeys_random(n: int) -> bytes:
    import os

    return os.urandom(n)


async def test_nkey(tmp_path):
    """The file has the seed; only a signature is sent."""
    seed, public = nkey()
    other, _ = nkey()
    file, wrong = tmp_path / 'main.nk', tmp_path / 'other.nk'
    file.write_text(f'{seed}\n')
    wrong.write_text(other)
    with running_broker(tmp_path, config=f'authorization {{ users = [ {{ nkey: {public} }} ] }}\n') as broker:
        uri = f'{broker.uri}/{subject()}'
        await exchange(uri, nkeys_seed=file)
        with pytest.raises(PermissionError, match='refuses the login'):
            await EchoProtocol.client(uri, nkeys_seed=wrong)
        wrong.write_text(SECRET)
        with pytest.raises(ValueError, match='login') as caught:
            await EchoProtocol.client(uri, nkeys_seed=wrong)
        assert SECRET not in str(caught.value)
        with pytest.raises(ValueError, match=r'nkeys_seed: the file .* cannot be read'):
            await EchoProtocol.client(uri, nkeys_seed=tmp_path / 'none.nk')


def jwt(claims: dict, signer: nkeys.KeyPair) -> str:
    """Return a token as `nsc` makes it: the claims, signed by the key of their issuer."""

    def text(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).decode().rstrip('=')

    body = {'jti': '', 'iat': int(time.time()), 'iss': signer.public_key.decode(), **claims}
    head = text(json.dumps({'typ': 'JWT', 'alg': 'ed25519-nkey'}).encode())
    signed = f'{head}.{text(json.dumps(body).encode())}'
    return f'{signed}.{text(signer.sign(signed.encode()))}'


async def test_credentials_file(tmp_path):
    """The file that `nsc` writes: the token of a user, and the seed of its key."""
    seeds = {kind: nkey(prefix) for kind, prefix in (('operator', 14 << 3), ('account', 0), ('user', 20 << 3))}
    operator, account = (nkeys.from_seed(bytearray(seeds[kind][0].encode())) for kind in ('operator', 'account'))
    of_operator = jwt(
        {'name': 'lab', 'sub': seeds['operator'][1], 'nats': {'type': 'operator', 'version': 2}}, operator
    )
    limits = dict.fromkeys(('subs', 'data', 'payload', 'imports', 'exports', 'conn', 'leaf'), -1) | {'wildcards': True}
    of_account = jwt(
        {'name': 'rigs', 'sub': seeds['account'][1], 'nats': {'type': 'account', 'version': 2, 'limits': limits}},
        operator,
    )
    of_user = jwt(
        {
            'name': 'main',
            'sub': seeds['user'][1],
            'nats': {'type': 'user', 'version': 2, 'pub': {}, 'sub': {}, 'subs': -1, 'data': -1, 'payload': -1},
        },
        account,
    )
    file = tmp_path / 'main.creds'
    file.write_text(
        f'-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n'
        f'-----BEGIN USER NKEY SEED-----\n{seeds["user"][0]}\n------END USER NKEY SEED------\n'
    )
    config = f'operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{ {seeds["account"][1]}: {of_account} }}\n'
    with running_broker(tmp_path, config=config) as broker:
        uri = f'{broker.uri}/{subject()}'
        await exchange(uri, user_credentials=file)
        with pytest.raises(PermissionError, match='refuses the login'):
            await EchoProtocol.client(uri)


async def test_permissions(tmp_path):
    """To subscribe and to publish: the error has the subject."""
    with running_broker(tmp_path, config=USERS) as broker:
        await exchange(f'{broker.uri}/lab.open', user='limited', password=SECRET)
        with pytest.raises(PermissionError, match=r'lab\.secret'):
            await EchoProtocol.server(f'{broker.uri}/lab.secret', 'rig', user='limited', password=SECRET)
        async with await EchoProtocol.server(f'{broker.uri}/lab.secret', 'rig', user='main', password=SECRET):
            login = {'user': 'limited', 'password': SECRET}
            async with await EchoProtocol.client(f'{broker.uri}/lab.secret', 'main', **login) as client:
                with pytest.raises(EchoTimeoutError, match=r'(?i)permissions violation for publish to "lab.secret"'):
                    await client.confirmed_send([2, REF], timeout=1.0)


async def test_a_refused_subscription_is_always_noticed(tmp_path):
    """The refusal comes before the answer to the question whether the subscription was made."""
    login = {'user': 'talker', 'password': SECRET}
    with running_broker(tmp_path, config=USERS) as broker:
        async with await EchoProtocol.client(f'{broker.uri}/lab.open', 'main', **login):
            for i in range(50):
                with pytest.raises(PermissionError, match=f'does not allow to subscribe to lab.secret{i}'):
                    await EchoProtocol.server(f'{broker.uri}/lab.secret{i}', 'rig', **login)


async def test_only_the_client_of_a_refused_subject_is_told(tmp_path):
    """Not another one of the same connection, whose subject is the beginning of that one."""
    login = {'user': 'limited', 'password': SECRET}
    with running_broker(tmp_path, config=USERS) as broker:
        async with (
            await EchoProtocol.client(f'{broker.uri}/lab.open', 'allowed', **login) as allowed,
            await EchoProtocol.client(f'{broker.uri}/lab.opening', 'refused', **login) as refused,
        ):
            with pytest.raises(EchoTimeoutError, match='lab'):
                await refused.confirmed_send([2, REF], timeout=1.0)
            assert isinstance(refused.on_error_received.result(), PermissionError)
            assert not allowed.on_error_received.done()


async def test_replies_that_are_not_allowed(tmp_path):
    """Without a subscription to its inbox a program would wait in vain for each echo."""
    config = (
        f'authorization {{ users = [ {{ user: a, password: "{SECRET}", permissions: {{ subscribe: "lab.>" }} }} ] }}'
    )
    with running_broker(tmp_path, config=config) as broker:
        for opened in EchoProtocol.client, EchoProtocol.server:
            with pytest.raises(PermissionError, match='_INBOX'):
                await opened(f'{broker.uri}/{subject()}', user='a', password=SECRET)


async def test_a_search_that_is_not_allowed(tmp_path):
    with running_broker(tmp_path, config=USERS) as broker:
        with pytest.raises(PermissionError, match='publish to echorig'):
            await discover(broker=broker.uri, user='limited', password=SECRET, timeout=0.5)


async def test_a_login_that_is_withdrawn(tmp_path):
    """The connection is made again in the background; who opens another communicator meanwhile gets an error."""
    with running_broker(tmp_path, config=USERS) as broker:
        uri, login = f'{broker.uri}/{subject()}', {'user': 'main', 'password': SECRET}
        async with await EchoProtocol.client(uri, 'main', **login):
            (tmp_path / 'server.conf').write_text(USERS.replace(SECRET, token(79)))
            broker.signal(signal.SIGHUP)  # it reads its configuration again
            shown, until = '', time.monotonic() + 60
            while 'refuses the login' not in shown:
                assert time.monotonic() < until, f'the login is not refused: {shown}'
                opening = asyncio.ensure_future(EchoProtocol.client(uri, 'another', **login))
                done, _ = await asyncio.wait({opening}, timeout=30)
                assert done, 'client() waits without limit'
                if opening.exception() is None:
                    opening.result().close()
                    await opening.result().wait_closed()
                shown = str(opening.exception())
                await asyncio.sleep(0.1)


async def test_no_login_is_shown_with_more_brokers(tmp_path):
    """Also not that of another broker of the cluster."""
    with pytest.raises(OSError) as caught:
        await EchoProtocol.client('nats://127.0.0.1:9/lab.rig', servers=[f'nats://main:{SECRET}@127.0.0.1:10'])
    assert SECRET not in str(caught.value)
    with pytest.raises(ServicesError) as caught:
        await Services.connect({'rig': f'nats://main:{SECRET}@127.0.0.1:9/lab.rig'}, timeout=0.5, wait=True)
    assert SECRET not in f'{caught.value} {caught.value.responses}'
    with pytest.raises((TypeError, ValueError)) as caught:
        await EchoProtocol.client(f'nats://main:{SECRET}@127.0.0.1:9/lab rig')
    assert SECRET not in str(caught.value)
    with pytest.raises((TypeError, ValueError)) as caught:
        await EchoProtocol.client(f'nats://main:{SECRET}@127.0.0.1:x/lab.rig')
    with pytest.raises(TypeError) as caught:
        await EchoProtocol.client('nats://127.0.0.1:9/lab.rig', password=SECRET.encode())
    with pytest.raises((TypeError, ValueError)) as caught:
        await EchoProtocol.client('nats://127.0.0.1:9/lab.rig', servers=f'nats://main:{SECRET}@127.0.0.1:10')
    with pytest.raises((TypeError, ValueError)) as caught:
        await EchoProtocol.client('nats://127.0.0.1:9/lab.rig', servers=[f'nats://main:{SECRET}@127.0.0.1:x'])


# --- TLS ---


@pytest.fixture
def tls_config(papers, tmp_path):
    """The configuration of a broker with a certificate of this name."""

    def of(name: str) -> str:
        cert = papers.certs[name]
        key, chain = tmp_path / f'{name}.key', tmp_path / f'{name}.pem'
        cert.private_key_pem.write_to_path(key)
        chain.write_bytes(b''.join(pem.bytes() for pem in cert.cert_chain_pems))
        return f'tls {{ cert_file: "{chain}", key_file: "{key}" }}\n'

    return of


async def test_tls(papers, tls_config, tmp_path):
    with running_broker(tmp_path, config=tls_config('good') + USERS) as broker:
        uri = f'{broker.uri}/{subject()}'
        login = {'user': 'main', 'password': SECRET}
        await exchange(uri, ssl=papers.client, **login)
        await exchange(uri.replace('127.0.0.1', 'localhost'), ssl=papers.client, **login)
        with pytest.raises(TLSError, match=broker.uri):  # the authority is not that of the system
            await EchoProtocol.client(uri, ssl=papers.suspicious, **login)
        with pytest.raises(TLSError):
            await EchoProtocol.client(uri, **login)
        with pytest.raises(TLSError):
            await EchoProtocol.client(uri, ssl=papers.client, tls_hostname='elsewhere.lab.org', **login)


@pytest.mark.parametrize('name', ['elsewhere', 'stranger', 'expired'])
async def test_certificates_of_other_brokers(papers, tls_config, tmp_path, name):
    with running_broker(tmp_path, config=tls_config(name)) as broker:
        uri = f'{broker.uri}/{subject()}'
        with pytest.raises(TLSError):
            await EchoProtocol.client(uri, ssl=papers.client)
        if name == 'elsewhere':
            await exchange(uri, ssl=papers.client, tls_hostname='elsewhere.lab.org')


async def test_tls_survives_a_restart_of_the_broker(papers, tls_config, tmp_path):
    with running_broker(tmp_path, config=tls_config('good')) as broker:
        uri = f'{broker.uri}/{subject()}'
        async with await EchoProtocol.server(uri, 'rig', ssl=papers.client):
            async with await EchoProtocol.client(uri, 'main', ssl=papers.client) as client:
                await client.start(REF)
                broker.restart()
                await client.confirmed_send([2, REF], timeout=30)


async def test_tls_that_a_broker_does_not_require(papers, tls_config, tmp_path):
    """It is used if ssl= is given; nothing is sent before it."""
    config = tls_config('good') + 'allow_non_tls: true\n' + USERS
    login = {'user': 'main', 'password': SECRET}
    with running_broker(tmp_path, config=config) as broker:
        await exchange(f'{broker.uri}/{subject()}', ssl=papers.client, **login)
        await exchange(f'{broker.uri}/{subject()}', **login)
    received = []

    async def accepted(reader, writer):
        writer.write(b'INFO {"server_id":"x","version":"2.9.10","max_payload":1048576,"tls_available":true}\r\n')
        received.append(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(accepted, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises((OSError, EchoTimeoutError)):
            await EchoProtocol.client(f'nats://127.0.0.1:{port}/lab.rig', ssl=papers.client, **login)
    finally:
        server.close()
        await server.wait_closed()
    assert received
    assert all(first.startswith(b'\x16') for first in received)  # a handshake of TLS (RFC 8446, section 5.1)


async def test_no_password_without_tls(papers):
    """A broker that offers no TLS, such as one in the middle, gets nothing if ssl= is given."""
    heard = []

    async def accepted(reader, writer):
        writer.write(b'INFO {"server_id":"x","version":"2.9.10","max_payload":1048576,"auth_required":true}\r\n')
        heard.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(accepted, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(TLSError, match='offers no TLS'):
            await EchoProtocol.client(f'nats://main:{SECRET}@127.0.0.1:{port}/lab.rig', ssl=papers.client)
        await asyncio.sleep(0.1)
        assert heard == [b'']
    finally:
        server.close()
