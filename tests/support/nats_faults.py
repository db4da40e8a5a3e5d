"""`FaultyWay`: a program of NATS between a rig and its clients that loses, doubles, delays and reorders messages."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import nats

__all__ = ['FaultyWay']


class FaultyWay:
    """Takes the messages of one subject, and publishes them at another one; answers go back likewise.

    Parameters
    ----------
    broker : str
        The URI of the broker.
    front, target : str
        The subject for clients, and that of the rig.
    seed : int
        The seed of the random numbers.
    loss, copies, late : float
        The chances of a message to be lost, doubled, and delayed by up to `longest` seconds.
    """

    def __init__(
        self, broker: str, front: str, target: str, seed: int, loss: float, copies: float, late: float, longest: float
    ) -> None:
        self._broker, self._front, self._target = broker, front, target
        self._random, self._loss, self._copies, self._late, self._longest = Random(seed), loss, copies, late, longest
        self._ways: dict[str, str] = {}  # by the private subject of a client: the one at which the rig answers
        self._clients: dict[str, str] = {}
        self._client: Any = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.n_lost = self.n_doubled = self.n_late = 0

    async def __aenter__(self) -> FaultyWay:
        self._client = await nats.connect(self._broker)
        self._inbox = self._client.new_inbox()
        await self._client.subscribe(self._front, cb=self._there)
        await self._client.subscribe(f'{self._inbox}.>', cb=self._back)
        await self._client.flush()
        return self

    async def __aexit__(self, *error: object) -> None:
        for timer in self._timers:
            timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    async def _there(self, message: Any) -> None:
        if not message.data or not message.reply:
            return
        way = self._ways.get(message.reply)
        if way is None:
            way = self._ways[message.reply] = f'{self._inbox}.w{len(self._ways)}'
            self._clients[way] = message.reply
        self._forward(self._target, message.data, way)

    async def _back(self, message: Any) -> None:
        if not message.headers and message.subject in self._clients:
            self._forward(self._clients[message.subject], message.data, message.reply)

    def _forward(self, subject: str, data: bytes, reply: str) -> None:
        if self._random.random() < self._loss:
            self.n_lost += 1
            return
        n = 1
        if self._random.random() < self._copies:
            self.n_doubled += 1
            n = 2
        for i in range(n):
            delay = 0.0
            if i or self._random.random() < self._late:
                self.n_late += 1
                delay = self._longest * self._random.random() ** 3
            timer = asyncio.get_running_loop().call_later(delay, self._publish, subject, data, reply)
            self._timers.add(timer)

    def _publish(self, subject: str, data: bytes, reply: str) -> None:
        task = asyncio.ensure_future(self._client.publish(subject, data, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
