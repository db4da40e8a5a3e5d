"""`LastSent`: the mapping behind ``EchoProtocol._last_sent``, which existing programs read and write."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from typing import Any

from ..errors import EchoMismatchError
from ..events.callbacks import is_success
from ..security.redaction import redact_frame
from ..uri import Address
from ..wire._codec import DIFFERENT, compare, peek
from .sender import Delivery

__all__ = ['LastSent']


class LastSent(MutableMapping[Address, tuple[Any, 'asyncio.Future[Any]']]):
    """The newest unconfirmed message to each address, and a future for its echo.

    A pair put in by hand counts as a message sent: for as long as its future has no result, what comes from
    that address is compared with it.

    Parameters
    ----------
    delivery : Delivery
        Where the other sends are.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self.by_hand: dict[Address, tuple[Any, asyncio.Future[Any]]] = delivery.by_hand

    def __getitem__(self, addr: Address) -> tuple[Any, asyncio.Future[Any]]:
        pair = self.by_hand.get(addr)
        if pair is not None and not pair[1].done():
            return pair
        send = self._delivery.exchange.newest(addr)
        if send is None:
            if pair is not None:
                return pair
            raise KeyError(addr)
        return send.frame, self._delivery.expose(send)

    def __setitem__(self, addr: Address, pair: tuple[Any, asyncio.Future[Any]]) -> None:
        self.by_hand[addr] = pair

    def __delitem__(self, addr: Address) -> None:
        self.by_hand.pop(addr, None)  # what is on its way cannot be taken back

    def __iter__(self) -> Iterator[Address]:
        return iter({**self.by_hand, **dict.fromkeys(self._delivery.exchange.waiting_for())})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def take(self, frame: bytes, addr: Address, min_truncated: int, max_size: int) -> Exception | bool | None:
        """Compare a frame with the pair put in by hand for its address.

        Returns
        -------
        Exception, bool or None
            None if there is no such pair or the frame is a message of another event; True if the frame is
            the echo; the error if it is not.
        """
        pair = self.by_hand.get(addr)
        if pair is None or is_success(pair[1]):
            return None
        expected, future = pair
        if compare(expected, frame, min_truncated, max_size) != DIFFERENT:
            if not future.done():
                future.set_result(True)
            return True
        event = peek(frame)
        if event == 0 or (event > 0 and isinstance(expected, bytes) and event != peek(expected)):
            return None
        error = EchoMismatchError(f'Unexpected response: expected {redact_frame(expected)}, got {redact_frame(frame)}')
        if not future.done():
            future.set_exception(error)
            future.exception()  # it is logged: a future that nobody asks is no second error
        return error

    def cancel_all(self) -> None:
        """Cancel the futures put in by hand and forget the pairs."""
        for _, future in self.by_hand.values():
            future.cancel('Close called on communicator')
        self.by_hand.clear()
