"""Reading alerts as anybody may: a plain consumer without a group, nothing committed, nothing changed.

The log may hold an event more than once (after a crash): a reader keeps the first of each event id. In the compacted topic
of open alerts it keeps the highest sequence of each key; a record without value closes the key.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, TopicPartition

from streams.errors import UrbanBrainError
from streams.reach import RIGHTS, Access
from streams.settings import Deployment

_TIMEOUT_S = 10.0
_POLL_S = 0.5
_BATCH = 500


class Logged(NamedTuple):
    """A record of a topic; value None: a tombstone. time_ms: its Kafka timestamp."""

    partition: int
    offset: int
    time_ms: int
    key: bytes
    value: bytes | None
    sequence: int


class AlertLog:
    """One topic of alerts. A context manager."""

    def __init__(self, deployment: Deployment, topic: str) -> None:
        self._topic = topic
        self._access = Access(deployment)
        self._consumer = _consumer(deployment, self._access)

    def __enter__(self) -> AlertLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._consumer.close()

    def partitions(self) -> list[int]:
        """Raises UrbanBrainError if there is no broker or no topic."""
        topic = self._access.metadata(self._consumer, topic=self._topic).topics[self._topic]
        if topic.error is not None:
            raise _unreadable(self._topic, topic.error)
        return sorted(topic.partitions)

    def to_end(self) -> Iterator[Logged]:
        """All records from the beginning to what is the end now."""
        ends: dict[int, int] = {}
        for partition in self.partitions():
            low, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=_TIMEOUT_S)
            if low < high:
                ends[partition] = high
        self._assign(ends, OFFSET_BEGINNING)
        quiet_since = time.monotonic()
        while ends:
            for record in self._consume():
                quiet_since = time.monotonic()
                if record.partition in ends:
                    yield record
                    if record.offset + 1 >= ends[record.partition]:
                        del ends[record.partition]
            if time.monotonic() - quiet_since > _TIMEOUT_S:
                raise UrbanBrainError(f"topic {self._topic}: nothing was read for {_TIMEOUT_S:g} s before its end")

    def follow(self, *, from_beginning: bool) -> Iterator[Logged | None]:
        """Records as they come, for ever; None whenever there was none for half a second."""
        self._assign(self.partitions(), OFFSET_BEGINNING if from_beginning else OFFSET_END)
        while True:
            records = self._consume()
            yield from records
            if not records:
                yield None

    def _assign(self, partitions: Iterable[int], offset: int) -> None:
        self._consumer.assign([TopicPartition(self._topic, partition, offset) for partition in partitions])

    def _consume(self) -> list[Logged]:
        records = []
        for message in self._consumer.consume(_BATCH, timeout=_POLL_S):
            if message.error() is None:
                records.append(_logged(message))
            elif message.error().fatal() or message.error().code() in RIGHTS:
                raise _unreadable(self._topic, message.error())
        return records


def _unreadable(topic: str, error: Any) -> UrbanBrainError:
    remedy = "Grant this user Read on it." if error.code() in RIGHTS else "Run: urban-brain topics check."
    return UrbanBrainError(f"topic {topic} cannot be read: {error.str()}. {remedy}")


def _consumer(deployment: Deployment, access: Access) -> Consumer:
    """librdkafka wants the name of a group; we never join it, and commit nothing."""
    group = f"{deployment.app_id}-reader"
    return Consumer({**access.options, "group.id": group, "enable.auto.commit": False})


def _logged(message: Any) -> Logged:
    headers = dict(message.headers() or ())
    text = headers.get("sequence") or b"0"
    sequence = int(text) if text.isdigit() else 0
    return Logged(
        message.partition(), message.offset(), message.timestamp()[1], message.key() or b"", message.value(), sequence
    )


def distinct(records: Iterable[Logged | None]) -> Iterator[tuple[dict[str, Any], bytes] | None]:
    """(body, its bytes) of each event, the first of each event id. None stays None; what is no event is left out."""
    seen: set[str] = set()
    for record in records:
        if record is None:
            yield None
        elif (body := _body(record.value)) is not None and body["event_id"] not in seen:
            seen.add(body["event_id"])
            yield body, record.value or b""


def newest_open(records: Iterable[Logged]) -> list[tuple[dict[str, Any], bytes]]:
    """Open episodes, oldest first: of each key the highest sequence, unless a record without value came after it."""
    highest: dict[bytes, int] = {}
    standing: dict[bytes, bytes] = {}
    for record in records:
        if record.value is None:
            standing.pop(record.key, None)
        elif record.sequence > highest.get(record.key, 0):
            highest[record.key] = record.sequence
            standing[record.key] = record.value
    found = [(body, value) for value in standing.values() if (body := _body(value)) is not None]
    return sorted(found, key=lambda item: (str(item[0].get("opened_at")), item[0]["event_id"]))


def _body(value: bytes | None) -> dict[str, Any] | None:
    try:
        body = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) and isinstance(body.get("event_id"), str) else None


def newest_times(deployment: Deployment, sources: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int | None]:
    """Kafka timestamp of the newest record of each (topic, partition), ms; None: it has none."""
    access = Access(deployment)
    consumer = _consumer(deployment, access)
    found: dict[tuple[str, int], int | None] = dict.fromkeys(sources)
    try:
        access.metadata(consumer)
        last = []
        for topic, partition in found:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_TIMEOUT_S)
            if low < high:
                last.append(TopicPartition(topic, partition, high - 1))
        consumer.assign(last)
        wanted = {(tp.topic, tp.partition) for tp in last}
        deadline = time.monotonic() + _TIMEOUT_S
        while wanted and time.monotonic() < deadline:
            for message in consumer.consume(_BATCH, timeout=_POLL_S):
                if message.error() is not None and message.error().code() in RIGHTS:
                    raise _unreadable(message.topic(), message.error())
                if message.error() is None:
                    source = (message.topic(), message.partition())
                    found[source] = message.timestamp()[1]
                    wanted.discard(source)
    finally:
        consumer.close()
    return found
