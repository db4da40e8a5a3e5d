from __future__ import annotations

import pytest

from echorig import ExpMessage, ExpStatus, base


def test_codes_and_statuses():
    assert {m.name: int(m) for m in ExpMessage} == {
        'EXPINIT': 1, 'EXPSTART': 2, 'EXPEND': 4, 'EXPCLEANUP': 8,
        'EXPINTERRUPT': 16, 'EXPSTATUS': 32, 'EXPINFO': 64, 'ALYX': 128,
    }  # fmt: skip
    assert [int(s) for s in ExpStatus] == [0, 10, 20, 30]
    assert ExpMessage.__version__ == ExpStatus.__version__ == base.PROTOCOL_VERSION == '1.0.0'
    assert base.LISTEN_PORT == 11001


def test_any():
    assert list(ExpMessage.any()) == list(ExpMessage.__members__.values())
    assert int(ExpMessage.any()) == 255


@pytest.mark.parametrize('event', ['EXPSTART', ' expstart', 'ExpStart\n', 2, ExpMessage.EXPSTART])
def test_validate_finds_an_event(event):
    assert ExpMessage.validate(event) is ExpMessage.EXPSTART
    assert ExpMessage.validate(event, allow_bitwise=False) is ExpMessage.EXPSTART


def test_validate_combinations():
    both = ExpMessage.EXPSTART | ExpMessage.EXPEND
    assert ExpMessage.validate(both) is both
    assert ExpMessage.validate(6) == both
    assert ExpMessage.validate(ExpMessage.any()) is ExpMessage.any()
    assert ExpMessage.validate(0) == ExpMessage(0)
    for compound in (both, 6, 0, ExpMessage(0)):
        with pytest.raises(ValueError, match='EXPINIT'):
            ExpMessage.validate(compound, allow_bitwise=False)


def test_validate_the_inverse_of_an_event():
    assert list(ExpMessage.validate(~ExpMessage.ALYX)) == list(ExpMessage.__members__.values())[:-1]


@pytest.mark.parametrize('event', ['EXPSTOP', '', 256, 1024, -1, 2**80])
def test_validate_unknown_events(event):
    with pytest.raises(ValueError, match=r'EXPINIT|powers of 2'):
        ExpMessage.validate(event)


@pytest.mark.parametrize('event', [b'EXPSTART', None, 1.0, True, [1]])
def test_validate_other_types(event):
    with pytest.raises(TypeError, match='None' if event is None else type(event).__name__):
        ExpMessage.validate(event)
