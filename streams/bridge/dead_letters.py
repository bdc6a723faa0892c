"""Where events go that could not be delivered: a topic or a file. When `put` returns, the event is kept for good."""

from __future__ import annotations

import asyncio
import base64
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import orjson
from aiokafka import AIOKafkaProducer

from streams.bridge.event import Event

_OWN = "dead_"


@dataclass(frozen=True, slots=True)
class Death:
    """Why an event is given up."""

    reason: str
    attempts: int
    at_s: float  # seconds since the epoch


class DeadLetters(Protocol):
    async def put(self, event: Event, death: Death) -> None: ...


class DeadLetterFile:
    """A JSON object a line."""

    def __init__(self, path: Path) -> None:
        """Raises OSError at once if it can not be written."""
        self._path = path
        self._lock = asyncio.Lock()
        with path.open("ab"):
            pass

    async def put(self, event: Event, death: Death) -> None:
        async with self._lock:
            await asyncio.to_thread(self._append, orjson.dumps(self._letter(event, death)) + b"\n")

    def _append(self, line: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _letter(self, event: Event, death: Death) -> dict[str, Any]:
        return {
            "event_id": event.id,
            "reason": death.reason,
            "attempts": death.attempts,
            "at": datetime.fromtimestamp(death.at_s, UTC).isoformat(timespec="milliseconds"),
            "origin": {"topic": event.place.topic, "partition": event.place.partition, "offset": event.offset},
            "key": None if event.key is None else event.key.decode("utf-8", "replace"),
            "headers": {name: value.decode("utf-8", "replace") for name, value in event.headers},
            **_body(event.value),
        }


def _body(value: bytes) -> dict[str, str]:
    """As it was, so that it can be sent again: as text if it is text."""
    try:
        return {"body": value.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(value).decode()}


class DeadLetterTopic:
    """The record as it was, with headers that say why. A bridge that reads this topic delivers them again."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic

    async def put(self, event: Event, death: Death) -> None:
        own = {
            "reason": death.reason,
            "attempts": str(death.attempts),
            "topic": event.place.topic,
            "partition": str(event.place.partition),
            "offset": str(event.offset),
        }
        headers = [(name, value) for name, value in event.headers if not name.startswith(_OWN)]
        headers += [(f"{_OWN}{name}", value.encode()) for name, value in own.items()]
        await self._producer.send_and_wait(self._topic, event.value, event.key, headers=headers)
