"""The real Alyx client: the token of one client, which used a password, logs in another on the next computer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import iblutil_fixtures
import pytest
from alyx_server import SUBJECTS, AlyxServer

from echorig import Services
from secrets_watch import token

pytest.importorskip('one')
patience = iblutil_fixtures.patience

USER, PASSWORD, TOKEN = 'olivia', 'p4ss-w0rd', token()


@pytest.fixture
def server():
    with AlyxServer({USER: PASSWORD}, {USER: TOKEN}) as server:
        yield server


@pytest.fixture
def computer(server, tmp_path, monkeypatch):
    """Make Alyx clients with separate folders, as on separate computers."""
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    import one.params
    import one.webclient

    def new(name, **credentials):
        home = Path(tmp_path, name)
        home.mkdir()
        for variable in ('HOME', 'USERPROFILE', 'APPDATA'):
            monkeypatch.setenv(variable, str(home))
        monkeypatch.setattr(one.params, 'CACHE_DIR_DEFAULT', str(home / 'downloads'))
        one.params.setup(client=server.url, silent=True, make_default=True, cache_dir=home / 'cache')
        return one.webclient.AlyxClient(base_url=server.url, silent=True, cache_rest=None, **credentials)

    return new


@pytest.fixture(autouse=True)
def _no_token_in_log():
    """The Alyx client and its HTTP library may log the token; echorig must not."""
    with iblutil_fixtures.recorded() as records:
        yield
    ours = [r for r in records if not r.name.startswith(('one', 'urllib3', 'ibl'))]
    assert any(' bytes>' in record.getMessage() for record in ours)  # that is all that is shown of it
    for record in ours:
        assert TOKEN not in f'{record.getMessage()} {record.args} {record.exc_text}'


def logged_in(computer):
    client = computer('stimulus', username=USER, password=PASSWORD)
    assert client.is_logged_in
    return client


def log_in(client, content, how):
    """Log in a client with the received token, in one of the ways that programs use."""
    base_url, tokens = content
    assert client.base_url == base_url
    ((user, token),) = tokens.items()
    if how == 'token':
        client.authenticate(username=user, token=token)
    else:
        client._par = client._par.set('TOKEN', tokens)
        client.authenticate(username=user)
    return client


@pytest.mark.parametrize('how', ['token', 'cached'])
async def test_handed_over(lab, transport, server, computer, how):
    heard = asyncio.get_running_loop().create_future()
    rig, com = await lab.pair(transport)
    rig.assign_callback('ALYX', heard)

    first = await asyncio.to_thread(logged_in, computer)
    assert server.requests == [('POST', '/auth-token', None)]
    assert await com.alyx(first) is None
    content, _ = await asyncio.wait_for(heard, 10)
    assert content == [server.url, {USER: {'token': TOKEN}}]

    second = await asyncio.to_thread(computer, 'camera')
    assert not second.is_logged_in
    await asyncio.to_thread(log_in, second, content, how)
    assert second.is_logged_in
    assert second.user == USER
    assert await asyncio.to_thread(second.get, '/subjects') == SUBJECTS
    assert server.requests[-1] == ('GET', '/subjects', USER)
    # The password was shown once only, by the first computer.
    assert [request[:2] for request in server.requests].count(('POST', '/auth-token')) == 1


@pytest.mark.parametrize('asks', ['client', 'server'])
async def test_asked_for(lab, transport, server, computer, asks):
    """One end has no logged-in client or none at all; it requests the token and the other end sends it."""
    main, com = await lab.pair(transport)
    first = await asyncio.to_thread(logged_in, computer)
    second = await asyncio.to_thread(computer, 'camera')
    answering, asking = (main, com) if asks == 'client' else (com, main)
    addr = None

    async def answer(data, addr):
        assert data[1] == {}
        await answering.alyx(first, addr)

    if asks == 'server':  # a server learns of its client from the first message
        came = asyncio.create_task(main.on_event('EXPINFO'))
        await com.info('CONNECTED')
        _, addr = await asyncio.wait_for(came, 10)
    answering.assign_callback('ALYX', answer)
    for none in (None, second):
        content = await asking.alyx(none, addr)
        assert content == [server.url, {USER: {'token': TOKEN}}]

    await asyncio.to_thread(log_in, second, content, 'token')
    assert await asyncio.to_thread(second.get, '/subjects') == SUBJECTS
    assert server.requests[-1] == ('GET', '/subjects', USER)


async def test_handed_to_all(lab, server, computer):
    """Services sends the token to rigs of both transports, and each logs in with it."""
    heard = {}
    coms = []
    for name, transport in (('camera', 'udp'), ('daq', 'tcp')):
        rig = await lab.server(transport, f'{name} rig')
        heard[name] = asyncio.get_running_loop().create_future()
        rig.assign_callback('ALYX', heard[name])
        coms.append(await lab.client(rig, name))
    first = await asyncio.to_thread(logged_in, computer)
    await Services(coms).alyx(first)
    for name, future in heard.items():
        content, _ = await asyncio.wait_for(future, 10)
        client = await asyncio.to_thread(computer, name)
        await asyncio.to_thread(log_in, client, content, 'token')
        assert await asyncio.to_thread(client.get, '/subjects') == SUBJECTS
    assert server.requests.count(('GET', '/subjects', USER)) == 2


async def test_a_token_that_is_not_valid(lab, server, computer):
    """The database rejects the token: the message arrives unchanged, and only the token decides."""
    requests = pytest.importorskip('requests')
    rig, com = await lab.pair()
    first = await asyncio.to_thread(logged_in, computer)
    server.tokens[USER] = 'another since then'
    heard = asyncio.create_task(rig.on_event('ALYX'))
    await com.alyx(first)
    content, _ = await asyncio.wait_for(heard, 10)
    second = await asyncio.to_thread(computer, 'camera')
    with pytest.raises(requests.HTTPError, match='403'):
        await asyncio.to_thread(log_in, second, content, 'token')
    assert not second.is_logged_in
