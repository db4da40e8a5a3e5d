"""`MessageLog`: logs what is wrong with received messages, and answers failed callbacks with notices."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ..errors import EchoError
from ..messages import ExpMessage
from ..security.log_limit import LogLimit, OncePerPeer
from ..security.redaction import printable, redact_error, redact_frame
from ..security.safe_log import SafeLog
from ..uri import Address, address_text
from ..wire.notices import event_of_notice, is_about_no_message

__all__ = ['MessageLog']

# Which warnings have been shown: each text once, as Python does, but a peer must not make the list grow for ever.
_warned: dict[Any, Any] = {}
_MAX_WARNED = 100
_FAILURES = 10  # times as many as of other warnings are logged: all rigs of a session may fail at once
_LONGEST_NOTICE = 1000  # characters; an error text is for people, and MATLAB reads 512 bytes or 1,000


class MessageLog:
    """Logs what is wrong with received messages.

    Parameters
    ----------
    log : SafeLog
        The log of the communicator.
    limit : LogLimit
        Limits how much peers can have logged.
    protocol : str
        The scheme of its URI.
    send : callable
        Sends a message to an address, without waiting for its confirmation.
    count_malformed : callable
        Counts a frame that is no message, by its address.
    """

    def __init__(
        self,
        log: SafeLog,
        limit: LogLimit,
        protocol: str,
        send: Callable[[list[Any], Address], None],
        count_malformed: Callable[[Address], None],
    ) -> None:
        self._log, self._limit, self._protocol = log, limit, protocol
        self._send, self._count_malformed = send, count_malformed
        self._once = OncePerPeer()

    def malformed(self, data: bytes, addr: Address, why: str, expected_list: bool = True) -> None:
        """Log a frame that is no message, and warn where iblutil warns."""
        self._count_malformed(addr)
        if not self._limit.allows('that were no message', addr):
            return
        self._log.warning('Ignored %d bytes from %s:%s, no message (%s): %s', len(data), *addr, why, redact_frame(data))
        if expected_list:
            if len(_warned) > _MAX_WARNED:
                _warned.clear()
            text = f'Expected list, got {redact_frame(data)}'
            warnings.warn_explicit(text, RuntimeWarning, __file__, 0, module=__name__, registry=_warned)

    def latin1(self, addr: Address) -> None:
        """Log, once for each peer, that it writes Latin-1."""
        if self._once.allows('Latin-1', addr) and self._limit.allows('messages in Latin-1', addr):
            who = address_text(self._protocol, addr)
            self._log.warning('Messages from %s are no UTF-8, as those of MATLAB are: read as Latin-1 from now on', who)

    def notice(self, content: list[Any], addr: Address) -> bool:
        """Log a notice; return whether it is about a message that a program has sent."""
        who = address_text(self._protocol, addr)
        if is_about_no_message(content):
            if self._once.allows('pings', addr) and self._limit.allows('notices about pings', addr):
                self._log.info('%s sends notices about pings and about notices: ignored', who)
            return False
        if not self._limit.allows('failures of callbacks there', addr, _FAILURES):
            return True
        name = event_of_notice(content)
        details = str(content[0])[: 4 * _LONGEST_NOTICE] if content else 'no details'
        event = 'an unnamed event' if name is None else ExpMessage(name).name or name
        self._log.error('Callback for %s on %s failed with %s', event, who, printable(redact_error(details, name)))
        return True

    def failed(self, callback: Any, event: ExpMessage, error: BaseException, addr: Address) -> None:
        """Log that a callback failed, and send a notice to the sender of the message.

        A failure in a callback for notices is only logged, or two such callbacks would keep each other busy.
        """
        text = redact_error(f'{type(error).__name__}: {_text(error)}', event)
        if self._limit.allows('failures of callbacks here', addr, _FAILURES):
            self._log.error('Callback "%s" failed with error "%s"', callback, text)
        if event:
            try:
                self._send([0, text[:_LONGEST_NOTICE], int(event)], addr)
            except (OSError, ValueError, EchoError) as ex:
                self._log.warning('No notice sent to %s:%s: %s', *addr, ex)

    def no_callback(self, event: ExpMessage) -> None:
        """Log that nothing listens for an event."""
        self._log.debug('No callbacks to execute for event %s', event.name)

    def already_done(self, future: Any) -> None:
        """Log that a future that was registered for an event has a result already."""
        self._log.warning('Future %s already resolved', future)


def _text(error: BaseException) -> str:
    """Return the text of an exception, even of one that has none to give."""
    try:
        return str(error)
    except Exception as ex:
        return f'(no text: {type(ex).__name__})'
