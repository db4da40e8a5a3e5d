"""A logging filter or handler that raises stops neither messages nor the program."""

from __future__ import annotations

import asyncio
import logging

import pytest

from echorig import EchoMismatchError
from echorig.security.safe_log import SafeLog
from lab import REF, RawUdp

PATIENCE = 10.0


class Full(logging.Filter):
    """A filter that raises while `raises` is set."""

    raises = False

    def filter(self, record: logging.LogRecord) -> bool:
        if self.raises:
            raise OSError(28, 'No space left on device')
        return True


@pytest.fixture
def broken():
    """Return a logger with this filter, and the filter."""
    logger = logging.getLogger(f'{__name__}.broken')
    logger.setLevel(logging.DEBUG)
    full = Full()
    logger.addFilter(full)
    yield logger, full
    logger.removeFilter(full)
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize('end', ['client', 'server'])
async def test_messages_are_exchanged_while_logging_fails(lab, transport, broken, end, capsys):
    logger, full = broken
    server = await lab.server(transport, 'rig', log=logger if end == 'server' else None)
    client = await lab.client(server, 'main', log=logger if end == 'client' else None)
    heard = []
    server.assign_callback('EXPSTART', lambda data, addr: heard.append(data[0]))
    await client.start('first')
    full.raises = True
    await asyncio.wait_for(client.start('second'), PATIENCE)
    await asyncio.wait_for(client.ping(), PATIENCE)
    full.raises = False
    await client.start('third')
    assert heard == ['first', 'second', 'third']
    assert capsys.readouterr().err.count('OSError: [Errno 28]') == 1  # printed once, not for each line


async def test_a_send_fails_with_its_own_error(lab, broken):
    logger, full = broken
    peer = await RawUdp.open()
    client = await lab.client(peer.uri, 'main', log=logger)
    sending = asyncio.ensure_future(client.start(REF))
    _, addr = await peer.hear()
    full.raises = True
    peer.say(b'nonsense', addr)
    with pytest.raises(EchoMismatchError, match='got <8 bytes>'):
        await asyncio.wait_for(sending, PATIENCE)


async def test_a_failing_callback_is_reported_while_logging_fails(lab, broken):
    logger, full = broken
    server = await lab.server('udp', 'rig', log=logger)
    client = await lab.client(server, 'main')

    def fail(data, addr):
        raise ValueError('no disk left')

    server.assign_callback('EXPSTART', fail)
    notice = asyncio.ensure_future(client.on_event(0))
    await client.init()
    full.raises = True
    await client.start(REF)
    assert (await asyncio.wait_for(notice, PATIENCE))[0] == ['ValueError: no disk left', 2]


def test_the_caller_is_named(caplog):
    SafeLog(logging.getLogger('somebody')).warning('%s and %s', 'this', 'that')
    (record,) = caplog.records
    assert record.getMessage() == 'this and that'
    assert record.filename == 'test_safe_log.py'


def test_each_type_of_failure_is_printed_once(capsys):
    logger = logging.getLogger('nobody')

    class Failing(logging.Filter):
        error: Exception

        def filter(self, record: logging.LogRecord) -> bool:
            raise self.error

    failing = Failing()
    logger.addFilter(failing)
    try:
        log = SafeLog(logger)
        for error in (OSError('first'), OSError('second'), KeyError('third')):
            failing.error = error
            log.error('anything')
            log.exception('anything')
    finally:
        logger.removeFilter(failing)
    shown = capsys.readouterr().err
    assert [shown.count(word) for word in ('OSError: first\n', 'OSError: second', "KeyError: 'third'\n")] == [1, 0, 1]
