"""A real Kafka for the tests that need one: started once per session, skipped with a reason where it can not be."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.kafka_local import KafkaCluster, why_unavailable

REQUIRE = "URBAN_BRAIN_REQUIRE_KAFKA"


class Kafka:
    """The running cluster, and what tests do with it from outside."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self.cluster = cluster
        self.bootstrap = cluster.bootstrap
        self.admin = AdminClient({"bootstrap.servers": cluster.bootstrap})

    def create_topic(
        self,
        name: str = "topic",
        *,
        partitions: int = 1,
        timestamp_type: str = "LogAppendTime",
        cleanup: str = "delete",
        **config: str,
    ) -> str:
        """A new topic, its name made unique; further settings with `_` for `.` (segment_bytes="1048576")."""
        unique = f"{name}-{uuid.uuid4().hex[:8]}"
        settings = {"message.timestamp.type": timestamp_type, "cleanup.policy": cleanup}
        settings |= {key.replace("_", "."): value for key, value in config.items()}
        made = self.admin.create_topics([NewTopic(unique, partitions, 1, config=settings)])
        made[unique].result(30)
        return unique

    def producer(self, **config: object) -> Producer:
        """Idempotent, so that what a test sends is in the log once and in order."""
        defaults: dict[str, object] = {
            "bootstrap.servers": self.bootstrap,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 10,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 2_000_000,
        }
        return Producer(defaults | {key.replace("_", "."): value for key, value in config.items()})


def start_kafka(directory: Path) -> Iterator[Kafka]:
    reason = why_unavailable()
    if reason is not None:
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"{REQUIRE}=1, but {reason}")
        pytest.skip(reason)
    with KafkaCluster(directory, short_lived=True) as cluster:
        yield Kafka(cluster)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    yield from start_kafka(tmp_path_factory.mktemp("kafka"))
