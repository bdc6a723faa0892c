"""Closing aiokafka's clients in bounded time, also while brokers are away.

Stock they may take for ever: a producer first waits for the acknowledgement of everything that it was handed (our patience is
two minutes), a consumer for an answer from its group; and a consumer whose fetch has just failed raises CancelledError in the
middle of it. What is given up here was never committed: it is read, and sent, again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

log = logging.getLogger(__name__)

CLOSE_S = 1.0
"""With a broker that answers it is a matter of milliseconds."""
_REST_S = 0.2


async def close_producer(producer: Any, limit_s: float = CLOSE_S) -> None:
    """Flush and close an `AIOKafkaProducer`; after `limit_s` what is not acknowledged is given up."""
    if not await _ended(producer.stop(), limit_s):
        log.warning("records were not acknowledged within %.1f s: given up, nothing that needs them was committed", limit_s)
        if producer._sender is not None:
            await _ended(producer._sender.close(), _REST_S)
        await _ended(producer.client.close(), _REST_S)


async def close_consumer(consumer: Any, limit_s: float = CLOSE_S) -> None:
    """Close an `AIOKafkaConsumer`, leaving its group if the coordinator hears it within `limit_s`."""
    if not await _ended(consumer.stop(), limit_s):
        await _ended(consumer._client.close(), _REST_S)


async def _ended(work: Awaitable[Any], limit_s: float) -> bool:
    """Whether it came to its end. It is cancelled when its time is over; its errors are told, and end nothing."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=limit_s)
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_REST_S)
        return False
    if task.cancelled():
        return False
    if (error := task.exception()) is not None:
        log.warning("a client was not closed in order: %r", error)
    return error is None
