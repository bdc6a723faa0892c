"""Control topics from the outside: what was written to one, writing more, and a topic as a file of lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from confluent_kafka import KafkaException, Producer

from streams.alert_log import AlertLog, Logged
from streams.errors import OutputError, UrbanBrainError
from streams.feeds.records import FeedRecord
from streams.feeds.times import time_ms
from streams.settings import Settings

_WAIT_S = 30.0


def read_topic(settings: Settings, topic: str) -> list[Logged]:
    """Every record of a control topic. Raises UrbanBrainError without a broker or topic."""
    with AlertLog(settings.deployment, topic) as log:
        return list(log.to_end())


def newest_ms(log: Iterable[Logged]) -> int:
    """The topic's clock; -1: nothing was written yet."""
    return max((record.time_ms for record in log), default=-1)


def produce(settings: Settings, topic: str, documents: Iterable[tuple[str, bytes]], *, at_ms: int | None, remedy: str) -> None:
    """Write documents, (key, value) each, and wait until they are acknowledged. at_ms: their record time; None: the broker's.

    Raises OutputError, which ends with the remedy.
    """
    failures: list[str] = []
    config = {**settings.deployment.librdkafka(), "enable.idempotence": True, "acks": "all", "log_level": 0}
    producer = Producer({**config, "on_delivery": lambda error, _: failures.append(error.str()) if error is not None else None})
    try:
        for key, value in documents:
            stamp = {} if at_ms is None else {"timestamp": at_ms}
            producer.produce(topic, value, key.encode(), partition=0, **stamp)
    except (KafkaException, BufferError) as error:
        raise OutputError(f"topic {topic} was not written: {error}. {remedy}") from None
    left = producer.flush(_WAIT_S)
    if left or failures:
        why = failures[0] if failures else f"not acknowledged within {_WAIT_S:g} s"
        raise OutputError(f"topic {topic} was not written: {why}. {remedy}")


# --- as a file ----------------------------------------------------------------------------------------------------------


class Line(msgspec.Struct):
    """A line of a recorded topic: a document, and its record time (ms, or RFC 3339)."""

    at: int | str
    document: msgspec.Raw


def recorded(path: Path, topic: str) -> list[FeedRecord]:
    """The records of a file of lines, in order of time. Raises UrbanBrainError naming the line that is none."""
    records = []
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        if not text.strip():
            continue
        try:
            line = msgspec.json.decode(text, type=Line)
            records.append(FeedRecord(time_ms(line.at), topic, b"", bytes(line.document)))
        except (msgspec.DecodeError, ValueError) as error:
            remedy = 'Write a line like {"at": "2026-03-01T08:00:00Z", "document": {…}}, or take what `policy log` or `respond --log` prints'
            raise UrbanBrainError(f"{path}:{number}: is no recorded document ({error}). {remedy}") from None
    return sorted(records, key=lambda record: record.record_ms)


def as_lines(log: Iterable[Logged]) -> Iterator[bytes]:
    """The documents of a topic as lines of such a file. What is no JSON has no place in one: it decided nothing."""
    clock = 0
    for record in log:
        clock = max(clock, record.time_ms)
        if record.value is None:
            continue
        try:
            msgspec.json.decode(record.value)
        except msgspec.DecodeError:
            continue
        yield msgspec.json.encode(Line(max(clock, 1), msgspec.Raw(msgspec.json.format(record.value, indent=-1))))
