"""A log of several operators whose bikes look alike and stand in the same cells, in crowds that come and go."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from streams.feeds.records import FeedRecord

START_MS = 1_700_005_800_000
"""Ten minutes before a day ends (UTC)."""

SPOTS = [(39.9000, 116.4000), (39.9300, 116.4200), (39.9600, 116.3800)]
SHARED = 6
"""So many ids are exactly the same for every operator: whose bike it is, only the operator tells."""

LOOKS = ("A-{:03d}", "\u0410-{:03d}", "A\u2010{:03d}", "A-{:03d} ")
"""Latin A; Cyrillic A; another hyphen; a space behind."""


def bike_ids(operators: Sequence[str], bikes: Mapping[str, int]) -> dict[str, list[str]]:
    """By operator. The first SHARED are everybody's, the others look like a rival's and are not."""
    return {
        operator: [f"same-{n}" if n < SHARED else look.format(n) for n in range(bikes[operator])]
        for operator, look in zip(operators, LOOKS, strict=False)
    }


def crowds(topic: str, operators: Sequence[str], bikes: Mapping[str, int], *, minutes: int, seed: int = 1) -> list[FeedRecord]:
    """Every bike says twice a minute where it is; most go from spot to spot with their operator's crowd. Sorted by record time."""
    r = random.Random(seed)
    ids, records = bike_ids(operators, bikes), []
    at: dict[tuple[str, str], tuple[float, float]] = {}
    for second in range(0, minutes * 60, 30):
        for number, operator in enumerate(operators):
            crowd = SPOTS[(second // 150 + number) % len(SPOTS)]
            for bike in ids[operator]:
                if (operator, bike) not in at or r.random() < 0.3:
                    lat, lng = crowd if r.random() < 0.8 else r.choice(SPOTS)
                    at[operator, bike] = (round(lat + r.uniform(-4e-4, 4e-4), 7), round(lng + r.uniform(-4e-4, 4e-4), 7))
                records.append(_ping(topic, operator, bike, at[operator, bike], START_MS + second * 1000 + r.randrange(30_000)))
    records += [FeedRecord(START_MS + 1, topic, b"junk", b"junk"), FeedRecord(START_MS + 2, topic, b"other", _stranger())]
    return sorted(records, key=lambda record: record.record_ms)


def _ping(topic: str, operator: str, bike: str, at: tuple[float, float], now_ms: int) -> FeedRecord:
    lat, lng = at
    ping: dict[str, Any] = {"bike_id": bike, "operator": operator, "ts": now_ms, "lat": lat, "lng": lng, "status": "available"}
    return FeedRecord(now_ms, topic, bike.encode(), orjson.dumps(ping))


def _stranger() -> bytes:
    return orjson.dumps({"bike_id": "x", "operator": "nobody", "ts": START_MS, "lat": 39.9, "lng": 116.4})
