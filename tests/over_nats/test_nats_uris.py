"""URIs of NATS brokers: what is read, and that no login is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echorig import EchoProtocol
from echorig.uri import Uri, parse, parse_broker
from secrets_watch import token

words = st.text('abcXYZ019_-', min_size=1, max_size=8)
subjects = st.lists(words, min_size=1, max_size=6).map('.'.join)
hosts = st.sampled_from(['10.0.0.5', 'broker.lab.org', '[::1]', 'localhost'])
ports = st.integers(1, 65535)
logins = st.one_of(st.just(''), st.text('abc:@/.%!$', max_size=12))


@given(hosts, ports, subjects)
def test_a_uri_is_read_and_written_alike(host, port, subject):
    uri = f'nats://{host}:{port}/{subject}'
    assert str(parse(uri)) == uri
    assert parse(uri).address == (subject, port)
    assert parse(f'NATS://{host}/{subject}').port == 4222


@given(hosts, ports, subjects, st.text('abc:.%!$-_/@', min_size=1, max_size=12))
def test_a_login_is_kept_and_not_shown(host, port, subject, login):
    secret = f'{login}{token(5)}'
    uri = parse(f'nats://{secret}@{host}:{port}/{subject}')
    assert uri.login == secret
    assert secret not in f'{uri} {uri!r}'
    assert parse_broker(f'nats://{secret}@{host}:{port}').login == secret


@given(st.text(max_size=30))
def test_any_text_is_a_uri_or_an_error(text):
    """Which shows no login."""
    secret = token(6)
    shown = ''
    try:
        uri = parse(f'nats://main:{secret}@{text}')
    except ValueError as ex:
        shown = str(ex)
    else:
        assert isinstance(uri, Uri)
        shown = str(uri)
    assert shown
    assert secret not in shown


@pytest.mark.parametrize('scheme', ['nat', 'natss', 'udp', 'tls', 'NATS'])
def test_no_login_is_shown_with_another_scheme(scheme):
    secret = token(7)
    for login in f'main:{secret}', secret, f'main:{secret}/1':
        with pytest.raises(ValueError, match='URI') as caught:
            parse(f'{scheme}://{login}@127.0.0.1:4222/lab rig')
        assert secret not in str(caught.value)


@given(logins, st.text('ab.*> /\t\nü', max_size=12))
def test_subjects_have_no_wildcards(login, subject):
    """A server would get the messages of others."""
    try:
        uri = parse(f'nats://{login}@h/{subject}')
    except ValueError:
        return
    assert not set(uri.subject) & set('*> \t\n')
    assert all(uri.subject.split('.'))


@pytest.mark.parametrize(
    ('uri', 'part'),
    [
        ('nats://', 'has no broker'),
        ('nats:///lab.rig', 'has no broker'),
        ('nats://h', 'has no subject'),
        ('nats://h/', 'has no subject'),
        ('nats://h/lab..rig', 'has the subject'),
        ('nats://h/lab.*', 'has the subject'),
        ('nats://h/>', 'has the subject'),
        ('nats://h/' + 'x' * 256, 'at most 255 characters'),
        ('nats://h:0x50/lab', 'Invalid port'),
        ('nats://h:70000/lab', 'Invalid port'),
        ('nats://-h/lab', 'Invalid host'),
    ],
)
def test_errors(uri, part):
    with pytest.raises(ValueError, match=part):
        parse(uri)


@pytest.mark.parametrize(
    ('options', 'part'),
    [
        ({'colour': 1}, 'has no option colour'),
        ({'servers': 'nats://h'}, 'servers must be a list'),
        ({'servers': ['tcp://h']}, 'servers must be the URI of a NATS broker'),
        ({'servers': ['nats://h/lab']}, 'must have no subject'),
        ({'password': 5}, 'password must be a str, not int'),
        ({'inbox_prefix': 5}, 'inbox_prefix'),
        ({'inbox_prefix': 'rigs.*'}, 'inbox_prefix'),
        ({'inbox_prefix': 'my$inbox'}, 'inbox_prefix'),
        ({'nkeys_seed': 5}, 'nkeys_seed'),
    ],
)
async def test_options(options, part):
    with pytest.raises((TypeError, ValueError), match=part):
        await EchoProtocol.client('nats://127.0.0.1:9/lab.rig', **options)
