"""The parts of a diagnosis: what a frame is, what the system knows of a way, and the records."""

from __future__ import annotations

import dataclasses
import socket
import sys

import pytest

from echorig.diagnosis import Finding
from echorig.diagnosis.firewall import firewall_finding
from echorig.diagnosis.installation import installation
from echorig.diagnosis.netlink import Netlink
from echorig.diagnosis.replies import Kind, classify
from echorig.diagnosis.way import find_way, neighbour_of
from echorig.wire._tags import add_tag, make_ping, set_ack

RUN = 77
PING = make_ping(RUN, 1)
LONG = add_tag(b'[' + b' ' * 600 + b']', RUN, 2)

linux = pytest.mark.skipif(sys.platform != 'linux', reason='netlink is of Linux')


@pytest.mark.parametrize(
    ('sent', 'received', 'kind'),
    [
        (PING, PING, Kind.VERBATIM),
        (PING, set_ack(PING), Kind.ACKNOWLEDGED),
        (LONG, set_ack(LONG), Kind.ACKNOWLEDGED),
        (LONG, LONG[:512], Kind.CUT),
        (LONG, LONG[:8], Kind.FOREIGN),
        (PING, b'[]', Kind.CHANGED),
        (PING, PING.replace(b'\t', b' '), Kind.CHANGED),
        (LONG, set_ack(add_tag(b'[]', RUN, 2)), Kind.CHANGED),
        (PING, make_ping(RUN + 1, 1), Kind.OTHER_PING),
        (PING, set_ack(make_ping(RUN, 9)), Kind.OTHER_PING),
        (PING, b'[0, "Index exceeds", "[]"]', Kind.NOTICE),
        (PING, b'[1, null]', Kind.FOREIGN),
        (PING, b'HTTP/1.1 400 Bad Request', Kind.FOREIGN),
        (PING, b'', Kind.FOREIGN),
        (PING, b'[', Kind.FOREIGN),
        (PING, b'\xff' * 300, Kind.FOREIGN),
    ],
)
def test_classify(sent: bytes, received: bytes, kind: Kind) -> None:
    assert classify(sent, received) is kind


def test_a_finding_is_a_value() -> None:
    finding = Finding('reach', True, 'it answers')
    assert finding == Finding('reach', True, 'it answers', '', {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        finding.ok = False  # type: ignore[misc]


@linux
def test_netlink_knows_the_loopback_interface() -> None:
    with Netlink() as netlink:
        name = socket.if_indextoname(1)
        assert (name, '127.0.0.1', 8) in netlink.networks()
        route = netlink.route('127.0.0.1')
        assert route is not None
        assert (route.interface, route.gateway, route.is_local) == (name, None, True)
        assert netlink.neighbour('127.0.0.1') is None


@linux
async def test_the_way_to_this_computer() -> None:
    way = await find_way('127.0.0.1', 9)
    assert (way.own, way.error, way.is_own) == ('127.0.0.1', None, True)
    assert await neighbour_of('127.0.0.1') is None


def test_the_way_without_netlink(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.delattr(socket, 'AF_NETLINK', raising=False)
    way = asyncio.run(_way('127.0.0.1'))
    assert (way.own, way.interface, way.is_own, way.is_direct) == ('127.0.0.1', None, True, None)


async def _way(host: str):  # type: ignore[no-untyped-def]
    return await find_way(host, 9)


@pytest.mark.parametrize('protocol', ['udp', 'tcp'])
def test_firewall_commands(protocol: str) -> None:
    finding = firewall_finding(11001, protocol)
    assert finding.ok is None
    assert len(finding.advice.splitlines()) == 4
    assert all('11001' in line for line in finding.advice.splitlines())


def test_installation_names_no_person() -> None:
    found = installation()
    assert socket.gethostname() not in ' '.join(found.values()).split()
    assert all(isinstance(value, str) and value for value in found.values())
