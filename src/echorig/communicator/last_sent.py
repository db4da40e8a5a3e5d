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
from ._pipeline import MessagePipeline

__all__ = ['LastSent']


class LastSent(MutableMapping[Address, tuple[Any, 'asyncio.Future[Any]']]):
    """The newest unconfirmed message to each address, and a future for its echo.

    A pair that a program puts in counts as a message sent: until its future has a result, the frames from that address
    are compared with it.
    """

    def __init__(self, pipeline: MessagePipeline) -> None:
        self._pipeline = pipeline
        self._pairs: dict[Address, tuple[Any, asyncio.Future[Any]]] = pipeline.legacy_sends

    def __getitem__(self, addr: Address) -> tuple[Any, asyncio.Future[Any]]:
        pair = self._pairs.get(addr)
        if pair is not None and not pair[1].done():
            return pair
        send = self._pipeline.exchange.newest_send(addr)
        if send is None:
            if pair is not None:
                return pair
            raise KeyError(addr)
        futures = self._pipeline.exposed_futures
        if send not in futures:
            futures[send] = self._pipeline.loop.create_future()
        return send.frame, futures[send]

    def __setitem__(self, addr: Address, pair: tuple[Any, asyncio.Future[Any]]) -> None:
        self._pairs[addr] = pair

    def __delitem__(self, addr: Address) -> None:
        self._pairs.pop(addr, None)  # a message that was sent cannot be withdrawn

    def __iter__(self) -> Iterator[Address]:
        return iter({**self._pairs, **dict.fromkeys(self._pipeline.exchange.waiting_peers())})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def match(self, frame: bytes, addr: Address, min_truncated: int, max_size: int) -> Exception | int | None:
        """Compare a frame with the pair that a program put in for its address.

        Return None if there is no such pair or the frame is a message of another event, EQUAL or TRUNCATED if it is the
        echo, and the error otherwise.
        """
        pair = self._pairs.get(addr)
        if pair is None or is_success(pair[1]):
            return None
        expected, future = pair
        likeness = compare(expected, frame, min_truncated, max_size)
        if likeness != DIFFERENT:
            if not future.done():
                future.set_result(True)
            return likeness
        event = peek(frame)
        if event == 0 or (event > 0 and isinstance(expected, bytes) and event != peek(expected)):
            return None
        error = EchoMismatchError(f'Unexpected response: expected {redact_frame(expected)}, got {redact_frame(frame)}')
        if not future.done():
            future.set_exception(error)
            future.exception()  # it is logged, and asyncio shall not log it again
        return error

    def cancel_all(self) -> None:
        """Cancel the futures of the pairs and forget them."""
        for _, future in self._pairs.values():
            future.cancel('Close called on communicator')
        self._pairs.clear()
