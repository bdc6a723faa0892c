"""Records into Kafka at a given speed of stream time, with clock records, and every delivery checked.

A clock record has no value: it says how far time is. One goes into every partition of every source once a minute of stream
time, and one at the end of the tick of the last record: that tick is closed by it, nothing later (docs/semantics.md 8).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException, Producer

from streams.errors import OutputError
from streams.feeds.records import FeedRecord
from streams.reach import RIGHTS
from streams.settings import Settings

CLOCK_EVERY_MS = 60_000
_LINGER_MS = 20
_PROGRESS_EVERY_S = 0.2
_FULL_WAIT_S = 0.05
_INTERRUPT_S = 5.0
_DELIVERY_MS = 120_000  # must exceed an outage that a replay should survive
_UNKNOWN_TOPIC_MS = 10_000  # what was just made may not be known to every broker yet


@dataclass
class Produced:
    """What a run has written. stream_ms: record time of the newest record, seconds: of wall time."""

    records: int = 0
    clock_records: int = 0
    first_ms: int = 0
    stream_ms: int = 0
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        return self.records / self.seconds if self.seconds else 0.0

    @property
    def speed(self) -> float:
        """Stream time over wall time."""
        return (self.stream_ms - self.first_ms) / 1000 / self.seconds if self.seconds else 0.0


def produce(
    settings: Settings,
    records: Iterable[FeedRecord],
    *,
    speed: float | None,
    progress: Callable[[Produced], None] = lambda _: None,
) -> Produced:
    """Write records sorted by record time. speed: stream seconds a second; None: as fast as it goes.

    Memory is bounded by the producer's queue. Raises OutputError if any record was not acknowledged. On
    KeyboardInterrupt what was handed over is still written, without a clock record at the end.
    """
    writer = _Writer(settings)
    try:
        for record in with_clocks(records, settings.timeline.tick_ms):
            writer.wait_for(record.record_ms, speed)
            writer.write(record)
            writer.tell(progress)
    except KeyboardInterrupt:
        writer.finish(_INTERRUPT_S)
        raise
    writer.finish(_DELIVERY_MS / 1000)
    progress(writer.done)
    return writer.done


CLOCK_TOPIC = ""
"""Topic of a clock record in `with_clocks`: it goes to all sources."""


def with_clocks(records: Iterable[FeedRecord], tick_ms: int) -> Iterator[FeedRecord]:
    """The same records, with a clock record (topic CLOCK_TOPIC, empty value) at each full minute and one past the end."""
    next_ms, last_ms = -1, -1
    for record in records:
        last_ms = record.record_ms
        if next_ms < 0:
            next_ms = (last_ms // CLOCK_EVERY_MS + 1) * CLOCK_EVERY_MS
        while next_ms <= last_ms:
            yield FeedRecord(next_ms, CLOCK_TOPIC, b"", b"")
            next_ms += CLOCK_EVERY_MS
        yield record
    if last_ms >= 0:
        yield FeedRecord((last_ms // tick_ms + 1) * tick_ms, CLOCK_TOPIC, b"", b"")


class _Writer:
    """One producer and what it has done."""

    def __init__(self, settings: Settings) -> None:
        self.done = Produced()
        self._sources = settings.sources
        self._failure = ""
        self._producer = Producer(
            {
                **settings.deployment.librdkafka(),
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": _LINGER_MS,
                "partitioner": "murmur2_random",  # as Java's producers do: a bike stays in its partition, whoever writes
                "queue.buffering.max.messages": 200_000,
                "queue.buffering.max.kbytes": 64 << 10,
                "message.timeout.ms": _DELIVERY_MS,
                "topic.metadata.propagation.max.ms": _UNKNOWN_TOPIC_MS,
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
                "log_level": 0,
            }
        )
        self._started = time.monotonic()
        self._told = self._started

    def wait_for(self, record_ms: int, speed: float | None) -> None:
        """Until the wall has come as far as the stream, at the speed that was asked for."""
        if not self.done.first_ms:
            self.done.first_ms = record_ms
            self._started = time.monotonic()  # reading and sorting came before, and is not the brokers' time
        if speed is None:
            return
        due = self._started + (record_ms - self.done.first_ms) / 1000 / speed
        while (wait := due - time.monotonic()) > 0:
            self._poll(min(wait, 1.0))
            self._check()

    def write(self, record: FeedRecord) -> None:
        if record.topic == CLOCK_TOPIC:
            for topic, partition in self._sources:
                self._send(topic, partition=partition, timestamp=record.record_ms)
            self.done.clock_records += len(self._sources)
        else:
            self._send(record.topic, value=record.value, key=record.key, timestamp=record.record_ms)
            self.done.records += 1
        self.done.stream_ms = record.record_ms

    def _send(self, topic: str, **fields: Any) -> None:
        """Waits while the queue is full: that bounds memory."""
        while True:
            try:
                self._producer.produce(topic, **fields)
                return
            except BufferError:
                self._poll(_FULL_WAIT_S)
                self._check()
            except KafkaException as error:
                raise OutputError(f"a record for {topic} was refused: {error.args[0].str()}") from None

    def tell(self, progress: Callable[[Produced], None]) -> None:
        """Serve the producer's reports and the progress bar now and then, not for every record."""
        if self.done.records & 0x3F:
            return
        self._poll(0)
        self._check()
        now = time.monotonic()
        if now - self._told >= _PROGRESS_EVERY_S:
            self._told = now
            self.done.seconds = now - self._started
            progress(self.done)

    def _poll(self, wait_s: float) -> None:
        """Serve what has happened meanwhile; an error that ends an idempotent producer is raised by librdkafka right here."""
        try:
            self._producer.poll(wait_s)
        except KafkaException as error:
            self._fail("nothing can be written", error.args[0])

    def finish(self, limit_s: float) -> None:
        """Everything out and acknowledged."""
        try:
            left = self._producer.flush(limit_s)
        except KafkaException as error:
            left = 0
            self._fail("nothing can be written", error.args[0])
        self.done.seconds = time.monotonic() - self._started
        if left and not self._failure:
            self._failure = f"{left} records were not acknowledged within {limit_s:g} s"
        self._check()

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._fail(f"a record for {message.topic()} was not written", error)

    def _fail(self, what: str, error: Any) -> None:
        """The first failure is the one that is told."""
        if not self._failure:
            remedy = " (grant this user Write on the feeds)" if error.code() in RIGHTS else ""
            self._failure = f"{what}: {error.str()}{remedy}"

    def _check(self) -> None:
        if self._failure:
            raise OutputError(f"{self._failure}. Nothing more is sent; what was written stays in the log")
