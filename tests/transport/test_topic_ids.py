"""The request that aiokafka lacks, against both brokers, and what comes of its errors."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError
from confluent_kafka import TopicCollection
from confluent_kafka.admin import NewTopic

from streams.embedded import EmbeddedBroker
from streams.transport import TransportError
from streams.transport.topic_ids import ask_topic_ids
from tests.kafka_fixtures import Kafka


async def ask(bootstrap: str, *topics: str) -> dict[str, str]:
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        async with asyncio.timeout(10):
            while True:
                with suppress(UnknownTopicOrPartitionError):  # the broker has yet to hear of a new one
                    return await ask_topic_ids(client, topics)
                await asyncio.sleep(0.05)
    finally:
        await client.close()


@pytest.mark.kafka
async def test_the_ids_are_those_that_other_clients_are_told_and_a_topic_made_anew_has_another(kafka: Kafka) -> None:
    one, other = kafka.create_topic(partitions=3), kafka.create_topic()
    found = await ask(kafka.bootstrap, one, other)
    described = kafka.admin.describe_topics(TopicCollection([one, other]))
    ids = {name: str(future.result(10).topic_id) for name, future in described.items()}
    assert found == {name: text.replace("/", "_").replace("+", "-") for name, text in ids.items()}, "base64, of URLs or not"
    kafka.admin.delete_topics([one])[one].result(10)
    kafka.admin.create_topics([NewTopic(one, 3, 1)])[one].result(10)
    again = await ask(kafka.bootstrap, one, other)
    assert again[other] == found[other]
    assert again[one] != found[one]


async def test_the_embedded_broker_tells_ids_too() -> None:
    with EmbeddedBroker({"one": 1, "other": 2}) as broker:
        found = await ask(broker.bootstrap, "one", "other")
    assert len({*found.values()}) == 2


class Client:
    """A client whose broker gives one answer, or raises."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def get_random_node(self) -> int:
        return 1

    async def send(self, node: int, request: Any) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return SimpleNamespace(topics=[self._answer])


async def test_a_broker_of_before_there_were_ids_tells_none() -> None:
    assert await ask_topic_ids(Client(NotImplementedError("v0")), ["pings"]) == {}
    assert await ask_topic_ids(Client((0, "pings", bytes(16), False, [], 0, {})), ["pings"]) == {}


async def test_an_error_that_may_pass_and_one_that_will_not_are_told_apart() -> None:
    with pytest.raises(UnknownTopicOrPartitionError):
        await ask_topic_ids(Client((UnknownTopicOrPartitionError.errno, "pings", bytes(16))), ["pings"])
    with pytest.raises(TransportError, match="topic pings can not be described: TopicAuthorizationFailedError"):
        await ask_topic_ids(Client((TopicAuthorizationFailedError.errno, "pings", bytes(16))), ["pings"])
    no_brokers: Any = SimpleNamespace(get_random_node=lambda: None)
    with pytest.raises(KafkaError):
        await ask_topic_ids(no_brokers, ["pings"])
