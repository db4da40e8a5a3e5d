"""Wrong arguments are refused before anything is opened, and a missing package is named."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_address

import pytest

from echorig import EchoProtocol, Rig, Services, discover
from echorig.discovery import browse
from echorig.discovery.options import ENVIRONMENT, checked_interfaces

ROOM = {'group': 'room'}
URI = 'udp://127.0.0.1:0'


@pytest.mark.parametrize(
    ('announce', 'name', 'kind', 'said'),
    [
        (1, 'camera', TypeError, 'announce must be True or a mapping'),
        ('room-2', 'camera', TypeError, 'announce must be True or a mapping'),
        (['room-2'], 'camera', TypeError, 'announce must be True or a mapping'),
        (True, None, ValueError, 'announce needs a name'),
        ({'group': 'room-2'}, None, ValueError, 'announce needs a name'),
        ({'room': 'room-2'}, 'camera', ValueError, "announce has 'room'"),
        ({'group': 5}, 'camera', TypeError, r"announce\['group'\] must be a str"),
        ({'group': ''}, 'camera', ValueError, r"announce\['group'\] must be one line"),
        ({'name': 'a\nb'}, 'camera', ValueError, r"announce\['name'\] must be one line"),
        ({'name': ' camera'}, 'camera', ValueError, r"announce\['name'\] must be one line"),
        (True, 'x' * 201, ValueError, 'name must be one line'),
        (True, 'ü' * 101, ValueError, 'name must be one line'),
        ({'name': '\ud800'}, 'camera', ValueError, r"announce\['name'\] must be one line"),
        ({'interfaces': '127.0.0.1'}, 'camera', TypeError, r"announce\['interfaces'\] must be a list"),
        ({'interfaces': []}, 'camera', ValueError, r"announce\['interfaces'\] is empty"),
        ({'interfaces': ['eth0']}, 'camera', ValueError, r"announce\['interfaces'\] must have IPv4"),
        ({'interfaces': ['::1']}, 'camera', ValueError, r"announce\['interfaces'\] must have IPv4"),
        ({'interfaces': ['0.0.0.0']}, 'camera', ValueError, r"announce\['interfaces'\] must have IPv4"),
        ({'interfaces': [5]}, 'camera', ValueError, r"announce\['interfaces'\] must have IPv4"),
    ],
)
async def test_announce(announce, name, kind, said):
    with pytest.raises(kind, match=said):
        await EchoProtocol.server(URI, name, announce=announce)
    if name is not None:
        with pytest.raises(kind, match=said):
            await Rig(name, announce=announce).open(URI)


async def test_no_announcement(lab):
    for nothing in (False, None):
        await lab.server(announce=nothing)


async def test_a_client_announces_nothing(lab):
    server = await lab.server()
    with pytest.raises(TypeError, match='announce'):
        await EchoProtocol.client(server.server_uri, 'camera', announce=True)


@pytest.mark.parametrize(
    ('kwargs', 'kind', 'said'),
    [
        ({'group': 5}, TypeError, 'group must be a str'),
        ({'group': ''}, ValueError, 'group must be one line'),
        ({'timeout': 0}, ValueError, 'Timeout must be'),
        ({'timeout': float('inf')}, ValueError, 'Timeout must be'),
        ({'timeout': '2'}, TypeError, 'timeout must be'),
        ({'interfaces': '127.0.0.1'}, TypeError, 'interfaces must be a list'),
        ({'interfaces': ['192.0.2.77.1']}, ValueError, 'interfaces must have'),
        ({'interfaces': ['192.0.2.77']}, OSError, r'No interface of this computer has the address 192\.0\.2\.77'),
    ],
)
async def test_discover(kwargs, kind, said):
    pytest.importorskip('zeroconf')
    with pytest.raises(kind, match=said):
        await discover(**kwargs)
    if 'timeout' not in kwargs and kind is not OSError:
        with pytest.raises(kind, match=said):
            browse(**kwargs)


@pytest.mark.parametrize(
    ('args', 'kwargs', 'kind', 'said'),
    [
        (['camera'], {}, TypeError, 'names must be a list'),
        ([5], {}, TypeError, 'names must be a list'),
        ([[]], {}, ValueError, 'names is empty'),
        ([['camera', 5]], {}, TypeError, 'names must be a str'),
        ([['camera', '']], {}, ValueError, 'names must be one line'),
        ([['camera', 'camera']], {}, ValueError, "names has 'camera' twice"),
        ([None], {}, ValueError, 'give the group'),
        ([['camera'], 5], {}, TypeError, 'group must be a str'),
        ([['camera'], 'room', -1], {}, ValueError, 'Timeout must be'),
        ([['camera']], {'wait': 1}, TypeError, 'wait must be'),
        ([['camera']], {'interfaces': 'lo'}, TypeError, 'interfaces must be'),
    ],
)
async def test_services(args, kwargs, kind, said):
    with pytest.raises(kind, match=said):
        await Services.discover(*args, **kwargs)


@pytest.mark.parametrize(
    'uri', ['mdns:', 'mdns:?group=a', 'mdns:camera?', 'mdns:camera?group=', 'mdns:camera?room=a', 'mdns: camera']
)
async def test_uris_of_rigs_to_find(uri):
    with pytest.raises(ValueError, match=r"URI of 'cam' must be of the form mdns:camera"):
        await Services.connect({'cam': uri})


def test_the_environment(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert checked_interfaces(None) is None
    monkeypatch.setenv(ENVIRONMENT, ' ')
    assert checked_interfaces(None) is None
    monkeypatch.setenv(ENVIRONMENT, '127.0.0.1, 192.168.0.5,127.0.0.1')
    assert checked_interfaces(None) == ('127.0.0.1', '192.168.0.5')
    assert checked_interfaces([ip_address('10.0.0.1')]) == ('10.0.0.1',)
    monkeypatch.setenv(ENVIRONMENT, 'eth0')
    with pytest.raises(ValueError, match=f'{ENVIRONMENT} must have IPv4'):
        checked_interfaces(None)


WITHOUT_ZEROCONF = """
import asyncio, sys
sys.modules['zeroconf'] = None
import echorig
from echorig import sync
from echorig.discovery import browse

async def main():
    async with echorig.EchoProtocol.server('udp://127.0.0.1:0', 'camera') as com:
        print('serves', com.is_connected)
    async def browsing():
        async with browse():
            pass
    for work in (
        lambda: echorig.EchoProtocol.server('udp://127.0.0.1:0', 'camera', announce=True),
        lambda: echorig.Rig('camera', announce=True).open('udp://127.0.0.1:0'),
        lambda: echorig.discover(timeout=0.1),
        browsing,
        lambda: echorig.Services.discover(['camera'], timeout=0.1),
        lambda: echorig.Services.connect({'camera': 'mdns:camera'}, timeout=0.1),
    ):
        try:
            await work()
        except ImportError as ex:
            print(ex)

asyncio.run(main())
try:
    sync.discover()
except ImportError as ex:
    print(ex)
"""


def test_without_the_package():
    done = subprocess.run([sys.executable, '-c', WITHOUT_ZEROCONF], capture_output=True, text=True, timeout=60)
    assert done.stderr == ''
    [first, *others] = done.stdout.splitlines()
    assert first == 'serves True'
    assert others == ["Discovery needs python-zeroconf: pip install 'echorig[discovery]'"] * 7


def test_importing_echorig_imports_no_zeroconf():
    code = 'import sys, echorig, echorig.sync; print([m for m in ("zeroconf", "ifaddr") if m in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ('[]', '')
