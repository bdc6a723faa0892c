"""What is handed to the outbox stands in the log, or somebody hears of it."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, TopicPartition

from streams.errors import OutputError
from streams.outbox import Outbox, Record
from tests.kafka_fixtures import Kafka

pytestmark = pytest.mark.kafka

Row = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


def read(kafka: Kafka, topic: str, count: int) -> list[Row]:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "reader", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, 1, 0)])
    rows: list[Row] = []
    while len(rows) < count:
        messages = consumer.consume(10_000, 5.0)
        assert messages, f"{len(rows)} of {count} came"
        rows += [(m.key(), m.value(), list(m.headers() or ())) for m in messages]
    consumer.close()
    return rows


async def test_many_records_of_one_partition_stand_in_order_between_those_before_and_behind(kafka: Kafka) -> None:
    topic = kafka.create_topic(partitions=2)

    def record(i: int) -> Record:
        headers = [("observed_at", b"%d" % i)] if i % 3 else []
        return Record(topic, 1, b"key %d" % i, None if i % 7 == 0 else b"x" * (i % 400), headers)

    records = [record(i) for i in range(30_000)]  # several batches of a megabyte
    outbox = Outbox({"bootstrap_servers": kafka.bootstrap})
    await outbox.start()
    try:
        await outbox.send(records[0])
        await outbox.send_all(records[1:-1])
        await outbox.send(records[-1])
        await outbox.send_all([])
        await outbox.flush()
    finally:
        await outbox.stop()
    assert read(kafka, topic, len(records)) == [(r.key, r.value, list(r.headers)) for r in records]


async def test_a_batch_that_the_broker_refuses_is_an_error_at_the_flush_and_ends_all_sending(kafka: Kafka) -> None:
    topic = kafka.create_topic(partitions=2)
    outbox = Outbox({"bootstrap_servers": kafka.bootstrap})
    await outbox.start()
    try:
        await outbox.send_all([Record(topic, 1, b"k", b"x" * 2_000_000)])
        with pytest.raises(OutputError, match=f"a record for {topic}/1 could not be written"):
            await outbox.flush()
        with pytest.raises(OutputError, match="Nothing more is sent"):
            await outbox.send_all([Record(topic, 1, b"k", b"x")])
    finally:
        await outbox.stop()
