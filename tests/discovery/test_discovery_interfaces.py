"""Which addresses a rig announces, and which of them a main PC uses."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from echorig.discovery.interfaces import Place, local_networks, place_of, preferred, search_interfaces

LOOPBACK = [ip_interface('127.0.0.1/8'), ip_interface('::1/128')]
LAB = [ip_interface('192.168.0.5/24'), ip_interface('fd00::5/64'), ip_interface('fe80::5/64')]
OFFICE = [ip_interface('10.1.2.3/16')]
VIRTUAL = [ip_interface('172.17.0.1/16')]
TUNNEL = [ip_interface('10.9.9.9/32')]
ALL = [LOOPBACK, LAB, OFFICE, TUNNEL]


@pytest.mark.parametrize(
    ('host', 'chosen', 'place'),
    [
        ('0.0.0.0', None, Place(('192.168.0.5', '10.1.2.3'), ('192.168.0.5', '10.1.2.3'))),
        ('::', None, Place(('192.168.0.5', '10.1.2.3'), ('192.168.0.5', '10.1.2.3', 'fd00::5'))),
        ('0.0.0.0', ['192.168.0.5'], Place(('192.168.0.5',), ('192.168.0.5',))),
        ('::', ['192.168.0.5'], Place(('192.168.0.5',), ('192.168.0.5', 'fd00::5'))),
        ('0.0.0.0', ['127.0.0.1'], Place(('127.0.0.1',), ('127.0.0.1',))),
        ('0.0.0.0', ['192.168.0.6'], Place((), ())),
        ('0.0.0.0', ['192.168.0.6', '10.1.2.3'], Place(('10.1.2.3',), ('10.1.2.3',))),
        ('192.168.0.5', None, Place(('192.168.0.5',), ('192.168.0.5',))),
        ('192.168.0.5', ['10.1.2.3'], Place(('10.1.2.3',), ('192.168.0.5',))),
        ('192.168.0.6', None, Place((), ())),
        ('fd00::5', None, Place(('192.168.0.5',), ('fd00::5',))),
        ('fe80::5%2', None, Place(('192.168.0.5',), ('fe80::5',))),
        ('127.0.0.1', None, Place(('127.0.0.1',), ('127.0.0.1',))),
        ('127.0.0.1', ['192.168.0.5'], Place(('127.0.0.1',), ('127.0.0.1',))),
        ('::1', None, Place(('127.0.0.1',), ('::1',))),
    ],
)
def test_where_a_server_is_announced(host, chosen, place):
    assert place_of(host, chosen, ALL) == place


def test_a_computer_without_a_network():
    assert place_of('0.0.0.0', None, [LOOPBACK]) == Place(('127.0.0.1',), ('127.0.0.1',))
    assert place_of('0.0.0.0', None, []) == Place((), ())
    assert search_interfaces(None, [LOOPBACK]) == ['127.0.0.1']


@pytest.mark.parametrize(
    ('announced', 'used'),
    [
        (['10.1.9.9', '192.168.0.12'], ['10.1.9.9', '192.168.0.12']),
        (['8.8.8.8', '192.168.0.12'], ['192.168.0.12', '8.8.8.8']),
        (['fd00::12', '192.168.0.12'], ['192.168.0.12', 'fd00::12']),
        (['fd00::12', '8.8.8.8'], ['fd00::12', '8.8.8.8']),
        # Each computer with Docker has this address: here it leads to this computer and not to the rig.
        (['172.17.0.1', '192.168.0.12'], ['192.168.0.12']),
        (['172.17.0.1', '8.8.8.8'], ['8.8.8.8']),
        # A rig on this computer.
        (['172.17.0.1', '192.168.0.5'], ['172.17.0.1', '192.168.0.5']),
        (['127.0.0.1'], ['127.0.0.1']),
        (['127.0.0.7'], ['127.0.0.7']),
        (['fe80::7', '192.168.0.12'], ['192.168.0.12']),
        (['fe80::7'], ['fe80::7']),
        ([], []),
    ],
)
def test_which_address_is_used(announced, used):
    assert preferred(announced, [*ALL, VIRTUAL]) == used


def test_this_computer():
    pytest.importorskip('ifaddr')
    found = [str(own.ip) for adapter in local_networks() for own in adapter]
    assert '127.0.0.1' in found
    assert '127.0.0.1' in search_interfaces(None, local_networks())
