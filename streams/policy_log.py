"""The topic of policies from the outside: what was written to it, what that puts into force, and writing more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from confluent_kafka import KafkaException, Producer

from geo.decrees import Decrees
from geo.params import City
from streams.alert_log import AlertLog, Logged
from streams.control import DocumentRefused, PolicyDecoder
from streams.errors import ConfigurationError, OutputError, UrbanBrainError
from streams.feeds.records import FeedRecord
from streams.feeds.times import time_ms
from streams.policy_documents import Draft, read_policy
from streams.settings import Settings

_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Enacted:
    """A city at a moment: with every policy that is in force or will be, and the open refusals' problems by policy id."""

    city: City
    refused: dict[str, list[str]]


def read_log(settings: Settings) -> list[Logged]:
    """Every record of the topic. Raises UrbanBrainError without a broker or topic."""
    with AlertLog(settings.deployment, settings.topics.policies) as log:
        return list(log.to_end())


def newest_ms(log: Iterable[Logged]) -> int:
    """The topic's clock; -1: nothing was written yet."""
    return max((record.time_ms for record in log), default=-1)


def enacted(settings: Settings, log: Iterable[Logged], at_ms: int) -> list[Enacted]:
    """Every city as it is at a moment, by what was written until then; computed as the cities themselves do."""
    timeline = settings.timeline
    documents = list(_documents(settings, log, at_ms))
    found = []
    for city in timeline.at(at_ms // timeline.tick_ms).cities:
        decrees = Decrees(city.name, timeline.tick_ms)
        born = min(epoch.from_tick for epoch in timeline.epochs if city.name in [c.name for c in epoch.cities])
        for tick, told in documents:
            if tick >= born and city.name in told:
                body = told[city.name]
                decrees.take(read_policy(body), body, tick=tick, epoch=timeline.at(tick))
        decrees.forget(at_ms)
        found.append(Enacted(decrees.over(city), {key: list(one.problems) for key, one in decrees.refusals.items()}))
    return found


def _documents(settings: Settings, log: Iterable[Logged], at_ms: int) -> Iterator[tuple[int, dict[str, bytes]]]:
    """(tick, body by city) of each record that is a document, in order."""
    decoder, clock = PolicyDecoder(settings.timeline.cities), 0
    for record in log:
        clock = max(clock, record.time_ms)
        if record.value is None or clock > at_ms:
            continue
        try:
            yield clock // settings.timeline.tick_ms, dict(decoder.decode(record.value))
        except DocumentRefused:  # it is in quarantine
            continue


def check_drafts(settings: Settings, drafts: Iterable[Draft], *, city: str | None, at_ms: int) -> None:
    """What the cities would refuse is refused before it is written. Raises ConfigurationError."""
    timeline = settings.timeline
    tick = at_ms // timeline.tick_ms
    problems = []
    for draft in drafts:
        for name in timeline.cities if city is None else [city]:
            decrees = Decrees(name, timeline.tick_ms)
            decrees.take(read_policy(draft.value), draft.value, tick=tick, epoch=timeline.at(tick))
            problems += [f"{draft.policy_id}: {text}" for one in decrees.refusals.values() for text in one.problems]
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))


def write(settings: Settings, drafts: Sequence[Draft], *, at_ms: int | None) -> None:
    """Write documents and wait until they are acknowledged. at_ms: their record time; None: the broker's.

    Raises OutputError.
    """
    failures: list[str] = []
    config = {**settings.deployment.librdkafka(), "enable.idempotence": True, "acks": "all", "log_level": 0}
    producer = Producer({**config, "on_delivery": lambda error, _: failures.append(error.str()) if error is not None else None})
    try:
        for draft in drafts:
            stamp = {} if at_ms is None else {"timestamp": at_ms}
            producer.produce(settings.topics.policies, draft.value, draft.policy_id.encode(), partition=0, **stamp)
    except (KafkaException, BufferError) as error:
        raise OutputError(f"a policy was not written: {error}. None of them may be in force: see `policy list`") from None
    left = producer.flush(_WAIT_S)
    if left or failures:
        why = failures[0] if failures else f"not acknowledged within {_WAIT_S:g} s"
        raise OutputError(f"a policy was not written: {why}. See with `policy list` which are in force, and apply it again")


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
            remedy = 'Write a line like {"at": "2026-03-01T08:00:00Z", "document": {…}}, or take what `policy log` prints'
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
