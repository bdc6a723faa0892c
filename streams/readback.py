"""Reading our own compacted topics, from an offset to their present end: snapshots at load, open alerts, progress."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import ConsumerStoppedError, KafkaError
from aiokafka.structs import TopicPartition

from streams.errors import UrbanBrainError
from streams.transport.closing import close_consumer
from streams.transport.errors import GRANT, NO_RIGHT
from streams.transport.metadata import pace_metadata

log = logging.getLogger(__name__)

T = TypeVar("T")
_RETRY_S = 1.0
_FETCH_WAIT_MS = 20
"""A fetch that waits at the end of a log holds up the next assignment: with the usual 500 ms, each load took seconds."""

Place = tuple[str, int]
"""(topic, partition)."""


class LogRecord(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None


class LogReader(Protocol):
    """Reads partitions to their ends, outside of any group. Kafka, or a fake in tests."""

    async def starts(self, places: Iterable[Place]) -> dict[Place, int]: ...

    async def read(self, wanted: Mapping[Place, int]) -> tuple[dict[Place, list[LogRecord]], dict[Place, int]]:
        """Records of each place from its offset (or the log's start) to the present end; and these ends."""
        ...


class KafkaReader:
    """The reader that is Kafka. Calls wait for each other."""

    def __init__(self, client: dict[str, Any]) -> None:
        """client: aiokafka's connection settings."""
        self._client = client
        self._consumer: AIOKafkaConsumer | None = None
        self._lock = asyncio.Lock()
        self._over = False

    async def stop(self) -> None:
        """For good: whoever still reads gets an error."""
        self._over = True
        await self._disconnect()

    async def _disconnect(self) -> None:
        if self._consumer is not None:
            await close_consumer(self._consumer)
            self._consumer = None

    async def starts(self, places: Iterable[Place]) -> dict[Place, int]:
        wanted = list(places)
        return await self._patiently(lambda: self._starts(wanted))

    async def read(self, wanted: Mapping[Place, int]) -> tuple[dict[Place, list[LogRecord]], dict[Place, int]]:
        return await self._patiently(lambda: self._read(wanted))

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Brokers go away and come back; whoever can not wait cancels."""
        while True:
            try:
                return await work()
            except KafkaError as error:
                if self._over:
                    raise
                if isinstance(error, NO_RIGHT):
                    raise UrbanBrainError(f"our own topics may not be read: {error!r}. {GRANT}") from error
                log.warning("reading our own topics failed, again in %.0f s: %r", _RETRY_S, error)
                await self._disconnect()
                await asyncio.sleep(_RETRY_S)

    async def _starts(self, places: Iterable[Place]) -> dict[Place, int]:
        async with self._lock:
            consumer = await self._started()
            found = await consumer.beginning_offsets([TopicPartition(*place) for place in places])
            return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def _read(self, wanted: Mapping[Place, int]) -> tuple[dict[Place, list[LogRecord]], dict[Place, int]]:
        async with self._lock:
            consumer = await self._started()
            tps = [TopicPartition(*place) for place in wanted]
            ends = await consumer.end_offsets(tps)
            starts = await consumer.beginning_offsets(tps)
            if consumer.assignment() != set(tps):
                consumer.assign(tps)
            consumer.resume(*tps)
            for tp in tps:
                consumer.seek(tp, max(starts[tp], min(wanted[tp.topic, tp.partition], ends[tp])))
            got: dict[Place, list[LogRecord]] = {place: [] for place in wanted}
            while left := [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
                for tp, records in (await consumer.getmany(*left, timeout_ms=500)).items():
                    got[tp.topic, tp.partition] += [LogRecord(r.offset, r.key, r.value) for r in records]
            consumer.pause(*tps)  # nothing is fetched in vain until the next call
            return got, {(tp.topic, tp.partition): max(end, starts[tp]) for tp, end in ends.items()}

    async def _started(self) -> AIOKafkaConsumer:
        if self._over:
            raise ConsumerStoppedError
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **self._client,
                enable_auto_commit=False,
                max_partition_fetch_bytes=4 << 20,
                fetch_max_wait_ms=_FETCH_WAIT_MS,
            )
            pace_metadata(consumer._client)
            try:
                await consumer.start()
            except BaseException:
                await close_consumer(consumer)
                raise
            self._consumer = consumer
        return self._consumer
