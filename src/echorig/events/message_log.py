"""`MessageLog`: logs faulty messages and failed callbacks, and sends the notices of failed callbacks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ..errors import EchoError
from ..messages import ExpMessage
from ..security.log_limit import RateLimitedLog
from ..security.redaction import frames_of, may_show_traceback, printable, redact_error, redact_frame
from ..security.safe_log import SafeLog
from ..uri import Address, address_text
from ..wire.notices import event_of_notice, is_about_no_message

__all__ = ['MessageLog']

# The warnings that have been shown: each text once, as Python does, but a peer must not make the table grow for ever.
_warned: dict[Any, Any] = {}
_MAX_WARNED = 100
_FAILURES = 10  # times the usual log limit: all rigs of a session may fail at once
_LONGEST_NOTICE = 1000  # characters; MATLAB reads 512 bytes or 1,000


class MessageLog:
    """Logs faulty messages and failed callbacks of one communicator, and sends notices.

    Parameters
    ----------
    log : SafeLog
        The log of the communicator.
    limit : RateLimitedLog
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
        limit: RateLimitedLog,
        protocol: str,
        send: Callable[[list[Any], Address], None],
        count_malformed: Callable[[Address], None],
    ) -> None:
        self._log, self._limit, self._protocol = log, limit, protocol
        self._send, self._count_malformed = send, count_malformed

    def malformed(self, data: bytes, addr: Address, why: str, expected_list: bool = True) -> None:
        """Log a frame that is no message; if a list was expected, also warn, as iblutil does."""
        self._count_malformed(addr)
        if not self._limit.should_log('that were no message', addr):
            return
        self._log.warning('Ignored %d bytes from %s:%s, no message (%s): %s', len(data), *addr, why, redact_frame(data))
        if expected_list:
            if len(_warned) > _MAX_WARNED:
                _warned.clear()
            text = f'Expected list, got {redact_frame(data)}'
            warnings.warn_explicit(text, RuntimeWarning, __file__, 0, module=__name__, registry=_warned)

    def latin1(self, addr: Address) -> None:
        """Log, once for each peer, that it writes Latin-1."""
        if self._limit.should_log_once('messages in Latin-1', addr):
            who = address_text(self._protocol, addr)
            self._log.warning('Messages from %s are no UTF-8, as those of MATLAB are: read as Latin-1 from now on', who)

    def notice(self, content: list[Any], addr: Address) -> bool:
        """Log a notice; return whether it is about a message that a program has sent, not about a ping or notice."""
        who = address_text(self._protocol, addr)
        if is_about_no_message(content):
            if self._limit.should_log_once('notices about pings', addr):
                self._log.info('%s sends notices about pings and about notices: ignored', who)
            return False
        if not self._limit.should_log('failures of callbacks there', addr, _FAILURES):
            return True
        name = event_of_notice(content)
        # A traceback may follow the first line; the error that the caller gets has it.
        details = str(content[0])[: 4 * _LONGEST_NOTICE].partition('\n')[0] if content else 'no details'
        event = 'an unnamed event' if name is None else ExpMessage(name).name or name
        self._log.error('Callback for %s on %s failed with %s', event, who, printable(redact_error(details, name)))
        return True

    def failed(self, callback: Any, event: ExpMessage, addr: Address, error: BaseException) -> None:
        """Log that a callback failed, and send a notice to the sender of the message.

        The failure of a callback for notices is only logged: two such callbacks would send notices to each other
        without end.
        """
        text = redact_error(f'{type(error).__name__}: {_text(error)}', event)
        if self._limit.should_log('failures of callbacks here', addr, _FAILURES):
            if may_show_traceback(error, event or None):
                self._log.error('Callback "%s" failed with error "%s"', callback, text, error=error)
            else:
                self._log.error('Callback "%s" failed with error "%s"%s', callback, text, frames_of(error, event))
        if event:
            try:
                self._send([0, text[:_LONGEST_NOTICE], int(event)], addr)
            except (OSError, ValueError, EchoError) as ex:
                self._log.warning('No notice sent to %s:%s: %s', *addr, ex)

    def no_callback(self, event: ExpMessage) -> None:
        """Log that an event has no callback."""
        self._log.debug('No callbacks to execute for event %s', event.name)

    def already_done(self, future: Any) -> None:
        """Log that a future that is registered for an event is already resolved."""
        self._log.warning('Future %s already resolved', future)


def _text(error: BaseException) -> str:
    """Return the text of an exception, even if its `str` fails."""
    try:
        return str(error)
    except Exception as ex:
        return f'(no text: {type(ex).__name__})'
