"""A record as a feed gives it, which topic it goes to, and what could not be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from streams.errors import UrbanBrainError
from streams.feeds.times import time_ms
from streams.settings import Settings

TIME_FIELDS = ("ts", "received_at")
EXAMPLES = 10  # bad rows that are shown; all are counted


class FeedRecord(NamedTuple):
    """One record of an input topic. record_ms: its Kafka timestamp. value: a ping as JSON."""

    record_ms: int
    topic: str
    key: bytes
    value: bytes


class UnreadableRowError(ValueError):
    """A row that cannot become a ping at all. Its text is the reason, the same for all rows of a kind."""


class TableError(UrbanBrainError):
    """A table whose columns do not fit what was asked for: wrong use, not a bad row."""


@dataclass
class ReadReport:
    """Rows read and rows that could not be, with examples of where and why."""

    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def skip(self, file: str, line: int, reason: str) -> None:
        self.skipped[reason] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{file}:{line}: {reason}")

    @property
    def skipped_rows(self) -> int:
        return self.skipped.total()


class Router:
    """Which input topic a ping of an operator goes to: the operator's own feed, else a gateway's, else the first one.

    Pings of operators that nobody knows go to a gateway too: refusing them is the worker's work, and it counts them.
    """

    def __init__(self, settings: Settings) -> None:
        gateways = [feed.topic for feed in settings.feeds if feed.operator is None]
        self._own: Mapping[str, str] = {
            feed.operator: feed.topic for feed in reversed(settings.feeds) if feed.operator is not None
        }
        self._other = gateways[0] if gateways else settings.feeds[0].topic

    def topic(self, operator: str | None) -> str:
        return self._own.get(operator, self._other) if operator is not None else self._other


def shift_value(value: bytes, delta_ms: int) -> bytes:
    """The same ping, all its times moved. What is no time stays as it is."""
    if not delta_ms:
        return value
    try:
        ping = orjson.loads(value)
    except ValueError:
        return value
    for key in TIME_FIELDS:
        with suppress(ValueError):
            ping[key] = time_ms(ping.get(key)) + delta_ms
    return orjson.dumps(ping)
