"""Policies come and go while workers are killed: the alerts are those of the backtest, byte for byte."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import orjson
import pytest

from agents.backtest import Backtest, with_documents
from streams.feeds.records import FeedRecord
from streams.settings import ControlSettings
from tests.simulation.city import FEEDS, PARTITIONS, TICK_MS, ZONES, hash_of, pings, timeline
from tests.simulation.world import ALERTS, FACTS, OPEN, QUARANTINE, SHADOW, TP, Kafka, SimWorker, Stored, killed_again_and_again

CONTROL = ControlSettings("policies", "policy")
SOURCES = [*((FEEDS[0].topic, p) for p in range(PARTITIONS)), (CONTROL.topic, 0)]
TPS = [TP(*source) for source in SOURCES] + [TP(FACTS, 0)]
SQUARE = [[point[1] / 1e7, point[0] / 1e7] for point in (*ZONES[0].polygons[0][0], ZONES[0].polygons[0][0][0])]
GEOGRAPHY = {
    "geography_id": "spot",
    "name": "Spot",
    "geography_json": {"type": "Polygon", "coordinates": [SQUARE]},
}


def policy(r: random.Random, at_ms: int) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "rule_id": "few",
        "name": "Few",
        "rule_type": "count",
        "maximum": r.randint(0, 4),
        "geographies": ["spot"] if r.random() < 0.5 else [],
        "urban_brain": {"for": "5s", "keep_firing_for": "5s", "cooldown": "10s", "update_interval": "5s"},
    }
    if r.random() < 0.3:
        rule["urban_brain"]["area"] = "cell"
    told = {"policy_id": r.choice(("own", "own", "other", "zones")), "name": "P", "rules": [rule]}
    if r.random() < 0.3:
        told["start_date"] = at_ms + r.randint(0, 100_000)
    if r.random() < 0.3:
        told["prev_policies"] = [name for name in ("own", "zones") if name != told["policy_id"]]
    return {"policy": told, "geographies": [GEOGRAPHY]}


@cache
def documents(seed: int) -> list[FeedRecord]:
    """Some in every minute or two, some broken, some withdrawals, some that are none at all."""
    r = random.Random(f"documents of {seed}")
    first, last = pings(seed)[0].record_ms, pings(seed)[-1].record_ms
    found = []
    for at_ms in sorted(r.randint(first, last) for _ in range(20)):
        body = policy(r, at_ms) if r.random() < 0.7 else {"withdraw": r.choice(("own", "other", "zones"))}
        if "policy" in body and r.random() < 0.2:
            body["policy"]["rules"][0]["maximum"] = "many"
        value = orjson.dumps({"schema": "urban-brain/policy/1", "city": "rivertown"} | body)
        found.append(FeedRecord(at_ms, CONTROL.topic, b"", b"junk" if r.random() < 0.1 else value))
    return found


@cache
def expected(seed: int) -> list[tuple[bytes, bool]]:
    """(body, whether it is of a rule on trial) of every event."""
    run = Backtest(timeline(), FEEDS, controls=[CONTROL]).run(with_documents(pings(seed), documents(seed)))
    return [(event.body, event.shadow) for event in run]


def filled(seed: int) -> Kafka:
    kafka = Kafka()
    records = list(with_documents(pings(seed), documents(seed)))
    for record in records:
        partition = hash_of(record.key) % PARTITIONS if record.topic != CONTROL.topic else 0
        kafka.log(record.topic, partition).append(Stored(record.key, record.value, {}, record.record_ms))
    end = (records[-1].record_ms // TICK_MS + 1) * TICK_MS
    for source in SOURCES:
        kafka.log(*source).append(Stored(None, None, {}, end))
    return kafka


def bodies(kafka: Kafka, topic: str) -> list[bytes]:
    """Distinct events by first occurrence; a repeat with other bytes is an error."""
    seen: dict[bytes, bytes] = {}
    for stored in kafka.log(topic):
        assert stored.value is not None
        assert seen.setdefault(stored.headers["ce_id"], stored.value) == stored.value
    return list(seen.values())


def test_the_documents_of_this_simulation_bring_about_all_that_they_can() -> None:
    told = [orjson.loads(body) for seed in range(6) for body, _ in expected(seed)]
    policies = {body["rule"]["policy_id"] for body in told}
    assert policies >= {"own", "other", "zones", "built-in", "default"}
    refusals = [body for body in told if body["kind"] == "policy_refused"]
    assert {body["state"] for body in refusals} == {"raised", "updated", "cleared"}
    assert {body["cleared_by"] for body in refusals} == {None, "replaced", "withdrawn"}
    assert sum(body["cleared_by"] == "policy" for body in told) > 10


@pytest.mark.parametrize("seed", range(6))
async def test_killing_workers_while_policies_come_and_go_changes_nothing(seed: int) -> None:
    kafka = filled(seed)
    last = await killed_again_and_again(
        lambda: SimWorker(kafka, timeline(), FEEDS, SOURCES, [CONTROL]),
        TPS,
        random.Random(seed),
        times=12,
        latest=150,
        writes=0.25,
    )
    assert bodies(kafka, ALERTS) == [body for body, shadow in expected(seed) if not shadow]
    assert bodies(kafka, SHADOW) == [body for body, shadow in expected(seed) if shadow]
    opened = [event for city in last.city.states[0].cities.values() for event in city.open_events().values()]
    assert kafka.compacted(OPEN) == {event.episode_id.encode(): event.body for event in opened if not event.shadow}
    origins = [orjson.loads(stored.value or b"")["origin"]["topic"] for stored in kafka.log(QUARANTINE)]
    assert CONTROL.topic in origins or b"junk" not in [record.value for record in documents(seed)]
