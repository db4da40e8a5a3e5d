"""The diagnosis names wrong keys, and what is wrong with TLS."""

from __future__ import annotations

import pytest

from certificates import V2, V3, Papers
from findings import diagnosed, faults, finding, steps
from lab import Lab

KEY, OTHER = b'a key that both ends have', b'a key that nobody else has'


async def test_the_same_key(lab: Lab, transport: str) -> None:
    rig = await lab.server(transport, key=KEY)
    found = await diagnosed(rig.server_uri, key=KEY, timeout=5.0)
    assert faults(found) == []
    assert finding(found, 'key').ok
    assert steps(found)[-1] == 'clock'


@pytest.mark.parametrize('key', [None, OTHER])
async def test_the_rig_has_another_key_than_we(lab: Lab, transport: str, key: bytes | None) -> None:
    rig = await lab.server(transport, key=KEY)
    found = await diagnosed(rig.server_uri, key=key)
    assert faults(found) == ['program silent']
    assert ('the key of the rig is another one' if key else 'the rig needs a key (--key-file)') in found[-1].advice


async def test_the_rig_has_no_key(lab: Lab, transport: str) -> None:
    rig = await lab.server(transport)
    found = await diagnosed(rig.server_uri, key=KEY, timeout=5.0)
    assert faults(found) == ['rig has no key']
    assert steps(found)[-1] == 'clock'  # the other steps are done without the key


async def test_a_good_certificate(lab: Lab, papers: Papers) -> None:
    rig = await lab.server('tls', ssl=papers.servers['good'])
    found = await diagnosed(rig.server_uri, ssl=papers.client, timeout=5.0)
    assert faults(found) == []
    assert finding(found, 'tls').facts['version'] == 'TLSv1.3'
    assert steps(found)[-1] == 'clock'


@pytest.mark.parametrize(
    ('certificate', 'fault', 'advice'),
    [
        ('stranger', 'certificate not trusted', '--cafile'),
        ('expired', 'certificate expired', 'renew it'),
        ('not yet', 'certificate not valid yet', 'clocks'),
        ('elsewhere', 'certificate wrong name', 'name'),
    ],
)
async def test_a_bad_certificate(lab: Lab, papers: Papers, certificate: str, fault: str, advice: str) -> None:
    rig = await lab.server('tls', ssl=papers.servers[certificate])
    found = await diagnosed(rig.server_uri, ssl=papers.client, timeout=5.0)
    assert faults(found) == [fault]
    assert advice in finding(found, 'tls').advice


async def test_a_certificate_of_an_authority_that_the_system_does_not_know(lab: Lab, papers: Papers) -> None:
    rig = await lab.server('tls', ssl=papers.servers['good'])
    assert faults(await diagnosed(rig.server_uri, timeout=5.0)) == ['certificate not trusted']


@pytest.mark.parametrize('version', [V2, V3])
async def test_a_rig_that_wants_a_certificate(lab: Lab, papers: Papers, version: object) -> None:
    rig = await lab.server('tls', ssl=papers.demanding[version])
    found = await diagnosed(rig.server_uri, ssl=papers.client, timeout=5.0)
    assert faults(found) == ['tls']
    assert 'certificate' in found[-1].text + found[-1].advice


async def test_tls_against_plain(lab: Lab, papers: Papers) -> None:
    rig = await lab.server('tcp')
    found = await diagnosed(f'tls://127.0.0.1:{rig.port}', ssl=papers.client, timeout=1.0)
    assert faults(found) == ['rig is plain']
    assert finding(found, 'tls').facts['use'] == f'tcp://127.0.0.1:{rig.port}'


@pytest.mark.parametrize('key', [None, KEY])
async def test_plain_against_tls(lab: Lab, papers: Papers, key: bytes | None) -> None:
    rig = await lab.server('tls', ssl=papers.servers['good'])
    found = await diagnosed(f'tcp://127.0.0.1:{rig.port}', key=key, timeout=1.0)
    assert faults(found) == ['rig has TLS']
    assert finding(found, 'tls').facts['use'] == f'tls://127.0.0.1:{rig.port}'


async def test_plain_against_tls_that_wants_a_certificate(lab: Lab, papers: Papers) -> None:
    rig = await lab.server('tls', ssl=papers.demanding[V2])
    found = await diagnosed(f'tcp://127.0.0.1:{rig.port}', timeout=1.0)
    assert faults(found) == ['rig has TLS']
