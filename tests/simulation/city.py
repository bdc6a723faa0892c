"""A small city with small numbers, and logs of it: enough for alerts to be raised, updated and cleared within minutes."""

from __future__ import annotations

import random
from fractions import Fraction
from functools import cache

import orjson

from geo.params import FOR_EVER, BikeParams, City, Epoch, Rule, Timeline
from geo.policy import Geography, Policy
from geo.windows import DAY_MS, DAY_S, Window
from streams.feeds.records import FeedRecord
from streams.pings import Feed
from tests.simulation.world import FACTS, TP, Kafka, Place, Stored

TICK_MS = 5_000
START_MS = 1_700_000_000_000
PARTITIONS = 3
FEEDS = [Feed("bike.pings", None, "wgs84", "json")]
SOURCES: list[Place] = [("bike.pings", p) for p in range(PARTITIONS)]
TPS = [TP(*source) for source in SOURCES] + [TP(FACTS, 0)]
ZONES = (
    Geography(
        "spot",
        "The first spot",
        (
            (
                (
                    (398_980_000, 1_163_980_000),
                    (398_980_000, 1_164_020_000),
                    (399_020_000, 1_164_020_000),
                    (399_020_000, 1_163_980_000),
                ),
            ),
        ),
    ),
)
_MIDNIGHT, _LEAP, _NEXT = (START_MS + minutes * 60_000 for minutes in (4, 6, 8))
NIGHTS = ((0, -_MIDNIGHT % DAY_MS - DAY_MS), (_LEAP, -_NEXT % DAY_MS))
"""Clocks that show midnight after four minutes, leap ahead by nearly a day, and show the next one after eight."""
SPOTS = [(399_000_000 + 60_000 * i, 1_164_000_000) for i in range(3)]


def rule(per_hectare: str = "0.5", rule_id: str = "density") -> Rule:
    return Rule(
        "default", rule_id, "Density", Fraction(per_hectare), per_hectare,
        for_ms=10_000, keep_firing_for_ms=10_000, cooldown_ms=30_000, update_interval_ms=10_000,
    )  # fmt: skip


def touching() -> Rule:
    """Cells of a few metres: the spots spread over several of them."""
    terms = {"for_ms": 5_000, "keep_firing_for_ms": 10_000, "cooldown_ms": 10_000, "update_interval_ms": 10_000}
    return Rule("default", "touching", "Touching", maximum=0, resolution=12, merge=True, bikes_cap=3, **terms)  # type: ignore[arg-type]


def policies() -> tuple[Policy, ...]:
    """One spot for both operators together, open five minutes of every ten; and a rule on trial in the rest of the city."""
    terms = {"for_ms": 10_000, "keep_firing_for_ms": 10_000, "cooldown_ms": 30_000, "update_interval_ms": 10_000}
    first = (START_MS + NIGHTS[0][1]) // 1000
    starts = [first + minute * 60 for minute in (0, 10)]
    windows = [Window(start_s=start % DAY_S, end_s=(start + 300) % DAY_S) for start in starts]
    shared = {"area": "zone", "geographies": ("spot",), "maximum": 3, "all_operators": True}
    rules = [Rule("zones", f"spot-{i}", "Spot", window=window, **shared, **terms) for i, window in enumerate(windows)]  # type: ignore[arg-type]
    trial = Rule("zones", "trial", "On trial", area="zone", maximum=9, shadow=True, **terms)
    return (Policy("zones", "Zones", (*rules, trial)),)


def epoch(from_tick: int = FOR_EVER, *, digest: str = "00" * 32, per_hectare: str = "0.5", name: str = "rivertown") -> Epoch:
    box = (
        (398_000_000, 1_163_000_000),
        (398_000_000, 1_165_000_000),
        (400_000_000, 1_165_000_000),
        (400_000_000, 1_163_000_000),
    )
    operators = ("alpha", "beta")
    city = City(
        name, 0, "Night/Shift", ((box,),), (rule(per_hectare), touching()), operators, policies(), ZONES, NIGHTS, density_interval_ms=20_000
    )  # fmt: skip
    return Epoch(
        from_tick, digest, BikeParams(ttl_ms=300_000), ("alpha", "beta"), (("alpha", 90_000), ("beta", 90_000)), (city,)
    )


def timeline(*epochs: Epoch) -> Timeline:
    return Timeline(TICK_MS, epochs or (epoch(),))


@cache
def pings(seed: int, n: int = 1500, bikes: int = 30) -> list[FeedRecord]:
    """Bikes that gather at three spots and leave them again; some junk, some repeats, some silence."""
    r = random.Random(seed)
    at, out, now = {}, [], START_MS
    for _ in range(n):
        now += r.randint(0, 800)
        if r.random() < 0.003:
            now += r.randint(60_000, 200_000)
        bike, operator = f"b{r.randrange(bikes)}", r.choice(["alpha", "alpha", "beta"])
        spot = SPOTS[(now // 100_000) % 3 if r.random() < 0.8 else r.randrange(3)]
        if (bike, operator) not in at or r.random() < 0.15:
            at[bike, operator] = (spot[0] + r.randint(-2000, 2000), spot[1] + r.randint(-2000, 2000))
        lat, lng = at[bike, operator]
        ping = {"bike_id": bike, "operator": operator, "ts": now - r.randint(0, 3000), "lat": lat / 1e7, "lng": lng / 1e7}
        ping["status"] = "on_trip" if r.random() < 0.15 else "available"
        value = orjson.dumps(ping) if r.random() > 0.01 else b"junk"
        out.append(FeedRecord(now, "bike.pings", bike.encode(), value))
        if r.random() < 0.05:
            out.append(out[-1])
    return out


def fill(kafka: Kafka, records: list[FeedRecord]) -> None:
    """The records into their partitions, and a clock record at the end of each."""
    end = (records[-1].record_ms // TICK_MS + 1) * TICK_MS
    for record in records:
        partition = hash_of(record.key) % PARTITIONS
        kafka.log(record.topic, partition).append(Stored(record.key, record.value, {}, record.record_ms))
    for source in SOURCES:
        kafka.log(*source).append(Stored(None, None, {}, end))


def hash_of(key: bytes) -> int:
    return sum(key) * 31 + len(key)
