"""The ids of topics (KIP-516): a topic that is deleted and made anew has the same name, and another id.

aiokafka knows no metadata request that tells them (version 10), so it is described here, in aiokafka's own terms, and sent
over the connections that the consumer has.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from io import BytesIO
from typing import Any, ClassVar

from aiokafka.errors import KafkaError, NoBrokersAvailable, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from streams.transport.errors import GRANT, TransportError

_METADATA = 3
_VERSION = 10
_NO_ID = bytes(16)
_TEXT = CompactString("utf-8")


class Uuid(AbstractType):  # type: ignore[misc]
    """Sixteen bytes, as they are."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(len(_NO_ID))


class MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = _METADATA
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), ("tags", TaggedFields)),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", _TEXT),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class MetadataStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = _METADATA
    API_VERSION = _VERSION
    RESPONSE_TYPE = MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", Uuid), ("topic", _TEXT), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicIdsRequest(Request[MetadataStruct]):  # type: ignore[misc]
    API_KEY: ClassVar[int] = _METADATA

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics: list[tuple[bytes, str, dict[int, bytes]]] = [(_NO_ID, topic, {}) for topic in topics]

    def build(self, request_struct_class: type[MetadataStruct]) -> MetadataStruct:
        return request_struct_class(self._topics, False, False, False, {})


async def ask_topic_ids(client: Any, topics: Iterable[str]) -> dict[str, str]:
    """Topic -> its id, as Kafka's own tools print it; nothing of topics and brokers that have none (before Kafka 2.8).

    client: a started `AIOKafkaClient`. One request, to any broker. Raises KafkaError for what may be better in a moment, and
    TransportError for what will not.
    """
    node = client.get_random_node()
    if node is None:
        raise NoBrokersAvailable
    try:
        answer = await client.send(node, TopicIdsRequest(topics))
    except NotImplementedError:  # so aiokafka says that the broker knows no such version
        return {}
    found = {}
    for code, topic, topic_id, *_ in answer.topics:
        if code:
            _refuse(topic, for_code(code))
        if topic_id != _NO_ID:
            found[topic] = base64.urlsafe_b64encode(topic_id).rstrip(b"=").decode()
    return found


def _refuse(topic: str, error: type[KafkaError]) -> None:
    if error.retriable:
        raise error(topic)
    raise TransportError(f"topic {topic} can not be described: {error.__name__}. {GRANT}")
