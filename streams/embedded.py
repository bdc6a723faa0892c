"""A Kafka broker inside this process: librdkafka's mock cluster, which comes in the confluent-kafka wheel.

For the demo and for fast tests: no Java, no Docker. It keeps 5 MiB a partition and nothing at all when it ends, cannot
make topics by request and compacts nothing. Never a base for a claim about Kafka.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from confluent_kafka import cimpl

from streams.errors import UrbanBrainError
from streams.settings import Settings
from streams.topics import wanted

_PRODUCER = 0
_ERROR_BYTES = 512


class EmbeddedBroker:
    """A context manager. topics: partitions by name, all of them from the beginning."""

    def __init__(self, topics: Mapping[str, int]) -> None:
        self._topics = dict(topics)
        self._library = _library()
        self._handle: int | None = None
        self._cluster: int | None = None
        self.bootstrap = ""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """With all topics of a deployment."""
        return cls({topic.name: topic.partitions for topic in wanted(settings)})

    def __enter__(self) -> Self:
        call = self._library
        message = ctypes.create_string_buffer(_ERROR_BYTES)
        configuration = call.rd_kafka_conf_new()
        call.rd_kafka_conf_set(configuration, b"log_level", b"0", message, _ERROR_BYTES)
        self._handle = call.rd_kafka_new(_PRODUCER, configuration, message, _ERROR_BYTES)
        if not self._handle:
            raise UrbanBrainError(f"the embedded broker could not be started: {message.value.decode()}")
        self._cluster = call.rd_kafka_mock_cluster_new(self._handle, 1)
        if not self._cluster:
            raise UrbanBrainError("the embedded broker could not be started: no port of the loopback interface is free")
        self.bootstrap = call.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        for name, partitions in self._topics.items():
            error = call.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
            if error:
                raise UrbanBrainError(f"the embedded broker refused the topic {name} (librdkafka error {error})")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del kind, error, trace
        if self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        if self._handle:
            self._library.rd_kafka_destroy(self._handle)
        self._cluster = self._handle = None


def _library() -> ctypes.CDLL:
    """librdkafka, found through the extension module that is linked with it, whatever the wheel calls its file."""
    library = ctypes.CDLL(cimpl.__file__)
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[object, list[object]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (number, [pointer, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library
