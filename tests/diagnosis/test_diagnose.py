"""The diagnosis names each fault: real sockets and programs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from echorig.diagnosis import diagnose
from echorig.testing import FakeRig
from findings import diagnosed, faults, finding, steps
from hosts import needs_ipv6, needs_others
from lab import Lab, free_port
from programs import Program
from systems import REPORTS_REFUSALS
from udp_programs import udp_program

ALL = ['uri', 'name', 'way', 'reach', 'kind', 'echo', 'size', 'round trip', 'clock']


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the addresses of the name ``camera``, which a test sets."""
    addresses: list[str] = []

    async def lookup(host: str) -> list[str]:
        if not addresses:
            raise ValueError(f'Failed to resolve the host name {host!r}')
        return addresses

    monkeypatch.setattr('echorig.diagnosis.names.lookup', lookup)
    return addresses


@contextlib.asynccontextmanager
async def tcp_program(greeting: bytes, closes: bool = False) -> AsyncIterator[str]:
    """Run a TCP program that sends something to each client, and reads nothing."""
    opened = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        writer.write(greeting)
        if closes:
            writer.transport.abort()

    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    try:
        yield f'tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}'
    finally:
        server.close()
        for writer in opened:
            writer.transport.abort()
        await server.wait_closed()


async def test_a_good_rig(lab: Lab, transport: str) -> None:
    rig = await lab.server(transport)
    found = await diagnosed(rig.server_uri, timeout=5.0)
    assert faults(found) == []
    assert steps(found) == [step for step in ALL if transport == 'udp' or step != 'size']
    assert finding(found, 'kind').facts == {'kind': 'echorig'}
    trips = finding(found, 'round trip').facts
    assert (trips['sent'], trips['lost']) == (100, 0)
    assert 0 < trips['min'] <= trips['median'] <= trips['p99'] <= trips['max']
    assert abs(finding(found, 'clock').facts['offset']) <= 0.1
    if transport == 'udp':
        assert finding(found, 'size').facts['largest'] == 65_507


async def test_no_callback_runs(lab: Lab, transport: str) -> None:
    rig = await lab.server(transport)
    heard: list[Any] = []
    rig.assign_callback(127, lambda data, addr: heard.append(data))
    rig.on_event = lambda *args: heard.append(args)
    assert faults(await diagnosed(rig.server_uri, timeout=5.0)) == []
    assert heard == []


@needs_ipv6
async def test_a_good_rig_over_ipv6(lab: Lab) -> None:
    rig = await lab.server(host='[::1]')
    found = await diagnosed(rig.server_uri, timeout=5.0)
    assert faults(found) == []
    assert finding(found, 'size').facts['largest'] >= 65_507


@pytest.mark.parametrize('uri', ['udp://a b', 'udp://127.0.0.1:0', 'http://127.0.0.1', 'udp://127.0.0.1:99999'])
async def test_uri(uri: str) -> None:
    found = await diagnosed(uri)
    assert (steps(found), faults(found)) == (['uri'], ['uri'])


async def test_closed_port(transport: str) -> None:
    if transport == 'udp' and not REPORTS_REFUSALS:
        pytest.skip('UDP reports no refusals')
    found = await diagnosed(f'{transport}://127.0.0.1:{free_port()}')
    assert faults(found) == ['refused']
    assert 'no program listens' in finding(found, 'reach').text


async def test_the_other_transport(lab: Lab, transport: str) -> None:
    if transport == 'udp' and not REPORTS_REFUSALS:
        pytest.skip('UDP reports no refusals')
    other = {'udp': 'tcp', 'tcp': 'udp'}[transport]
    rig = await lab.server(other)
    found = await diagnosed(f'{transport}://127.0.0.1:{rig.port}')
    assert faults(found) == ['refused', 'transport']
    assert finding(found, 'transport').facts['use'] == f'{other}://127.0.0.1:{rig.port}'


async def test_a_program_that_is_silent() -> None:
    async with udp_program(lambda data: None) as program:
        found = await diagnosed(program.uri)
    assert faults(found) == ['program silent']
    assert '--key-file' in finding(found, 'reach').advice
    assert 'firewall' not in steps(found)  # other ports of the computer are refused, so none drops everything
    assert all(not data.strip(b'[ \t]') for data in program.received)  # nothing but pings


async def test_a_tcp_program_that_is_silent() -> None:
    async with tcp_program(b'') as uri:
        found = await diagnosed(uri)
    assert faults(found) == ['program silent']


async def test_a_tcp_program_that_closes() -> None:
    async with tcp_program(b'', closes=True) as uri:
        found = await diagnosed(uri)
    assert faults(found) == ['closed']
    assert 'allow=' in found[-1].advice


async def test_a_foreign_program() -> None:
    async with udp_program(lambda data: b'HTTP/1.1 400 Bad Request\r\n') as program:
        found = await diagnosed(program.uri)
    assert faults(found) == ['foreign program']
    assert 'HTTP/1.1 400' in finding(found, 'kind').text


async def test_a_foreign_tcp_program() -> None:
    async with tcp_program(b'SSH-2.0-OpenSSH_9.6\r\n') as uri:
        found = await diagnosed(uri)
    assert faults(found) == ['foreign program']
    assert 'SSH-2.0' in finding(found, 'kind').text


@pytest.mark.parametrize('buffer', [512, 1000])
async def test_an_echo_that_is_cut(buffer: int) -> None:
    async with FakeRig(kind='matlab', buffer=buffer) as rig:
        found = await diagnosed(rig.uri, timeout=5.0)
    assert faults(found) == ['cut']
    assert finding(found, 'echo').facts['cut'] == buffer
    assert finding(found, 'kind').facts == {'kind': 'matlab'}
    assert [message for message in rig.received if message.event is not None] == []


async def test_iblutil(transport: str) -> None:
    async with FakeRig(f'{transport}://127.0.0.1:0', kind='iblutil') as rig:
        found = await diagnosed(rig.uri, timeout=5.0)
        assert rig.gave_up is None
    assert faults(found) == []
    assert finding(found, 'kind').facts == {'kind': 'legacy'}
    assert finding(found, 'round trip').facts['sent'] == 10
    assert [message for message in rig.received if message.event is not None] == []


async def test_an_echo_that_is_changed() -> None:
    async with udp_program(lambda data: b'[]') as program:
        found = await diagnosed(program.uri)
    assert faults(found)[:1] == ['changed']


async def test_long_datagrams_that_are_lost() -> None:
    async with udp_program(lambda data: data if len(data) <= 1_472 else None) as program:
        found = await diagnosed(program.uri)
    assert faults(found) == ['fragments']
    assert 1_472 - 16 <= finding(found, 'size').facts['largest'] <= 1_472


async def test_pings_that_are_lost() -> None:
    seen = 0

    def all_but_every_fifth(data: bytes) -> bytes | None:
        nonlocal seen
        seen += len(data) < 300
        return None if len(data) < 300 and seen % 5 == 0 else data

    async with udp_program(all_but_every_fifth) as program:
        found = await diagnosed(program.uri)
    assert faults(found) == ['loss']


@needs_others
async def test_an_answer_from_another_address() -> None:
    async with udp_program(lambda data: data, '127.0.0.2', answers_from='127.0.0.3') as program:
        found = await diagnosed(program.uri)
    assert faults(found) == ['other address']
    sender = finding(found, 'sender').facts
    assert (sender['pinged'], sender['answered']) == ('127.0.0.2', '127.0.0.3')
    assert steps(found)[-1] == 'round trip'  # the other steps are done nevertheless


@needs_others
@pytest.mark.parametrize('order', [['127.0.0.9', '127.0.0.1'], ['127.0.0.1', '127.0.0.9']])
async def test_two_addresses_of_which_one_is_dead(
    lab: Lab, transport: str, two_addresses: list[str], order: list[str]
) -> None:
    two_addresses[:] = order
    rig = await lab.server(transport)
    found = await diagnosed(f'{transport}://camera:{rig.port}', timeout=5.0)
    assert faults(found) == ['dead address']
    [dead] = [one for one in found if one.ok is False]
    assert dead.facts['address'] == '127.0.0.9'
    assert finding(found, 'name').facts['addresses'] == order
    assert steps(found)[-1] == 'clock'


async def test_a_name_that_is_not_known(two_addresses: list[str]) -> None:
    found = await diagnosed('udp://camera')
    assert (steps(found), faults(found)) == (['uri', 'name'], ['name unknown'])


async def test_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('echorig.diagnosis.names.lookup', lambda host: asyncio.sleep(60))
    found = await diagnosed('udp://camera', timeout=0.05)
    assert (steps(found), faults(found)) == (['uri', 'name'], ['no name server'])


async def test_a_name_of_this_computer(lab: Lab, two_addresses: list[str]) -> None:
    two_addresses[:] = ['127.0.1.1']
    found = await diagnosed(f'udp://camera:{free_port()}')
    assert 'this computer itself' in finding(found, 'name').text


async def test_a_rig_that_is_not_in_the_allow_list() -> None:
    async with udp_program(lambda data: data) as program:
        found = await diagnosed(program.uri, allow=['10.0.0.0/8'])
        assert (steps(found), faults(found)) == (['uri', 'name', 'allow'], ['not allowed'])
        assert program.received == []


async def test_a_rig_that_does_not_allow_this_computer(lab: Lab, transport: str) -> None:
    rig = await lab.server(transport, host='0.0.0.0', allow=['10.0.0.0/8'])
    found = await diagnosed(f'{transport}://127.0.0.1:{rig.port}')
    assert faults(found) == ['program silent' if transport == 'udp' else 'closed']
    assert 'allow=' in found[-1].advice


async def test_all_steps_end_in_time() -> None:
    async with udp_program(lambda data: None) as program:
        before = time.monotonic()
        found = await diagnosed(program.uri, timeout=60.0, total=0.3)
        assert time.monotonic() - before < 20.0
    assert len(faults(found)) == 1


def test_a_clock_that_is_off_by_an_hour() -> None:
    rig = """
        import sys, time
        real = time.time_ns
        time.time_ns = lambda: real() + int(sys.argv[1]) * 10**9
        import asyncio
        import echorig

        async def main():
            async with await echorig.EchoProtocol.server('udp://127.0.0.1:0', 'rig') as rig:
                print(rig.server_uri)
                await asyncio.sleep(60)

        echorig.run(main())
    """
    for seconds, word in ((3600, 'ahead'), (-3600, 'behind')):
        with Program(rig, str(seconds)) as program:
            uri = program.wait_for('udp://')
            found = asyncio.run(diagnosed(uri, timeout=5.0))
        assert faults(found) == ['clock']
        clock = finding(found, 'clock')
        assert abs(clock.facts['offset'] - seconds) < 5.0
        assert f'1.0 hours {word}' in clock.text


@pytest.mark.parametrize(
    ('options', 'error'),
    [
        ({'key': b'short'}, ValueError),
        ({'timeout': 0}, ValueError),
        ({'allow': 7}, TypeError),
        ({'total': 'x'}, TypeError),
    ],
)
async def test_invalid_options(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await diagnosed('udp://127.0.0.1', **options)


async def test_it_can_be_left_at_any_step(lab: Lab) -> None:
    rig = await lab.server()
    for n in range(1, len(ALL)):
        diagnosis = diagnose(rig.server_uri)
        for _ in range(n):
            await anext(diagnosis)
        await diagnosis.aclose()
