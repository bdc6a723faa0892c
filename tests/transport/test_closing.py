"""Clients are closed in bounded time, whatever they wait for."""

from __future__ import annotations

import asyncio
import time

import pytest

from streams.transport.closing import close_consumer, close_producer


class Client:
    closed = False

    async def close(self) -> None:
        self.closed = True


class Stuck:
    """A producer, its sender, or a consumer, that never comes to its end by itself."""

    def __init__(self) -> None:
        self.client = self._client = Client()
        self._sender = self
        self.calls: list[str] = []

    async def stop(self) -> None:
        self.calls.append("stop")
        await asyncio.sleep(3600)

    async def close(self) -> None:
        self.calls.append("close")
        await asyncio.sleep(3600)


async def test_a_producer_that_is_never_acknowledged_is_closed_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    producer, began = Stuck(), time.monotonic()
    await close_producer(producer, 0.1)
    assert time.monotonic() - began < 5
    assert producer.calls == ["stop", "close"]
    assert producer.client.closed
    assert "nothing that needs them was committed" in caplog.text


class Raising(Stuck):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    async def stop(self) -> None:
        raise self._error


@pytest.mark.parametrize("consumer", [Stuck(), Raising(asyncio.CancelledError()), Raising(RuntimeError("half closed"))])
async def test_a_consumer_that_waits_or_raises_is_closed_all_the_same(consumer: Stuck) -> None:
    await close_consumer(consumer, 0.1)
    assert consumer._client.closed
