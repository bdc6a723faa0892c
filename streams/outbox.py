"""Everything that this worker writes to Kafka goes through one idempotent producer whose every result is checked.

aiokafka's `flush()` hides failures, and a leaderless partition lets one batch fail and the next succeed, idempotent or not.
So each send's future is watched, and after the first failure nothing more is sent: the log may then lack a record in the
middle, which a re-run from the last snapshot puts right, and readers wait for (`geo/merge.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.errors import OutputError
from streams.transport.closing import close_producer
from streams.transport.errors import GRANT, NO_RIGHT
from streams.transport.metadata import pace_metadata

_PATIENCE_MS = 120_000
"""A broker may be away for this long before a send counts as failed and the worker ends."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record to write. timestamp_ms None: now."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int | None = None


class Sink(Protocol):
    """Where the stages write. The outbox, or a list in tests."""

    async def send(self, record: Record) -> asyncio.Future[Any]:
        """The future gives aiokafka's RecordMetadata (or something with an `offset`) once the record is written."""
        ...

    async def send_all(self, records: Sequence[Record]) -> None:
        """Many records of one partition, in order."""
        ...

    async def flush(self) -> None: ...


class Outbox:
    """The sink that is Kafka. Order is kept within a partition."""

    def __init__(self, client: dict[str, Any]) -> None:
        """client: aiokafka's connection settings (bootstrap_servers, security…)."""
        self._client = client
        self._producer: AIOKafkaProducer | None = None
        self._pending: set[asyncio.Future[Any]] = set()
        self._failure: BaseException | None = None
        self._where = ""

    async def start(self) -> None:
        self._producer = AIOKafkaProducer(
            **self._client,
            acks="all",
            enable_idempotence=True,
            max_request_size=4 << 20,
            max_batch_size=1 << 20,
            request_timeout_ms=_PATIENCE_MS,
        )
        pace_metadata(self._producer.client)
        try:
            await self._producer.start()
        except NO_RIGHT as error:  # a producer that may write to no topic at all gets no id
            raise OutputError(f"this worker may not write: {error!r}. {GRANT}") from error

    async def stop(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await close_producer(producer)

    async def send(self, record: Record) -> asyncio.Future[Any]:
        """Hand a record to the producer; its result is asked for in `flush`. Raises OutputError after any failure."""
        return await self._watched(
            record,
            self._started().send(
                record.topic,
                value=record.value,
                key=record.key,
                partition=record.partition,
                headers=list(record.headers),
                timestamp_ms=record.timestamp_ms,
            ),
        )

    async def send_all(self, records: Sequence[Record]) -> None:
        """Hand many records of one partition to the producer in whole batches: one by one each would cost ten times as much, most
        of it the producer's book-keeping. As with `send`, results are asked for in `flush`."""
        batch = None
        for record in records:
            batch = batch or self._started().create_batch()
            if not self._append(batch, record):  # full
                await self._watched(record, self._started().send_batch(batch, record.topic, partition=record.partition))
                batch = self._started().create_batch()
                self._append(batch, record)  # the first one is always taken; whether it is too large is for the broker to say
        if batch is not None:
            last = records[-1]
            await self._watched(last, self._started().send_batch(batch, last.topic, partition=last.partition))

    @staticmethod
    def _append(batch: Any, record: Record) -> bool:
        headers = list(record.headers)
        taken = batch.append(timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=headers)
        return taken is not None

    def _started(self) -> AIOKafkaProducer:
        self._check()
        if self._producer is None:
            raise OutputError("the outbox is not started")
        return self._producer

    async def _watched(self, record: Record, sending: Awaitable[asyncio.Future[Any]]) -> asyncio.Future[Any]:
        """record: the one to name if it fails."""
        try:
            future = await sending
        except KafkaError as error:
            self._fail(error, record)
            self._check()
            raise
        self._pending.add(future)
        future.add_done_callback(lambda done: self._done(done, record))
        return future

    def _done(self, future: asyncio.Future[Any], record: Record) -> None:
        self._pending.discard(future)
        if future.cancelled():
            self._fail(OutputError("the send was given up"), record)
        elif (error := future.exception()) is not None:
            self._fail(error, record)

    def _fail(self, error: BaseException, record: Record) -> None:
        if self._failure is None:
            self._failure = error
            self._where = f"{record.topic}/{record.partition}"

    def _check(self) -> None:
        if self._failure is not None:
            remedy = f". {GRANT}" if isinstance(self._failure, NO_RIGHT) else ""
            raise OutputError(
                f"a record for {self._where} could not be written: {self._failure!r}. Nothing more is sent; "
                f"the worker ends and goes on from its last snapshot when it is started again{remedy}"
            ) from self._failure

    async def flush(self) -> None:
        """Wait until everything handed over before is acknowledged by all in-sync replicas. Raises OutputError if not."""
        self._check()
        pending = set(self._pending)  # those of now: whatever others send meanwhile is not waited for
        if pending:
            await asyncio.wait(pending)
            await asyncio.sleep(0)  # done callbacks run on the next turn of the loop
        self._check()
