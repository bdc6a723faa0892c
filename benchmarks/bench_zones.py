"""What zones cost: the whole core (decode, judge, count, alert) without Kafka, with and without thousands of parking zones.

python -m benchmarks.bench_zones [bikes] [zones]

The zones lie on a grid over the city, each an octagon with a maximum of its own: once as one rule each, once as one rule over
all of them. Counts in zones are checked against a recount, and the alerts of the city's own rule must be the same bytes,
before any speed is printed.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice

import numpy as np
import shapely

from agents.backtest import Backtest
from benchmarks.feed import EAST, NORTH, OPERATORS, PER_HECTARE, SOUTH, START_MS, WEST, World, seconds
from geo.alert import Event
from geo.layers import Cascade
from geo.params import FOR_EVER, BikeParams, City, Epoch, Rule, Timeline
from geo.policy import Geography, Policy
from streams.feeds.records import FeedRecord
from streams.pings import Feed

TICK_MS = 5_000
WARM_S, MEASURED_S, ROUNDS = 60, 180, 3
RADIUS_M = 60.0
MOST = 0.10
"""Share of the throughput that zones may cost."""

TIMES: dict[str, int] = {"for_ms": 30_000, "keep_firing_for_ms": 30_000, "cooldown_ms": 60_000}


def geographies(count: int) -> tuple[Geography, ...]:
    rows = math.isqrt(count)
    columns = -(-count // rows)
    found = []
    for number in range(count):
        lat = SOUTH + (NORTH - SOUTH) * (number // columns + 0.5) / rows
        lng = WEST + (EAST - WEST) * (number % columns + 0.5) / columns
        ring = tuple(
            (
                round((lat + RADIUS_M / 111_195 * math.sin(math.pi * i / 4)) * 1e7),
                round((lng + RADIUS_M / 85_000 * math.cos(math.pi * i / 4)) * 1e7),
            )
            for i in range(8)
        )
        found.append(Geography(f"zone-{number:05d}", f"Zone {number}", ((ring,),), capacity=4))
    return tuple(found)


def timeline(zones: tuple[Geography, ...], *, each: bool) -> Timeline:
    own = Rule("p", "r", "Too many", Fraction(PER_HECTARE), str(PER_HECTARE), **TIMES)
    ids = tuple(zone.geography_id for zone in zones)
    if each:
        rules = tuple(Rule("zones", name, name, area="zone", geographies=(name,), maximum=4, **TIMES) for name in ids)
    else:
        rules = (Rule("zones", "all", "All", area="each_zone", geographies=ids, capacity=Fraction(1), **TIMES),)
    policies = (Policy("zones", "Zones", rules),) if zones else ()
    box = (
        (390_000_000, 1_150_000_000),
        (390_000_000, 1_180_000_000),
        (410_000_000, 1_180_000_000),
        (410_000_000, 1_150_000_000),
    )
    city = City("big", 0, "UTC", ((box,),), (own,), OPERATORS, policies, zones)
    return Timeline(TICK_MS, (Epoch(FOR_EVER, "x", BikeParams(), OPERATORS, (), (city,)),))


def records(world: World) -> Iterator[list[FeedRecord]]:
    """The feed, a second at a time."""
    for s, pings, device_ms in seconds(world, WARM_S + MEASURED_S):
        record_ms = (START_MS + s * 1000 + pings.ms).tolist()
        columns = zip(record_ms, world.keys(pings), world.values(pings, START_MS + device_ms), strict=True)
        yield [FeedRecord(ms, "pings", key, value) for ms, key, value in columns]


def run(log: list[list[FeedRecord]], plan: Timeline) -> tuple[Backtest, list[Event], float]:
    """The state, what was told, and the CPU seconds after warming up."""
    backtest = Backtest(plan, [Feed("pings", None, "wgs84")])
    events = list(backtest.run(chain.from_iterable(islice(log, WARM_S))))
    started = time.process_time()
    events += backtest.run(chain.from_iterable(islice(log, WARM_S, None)))
    return backtest, events, time.process_time() - started


def check(state: Backtest, zones: tuple[Geography, ...]) -> int:
    """Bikes in zones are those of a recount, one zone and one bike at a time as shapely sees them."""
    city = state.cities["big"]
    rows, counts = city.ground.roster.rows, city.ground.tables["zones"]
    layer = city.ground.layers["zones"]
    assert isinstance(layer, Cascade)
    told = Counter({layer.name_of(int(counts.codes[i])): 0 for i in range(counts.size)})
    for i in range(counts.size):
        told[layer.name_of(int(counts.codes[i]))] += int(counts.count[i])
    standing = rows["stands"]
    tree = shapely.STRtree(shapely.points(rows["lng"][standing].astype(float), rows["lat"][standing].astype(float)))
    true = Counter(
        {
            zone.geography_id: len(
                tree.query(shapely.Polygon([(lng, lat) for lat, lng in zone.polygons[0][0]]), predicate="covers")
            )
            for zone in zones
        }
    )
    assert +told == +true
    return sum(true.values())


def edge_s(state: Backtest) -> float:
    """What it costs when a window opens or closes: every bike is put under the policy's rules anew."""
    ground = state.cities["big"].ground
    layer, counted = ground.layers["zones"], int(ground.tables["zones"].count.sum())
    ground.drop("zones")
    started = time.process_time()
    ground.lay("zones", layer)
    took = time.process_time() - started
    assert int(ground.tables["zones"].count.sum()) == counted
    return took


def main(bikes: int, count: int) -> int:
    log, zones = list(records(World(bikes))), geographies(count)
    measured = sum(map(len, log[WARM_S:]))
    plans = {
        "no zones": timeline((), each=False),
        f"{count:,} rules of a zone each": timeline(zones, each=True),
        f"one rule of {count:,} zones": timeline(zones, each=False),
    }
    best: dict[str, float] = {}
    own: dict[str, list[bytes]] = {}
    for _ in range(ROUNDS):
        for name, plan in plans.items():
            state, events, took = run(log, plan)
            best[name] = min(took, best.get(name, took))
            own[name] = [event.body for event in events if event.rule[0] == "p"]
            if name != "no zones":
                inside, edge = check(state, zones), edge_s(state)
                assert own[name] == own["no zones"] and any(event.rule[0] == "zones" for event in events)
    print(f"{bikes:,} bikes, {measured:,} pings, {inside:,} bikes in zones; best of {ROUNDS}")
    plain = best["no zones"]
    for name, took in best.items():
        print(f"{name:30} {measured / took:10,.0f} pings per CPU second   {plain / took - 1:+.1%} throughput")
    print(f"a window's edge: {edge:.2f} s, {edge / bikes * 1e6:.2f} us a bike")
    return 0 if all(plain / took >= 1 - MOST for took in best.values()) else 1


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:3]]
    np.seterr(all="raise")
    sys.exit(main(*(numbers + [200_000, 5_000][len(numbers) :])))
