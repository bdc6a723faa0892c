"""Feeds lose whole fleets, for a while or for good, and workers are killed: the alerts are those of the backtest, byte for byte."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from functools import cache

import orjson
import pytest

from agents.backtest import Backtest
from geo.params import Timeline
from streams.feeds.records import FeedRecord
from tests.simulation.city import FEEDS, SOURCES, TICK_MS, TPS, epoch, fill, pings, timeline
from tests.simulation.world import ALERTS, DENSITY, OPEN, Kafka, SimWorker, killed_again_and_again

BIKES = 30
HOLD_MS = 15_000  # bikes speak every half a minute or so


def line() -> Timeline:
    one = epoch()
    cities = tuple(replace(city, degraded_hold_ms=HOLD_MS, degraded_fewest=10) for city in one.cities)
    return timeline(replace(one, cities=cities))


@cache
def with_losses(seed: int) -> list[FeedRecord]:
    """Now and then a feed says of all bikes that they are gone, and says later, mostly, that they are not."""
    r = random.Random(f"losses of {seed}")
    records = list(pings(seed, bikes=BIKES))
    first, last = records[0].record_ms, records[-1].record_ms
    for broken in range(first + 100_000, last, 150_000):
        operator = r.choice(("alpha", "alpha", "beta"))
        records += said_of_all(
            records, operator, r.choice(("removed", "missing", "on_trip")), broken // TICK_MS * TICK_MS + 1_000
        )
        mended = broken + r.choice((5_000, 10_000, 40_000, 10**9))
        if mended < last:
            records += said_of_all(records, operator, "available", mended // TICK_MS * TICK_MS + 1_000)
        records.sort(key=lambda record: record.record_ms)
    return records


def said_of_all(records: list[FeedRecord], operator: str, status: str, at_ms: int) -> list[FeedRecord]:
    """Of each bike where it was last, with this status."""
    newest = {}
    for record in records:
        if (
            record.record_ms <= at_ms
            and record.value != b"junk"
            and (ping := orjson.loads(record.value or b""))["operator"] == operator
        ):
            newest[ping["bike_id"]] = ping
    pings_now = (ping | {"status": status, "ts": at_ms} for _, ping in sorted(newest.items()))
    return [FeedRecord(at_ms, "bike.pings", ping["bike_id"].encode(), orjson.dumps(ping)) for ping in pings_now]


@cache
def expected(seed: int) -> list[bytes]:
    return [event.body for event in Backtest(line(), FEEDS).run(with_losses(seed)) if not event.shadow]


def filled(seed: int) -> Kafka:
    kafka = Kafka()
    fill(kafka, with_losses(seed))
    return kafka


def worker(kafka: Kafka) -> SimWorker:
    return SimWorker(kafka, line(), FEEDS, SOURCES)


def distinct(kafka: Kafka, topic: str = ALERTS) -> list[bytes]:
    """Bodies by event id, first occurrence; a repeat with other bytes is an error."""
    seen: dict[bytes, bytes] = {}
    for stored in kafka.log(topic):
        assert stored.value is not None
        assert seen.setdefault(stored.headers["ce_id"], stored.value) == stored.value
    return list(seen.values())


def assert_right(kafka: Kafka, seed: int, last: SimWorker) -> None:
    assert distinct(kafka) == expected(seed)
    events = [event for city in last.city.states[0].cities.values() for event in city.open_events().values()]
    assert kafka.compacted(OPEN) == {event.episode_id.encode(): event.body for event in events if not event.shadow}
    cells = {telling.key: telling.body for city in last.city.states[0].cities.values() for telling in city.density.newest()}
    assert kafka.compacted(DENSITY) == cells


async def test_fleets_are_lost_and_found_as_in_the_backtest() -> None:
    told: Counter[str] = Counter()
    for seed in range(4):
        kafka = filled(seed)
        one = worker(kafka)
        await one.own(TPS)
        await one.drain()
        assert_right(kafka, seed, one)
        for body in map(orjson.loads, expected(seed)):
            told[body["cleared_by"] or body["state"]] += body["kind"] == "feed_degraded"
        own = [body for topic in ("alerts.alpha", "alerts.beta") for body in distinct(kafka, topic)]
        assert any(b'"kind":"feed_degraded"' in body and b"count_all_operators" not in body for body in own)
        assert any(b'"degraded":["alpha"]' in (stored.value or b"") for stored in kafka.log(DENSITY))
    assert told["raised"] >= 8 and told["recovered"] >= 3 and told["accepted"] >= 3, told


@pytest.mark.parametrize("seed", range(8))
async def test_killing_workers_at_any_send_loses_nothing_that_is_held(seed: int) -> None:
    kafka = filled(seed)
    last = await killed_again_and_again(lambda: worker(kafka), TPS, random.Random(seed))
    assert_right(kafka, seed, last)
