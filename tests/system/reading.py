"""All records of a topic, as anybody may read them."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from confluent_kafka import Consumer, TopicPartition


class Logged(NamedTuple):
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


def read_topic(bootstrap: str, topic: str) -> list[Logged]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "tests", "enable.auto.commit": False, "log_level": 0})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        bounds = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10) for p in sorted(partitions)}
        ends = {p: high for p, (low, high) in bounds.items() if low < high}
        found: dict[int, list[Logged]] = {p: [] for p in ends}
        consumer.assign([TopicPartition(topic, p, bounds[p][0]) for p in ends])
        deadline = time.monotonic() + 30
        while open_ := [p for p, end in ends.items() if _position(consumer, topic, p) < end]:
            assert time.monotonic() < deadline, f"{topic}: partitions {open_} can not be read to {ends}"
            for message in consumer.consume(5000, timeout=0.1):
                assert message.error() is None, message.error()
                found[message.partition()].append(_logged(message))
        return [record for p in found for record in found[p] if record.offset < ends[p]]
    finally:
        consumer.close()


def _position(consumer: Consumer, topic: str, partition: int) -> int:
    return int(consumer.position([TopicPartition(topic, partition)])[0].offset)


def _logged(message: Any) -> Logged:
    headers = dict(message.headers() or ())
    return Logged(message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value(), headers)
