"""A server whose address is removed from its computer says so."""

from __future__ import annotations

import logging

import pytest

from echorig import EchoProtocol
from echorig.transports import local_address
from eventually import eventually


async def test_address_that_goes_and_comes_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    present = [True]
    monkeypatch.setattr(local_address, '_INTERVAL', 0.01)
    monkeypatch.setattr(local_address, '_FIXED', ())  # a server on 127.0.0.1 is watched too
    monkeypatch.setattr(local_address, 'is_present', lambda host: present[0])
    with caplog.at_level(logging.WARNING):
        async with await EchoProtocol.server('udp://127.0.0.1:0', 'rig'):
            present[0] = False
            await eventually(lambda: 'has lost the address 127.0.0.1' in caplog.text, 'the loss')
            present[0] = True
            await eventually(lambda: 'rig receives again' in caplog.text, 'the return')
        assert len(caplog.records) == 2


def test_presence() -> None:
    assert local_address.is_present('127.0.0.1')
    assert not local_address.is_present('192.0.2.1')  # of RFC 5737, which no computer has
