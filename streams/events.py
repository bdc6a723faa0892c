"""Alert events as records: which topics, which partition, which headers (CloudEvents 1.0, binary mode)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from geo.city import Event
from streams.outbox import Record

DATA_SCHEMA = "urn:urban-brain:alert:1"
"""`$id` of docs/schemas/alert.schema.json; CloudEvents wants an absolute URI."""

LATE_FROM_MS = 30_000
"""An event that leaves later than this after its stream time says so in a header; only under the live clock."""


@dataclass(frozen=True, slots=True)
class AlertTopics:
    """Topic names come from the configuration alone."""

    alerts: str
    alerts_open: str
    alerts_shadow: str
    operator: Callable[[str], str]


def alert_records(event: Event, topics: AlertTopics, partition: int, late_ms: int | None) -> list[Record]:
    """The records that one event makes: the city's copy, the operator's own, and the newest state of the episode.

    An event of a shadow rule makes one, in a topic of its own.
    """
    key = event.episode_id.encode()
    headers = cloud_event_headers(event, late_ms)
    if event.shadow:
        return [Record(topics.alerts_shadow, partition, key, event.body, headers)]
    records = [Record(topics.alerts, partition, key, event.body, headers)]
    if event.operator_body is not None:
        records.append(Record(topics.operator(event.operator), partition, key, event.operator_body, headers))
    newest = None if event.state == "cleared" else event.body
    records.append(open_record(event, topics.alerts_open, partition, newest))
    return records


def open_record(event: Event, topic: str, partition: int, value: bytes | None) -> Record:
    """The episode's place in the compacted topic of open alerts; None closes it."""
    headers = () if value is None else (("sequence", str(event.sequence).encode()), *cloud_event_headers(event, None))
    return Record(topic, partition, event.episode_id.encode(), value, headers)


def cloud_event_headers(event: Event, late_ms: int | None) -> list[tuple[str, bytes]]:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": event.event_id,
        "ce_source": f"urban-brain/{event.city}",
        "ce_type": f"urban-brain.alert.{event.state}",
        "ce_subject": event.area,
        "ce_time": rfc3339(event.time_ms),
        "ce_dataschema": DATA_SCHEMA,
        "content-type": "application/json",
    }
    if late_ms is not None and late_ms >= LATE_FROM_MS:
        headers["late_ms"] = str(late_ms)
    return [(name, value.encode()) for name, value in headers.items()]


def rfc3339(time_ms: int) -> str:
    """UTC with milliseconds and Z."""
    seconds, milliseconds = divmod(time_ms, 1000)  # not a float: 0.001 s is not exact in binary
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"
