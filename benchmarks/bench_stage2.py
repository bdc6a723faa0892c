"""What a city's tick, its snapshot and its memory cost with a million bikes. Answers are asserted before speeds are printed.

python -m benchmarks.bench_stage2 [bikes]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from geo.alert import Event
from geo.cells import ALERT_RESOLUTION, cells_of
from geo.city import CityState
from geo.frame import Facts, Section
from geo.params import FOR_EVER, BikeParams, City, Epoch, Rule, Timeline
from geo.states import AVAILABLE, ON_TRIP

TICK_MS = 5_000
OPERATORS = ("ant", "bee", "cat", "doe")
START = 1_700_000_000_000 // TICK_MS
SOUTH, WEST, SPAN = 391_000_000, 1_155_000_000, 16_000_000  # 1.6 degrees around Beijing, 240,000 cells
Result = TypeVar("Result")

HOT_CELLS = 400


@dataclass
class Bench:
    """A city with many bikes, and where each of them is: the truth to check against."""

    state: CityState
    lat: NDArray[np.int32]
    lng: NDArray[np.int32]
    stands: NDArray[np.bool_]
    tick: int
    random: np.random.Generator
    hot: float  # share of the bikes that go where too many are

    @property
    def bikes(self) -> int:
        return len(self.lat)

    def work(self, section: Section) -> list[Event]:
        self.tick += 1
        return self.state.advance(self.tick, [(self.tick, [(0, section)])])


def timeline() -> Timeline:
    rule = Rule("p", "r", "Too many", Fraction(10), "10", for_ms=60_000)
    city = City("big", 0, "UTC", (), (rule,), OPERATORS)
    return Timeline(TICK_MS, (Epoch(FOR_EVER, "x", BikeParams(), OPERATORS, (), (city,)),))


def section_of(bench: Bench, bikes: NDArray[np.int64]) -> Section:
    """A section that tells of these bikes as the truth has them."""
    n, now = len(bikes), (bench.tick + 2) * TICK_MS - 3_000
    stands = bench.stands[bikes]
    facts = Facts(
        operator=(bikes % len(OPERATORS)).astype(np.int16),
        ids=[f"bike-{bike:08d}" for bike in bikes.tolist()],
        lat=bench.lat[bikes],
        lng=bench.lng[bikes],
        stands=stands,
        state=np.where(stands, AVAILABLE, ON_TRIP).astype(np.uint8),
        vehicle=np.ones(n, np.uint8),
        rode=~stands,
        since=np.full(n, now, np.int64),
        version=np.full(n, now, np.int64),
    )
    return Section(facts, np.full(len(OPERATORS), 100, np.int64))


def positions(bench: Bench, bikes: NDArray[np.int64]) -> None:
    """Give bikes new places: most anywhere, some in hot cells (squares of 200 m)."""
    n, random = len(bikes), bench.random
    lat, lng = SOUTH + random.integers(0, SPAN, n), WEST + random.integers(0, SPAN, n)
    hot, spot = random.random(n) < bench.hot, random.integers(0, HOT_CELLS, n)
    lat[hot] = SOUTH + spot[hot] * 37_000 + random.integers(0, 18_000, hot.sum())
    lng[hot] = WEST + spot[hot] * 37_000 + random.integers(0, 18_000, hot.sum())
    bench.lat[bikes], bench.lng[bikes] = lat, lng


def build(bikes: int, hot: float) -> Bench:
    state = CityState("big", timeline())
    zeros = np.zeros(bikes, np.int32)
    bench = Bench(state, zeros, zeros.copy(), np.ones(bikes, np.bool_), START, np.random.default_rng(7), hot)
    positions(bench, np.arange(bikes))
    for part in np.array_split(np.arange(bikes), max(1, bikes // 50_000)):
        bench.work(section_of(bench, part))
    return bench


def check_counts(bench: Bench) -> int:
    """The counts are those of a recount; how many pairs are occupied."""
    where = cells_of(bench.lat, bench.lng, ALERT_RESOLUTION)
    key = where * len(OPERATORS) + np.arange(bench.bikes) % len(OPERATORS)
    pairs, counts = np.unique(key[bench.stands], return_counts=True)
    want = dict(zip(pairs.tolist(), counts.tolist(), strict=True))
    got = {cell * len(OPERATORS) + OPERATORS.index(operator): n for cell, operator, n in bench.state.counts()}
    assert got == want
    return len(want)


def ticks(bench: Bench, facts: int, rounds: int) -> tuple[float, float, int]:
    """Half of the bikes told leave, the other half arrive: median and greatest ms of a tick, events."""
    took, events = [], 0
    for _ in range(rounds):
        standing, away = np.flatnonzero(bench.stands), np.flatnonzero(~bench.stands)
        leave = bench.random.choice(standing, facts - min(len(away), facts // 2), replace=False)
        arrive = bench.random.choice(away, min(len(away), facts // 2), replace=False)
        bench.stands[leave], bench.stands[arrive] = False, True
        positions(bench, arrive)
        section = section_of(bench, np.concatenate((leave, arrive)))
        start = time.process_time()
        events += len(bench.work(section))
        took.append((time.process_time() - start) * 1e3)
    return float(np.median(took)), max(took), events


def show_ticks(bench: Bench) -> None:
    ticks(bench, bench.bikes // 5, 1)  # a fifth is on the way
    for facts, rounds in ((6_000, 20), (600, 40), (10, 100)):
        middle, worst, events = ticks(bench, facts, rounds)
        print(f"a tick with {facts:5} facts: {middle:6.2f} ms (at most {worst:6.2f}), {events / rounds:4.1f} events a tick")


def held_bytes(thing: object, seen: set[int] | None = None) -> int:
    """Bytes of all arrays and of the arena that hang on a thing, each once; what else there is does not grow with the bikes."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return thing.nbytes
    if isinstance(thing, bytearray):
        return sys.getsizeof(thing)
    if isinstance(thing, dict):
        return sum(held_bytes(part, seen) for part in thing.values())
    if isinstance(thing, list | tuple):
        return sum(held_bytes(part, seen) for part in thing)
    return sum(held_bytes(part, seen) for part in vars(thing).values()) if hasattr(thing, "__dict__") else 0


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What it gave, and how many ms of CPU it took."""
    start = time.process_time()
    result = work()
    return result, (time.process_time() - start) * 1e3


def quiet(bikes: int) -> None:
    """No cell is too full: what facts cost."""
    bench, took = timed(lambda: build(bikes, hot=0.0))
    pairs, held = check_counts(bench), held_bytes(bench.state)
    print(f"{bikes:,} bikes in {pairs:,} pairs, told in {took / 1e3:.1f} s; {held / bikes:.0f} bytes a bike held")
    show_ticks(bench)
    check_counts(bench)


def crowded(bikes: int) -> None:
    """A quarter of the bikes stand in a few cells, each alert names sixty of them: what events, state and silence cost."""
    bench = build(bikes, hot=0.25)
    show_ticks(bench)
    check_counts(bench)
    open_events = bench.state.open_events()
    assert len(open_events) > HOT_CELLS // 2 or bikes < 500_000
    packed, took = timed(bench.state.pack)
    size = sum(len(column) if isinstance(column, bytes) else column.nbytes for column in packed.values())
    print(f"pack: {took:.0f} ms, {size / bikes:.0f} bytes a bike")
    restored, took = timed(lambda: CityState.restore("big", bench.state.timeline, packed))
    assert restored.open_events() == open_events and sorted(restored.counts()) == sorted(bench.state.counts())
    print(f"restore: {took:.0f} ms")
    told, took = timed(lambda: bench.state.advance(bench.tick + 86_400_000 // TICK_MS, ()))
    assert "feed_silent" in {event.kind for event in told} and bench.state.roster_count() > 0.5 * bikes
    print(f"a day of silence: {took:.1f} ms, {len(told)} events")


if __name__ == "__main__":
    million = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    quiet(million)
    crowded(million)
