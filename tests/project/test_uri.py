from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echorig.base import hostname2ip, is_valid_ip, validate_uri
from echorig.resolver import resolve
from echorig.uri import Uri, as_address, parse


@pytest.mark.parametrize(
    ('given_uri', 'complete'),
    [
        ('udp://192.168.0.1:9999', 'udp://192.168.0.1:9999'),
        ('192.168.0.1:9999', 'udp://192.168.0.1:9999'),
        ('192.168.0.1', 'udp://192.168.0.1:11001'),
        ('ws://192.168.0.1', 'ws://192.168.0.1:11001'),
        ('WSS://rig:1/', 'wss://rig:1'),
        ('http://rig:80', 'http://rig:80'),
        ('::1', 'udp://[::1]:11001'),
        ('udp://[::1]:9999', 'udp://[::1]:9999'),
        ('[fe80::1%eth0]:5', 'udp://[fe80::1%eth0]:5'),
        ('foobar', 'udp://foobar:11001'),
        ('Rig_2.Lab.example:7', 'udp://Rig_2.Lab.example:7'),
        (ipaddress.ip_address('10.0.0.1'), 'udp://10.0.0.1:11001'),
        (ipaddress.ip_address('::1'), 'udp://[::1]:11001'),
    ],
)
def test_a_uri_is_completed(given_uri, complete):
    assert validate_uri(given_uri, resolve_host=False) == complete
    assert str(parse(complete)) == complete


def test_defaults_can_be_chosen():
    assert validate_uri('10.0.0.1', default_port='5', default_proc='ws') == 'ws://10.0.0.1:5'


@pytest.mark.parametrize(
    'uri', ['256.168.0.0000', 'foo@bar$', 'foobar:00', 'foobar:65536', 'foobar:x', 'foobar:-1', ' ', 'a..b', '-a',
            '[::1', '[rig]:5', '1.2.3', 'x' * 300, 'udp://a:b:c', 'räksmörgås!']
)  # fmt: skip
def test_invalid_uris(uri):
    with pytest.raises(ValueError, match='Invalid'):
        validate_uri(uri, resolve_host=False)


@pytest.mark.parametrize('uri', [b'localhost', None, 5, ('localhost', 1)])
def test_other_types(uri):
    with pytest.raises(TypeError, match='None' if uri is None else type(uri).__name__):
        validate_uri(uri)


def test_names_are_resolved(monkeypatch):
    assert validate_uri('localhost:5') == 'udp://127.0.0.1:5'
    own = socket.gethostname()
    monkeypatch.setattr(socket, 'getaddrinfo', lambda host, *a, **k: _info('10.1.2.3') if host == own else _fail())
    assert str(hostname2ip()) == '10.1.2.3'
    assert validate_uri(':9998') == 'udp://10.1.2.3:9998'
    assert validate_uri('') == 'udp://10.1.2.3:11001'
    with pytest.raises(ValueError, match='nowhere'):
        hostname2ip('nowhere')


def _info(host):
    return [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, '', ('fe80::1', 0, 0, 2)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, '', (host, 0)),
    ]


def _fail():
    raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')


def test_the_scope_of_an_ipv6_address_is_kept(monkeypatch):
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *a, **k: _info('')[:1])
    assert str(hostname2ip('rig')) == 'fe80::1%2'
    assert as_address(('fe80::1', 5, 0, 2)) == ('fe80::1%2', 5)
    assert as_address(('::1', 5, 0, 0)) == ('::1', 5)


def test_is_valid_ip():
    assert is_valid_ip('127.0.0.1')
    assert is_valid_ip('::1')
    assert not is_valid_ip('localhost')
    assert not is_valid_ip('')


@pytest.mark.parametrize('addr', [('h', 5), ['h', '5'], ('h', 5.0)])
def test_addresses(addr):
    assert as_address(addr) == ('h', 5)


@pytest.mark.parametrize('addr', ['h:5', None, ('h',), 5, ('h', 'x'), ('h', 70000)])
def test_invalid_addresses(addr):
    with pytest.raises((TypeError, ValueError)):
        as_address(addr)


@given(
    st.sampled_from(['udp', 'tcp', 'ws', 'wss']),
    st.one_of(st.ip_addresses().map(str), st.from_regex(r'[a-z][a-z0-9-]{0,10}[a-z](\.[a-z]{2,5})?', fullmatch=True)),
    st.integers(1, 65535),
)
def test_str_and_parse_are_inverse(scheme, host, port):
    uri = Uri(scheme, host, port)
    assert parse(str(uri)) == uri


async def test_resolving_does_not_block_the_loop_and_checks_the_scheme():
    assert await resolve('localhost') == (Uri('udp', 'localhost', 11001), Uri('udp', '127.0.0.1', 11001))
    for scheme in ('http', 'upd', 'ftp'):
        with pytest.raises(ValueError, match='choose from udp'):
            await resolve(f'{scheme}://localhost')
    with pytest.raises(ValueError, match='port'):
        await resolve('localhost:0')
