"""Operators answer while workers are killed: the alerts are those of the backtest, byte for byte."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import orjson
import pytest

from agents.backtest import Backtest, with_documents
from geo.params import Timeline
from streams.feeds.records import FeedRecord
from streams.settings import ControlSettings
from tests.laws.episodes import invalid
from tests.simulation.city import FEEDS, PARTITIONS, TICK_MS, hash_of, pings, timeline
from tests.simulation.test_policies import bodies
from tests.simulation.world import ALERTS, FACTS, OPEN, QUARANTINE, TP, Kafka, SimWorker, Stored, killed_again_and_again

CONTROLS = [ControlSettings(f"responses.{name}", "response", name) for name in ("alpha", "beta")]
SOURCES = [*((FEEDS[0].topic, p) for p in range(PARTITIONS)), *((control.topic, 0) for control in CONTROLS)]
TPS = [TP(*source) for source in SOURCES] + [TP(FACTS, 0)]


def hurried() -> Timeline:
    """The city of these tests, with deadlines of a minute and of three."""
    [one] = timeline().epochs
    cities = tuple(
        replace(city, rules=tuple(replace(r, respond_within_ms=60_000, resolve_within_ms=180_000) for r in city.rules))
        for city in one.cities
    )
    return replace(timeline(replace(one, cities=cities)), responses=True)


@cache
def answers(seed: int) -> list[FeedRecord]:
    """To every second episode, at any time of it or after it; some are others', some are no answers."""
    r = random.Random(f"answers of {seed}")
    found = []
    for event in Backtest(hurried(), FEEDS, controls=CONTROLS).run(pings(seed)):
        if event.state != "raised" or not event.operator or r.random() < 0.4:
            continue
        for _ in range(r.choice((1, 1, 2, 3))):
            status = r.choice(("acknowledged", "dispatched", "done", "rejected"))
            said = {"schema": "urban-brain/response/1", "city": "rivertown", "episode_id": event.episode_id, "status": status}
            if status == "rejected":
                said["reason"] = "No."
            topic = r.choice(CONTROLS).topic if r.random() < 0.2 else f"responses.{event.operator}"
            value = b"junk" if r.random() < 0.1 else orjson.dumps(said)
            found.append(FeedRecord(event.time_ms + r.randint(0, 120_000), topic, b"", value))
    last = pings(seed)[-1].record_ms
    return sorted((one for one in found if one.record_ms <= last), key=lambda one: one.record_ms)


@cache
def expected(seed: int) -> list[bytes]:
    events = list(Backtest(hurried(), FEEDS, controls=CONTROLS).run(with_documents(pings(seed), answers(seed))))
    assert list(invalid(events)) == []
    return [event.body for event in events if not event.shadow]


def filled(seed: int) -> Kafka:
    kafka = Kafka()
    records = list(with_documents(pings(seed), answers(seed)))
    for record in records:
        partition = hash_of(record.key) % PARTITIONS if record.topic == FEEDS[0].topic else 0
        kafka.log(record.topic, partition).append(Stored(record.key, record.value, {}, record.record_ms))
    end = (records[-1].record_ms // TICK_MS + 1) * TICK_MS
    for source in SOURCES:
        kafka.log(*source).append(Stored(None, None, {}, end))
    return kafka


def test_the_answers_of_this_simulation_bring_about_all_that_they_can() -> None:
    told = [orjson.loads(body) for seed in range(4) for body in expected(seed)]
    assert {body["response"]["status"] for body in told if "response" in body} == {
        "acknowledged",
        "dispatched",
        "done",
        "rejected",
    }
    causes = {one["cause"] for body in told for one in body.get("escalations", ())}
    assert causes == {"respond_by", "rejected", "resolve_by"}


@pytest.mark.parametrize("seed", range(4))
async def test_killing_workers_while_operators_answer_changes_nothing(seed: int) -> None:
    kafka = filled(seed)
    last = await killed_again_and_again(
        lambda: SimWorker(kafka, hurried(), FEEDS, SOURCES, CONTROLS),
        TPS,
        random.Random(seed),
        times=12,
        latest=150,
        writes=0.25,
    )
    assert bodies(kafka, ALERTS) == expected(seed)
    opened = [event for city in last.city.states[0].cities.values() for event in city.open_events().values()]
    assert kafka.compacted(OPEN) == {event.episode_id.encode(): event.body for event in opened if not event.shadow}
    refused = [orjson.loads(stored.value or b"")["origin"]["topic"] for stored in kafka.log(QUARANTINE)]
    wrong = {record.topic for record in answers(seed) if record.value == b"junk"}
    assert wrong <= set(refused)


@pytest.mark.parametrize("seed", range(4))
def test_what_a_rival_answers_changes_no_byte_of_an_operators_alerts(seed: int) -> None:
    """Nor can it answer for the other: only what stands on alpha's own topic joins alpha's alerts."""
    own = [record for record in answers(seed) if record.topic == "responses.alpha"]
    run = Backtest(hurried(), FEEDS, controls=CONTROLS).run(with_documents(pings(seed), own))
    told = [event.operator_body for event in run if event.operator == "alpha"]
    both = Backtest(hurried(), FEEDS, controls=CONTROLS).run(with_documents(pings(seed), answers(seed)))
    assert told == [event.operator_body for event in both if event.operator == "alpha"]
    assert any(body is not None and b'"response"' in body for body in told)
