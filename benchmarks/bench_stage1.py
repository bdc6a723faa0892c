"""Stage one alone: decode and judge, without Kafka. Asserts its answers before it prints its speed.

python benchmarks/bench_stage1.py                         24 partitions x 41,700 bikes, 20,000 pings/s, tick 5 s
python benchmarks/bench_stage1.py --partitions 4          quicker
"""

from __future__ import annotations

import argparse
import gc
import time
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from geo.frame import OUTCOMES
from geo.params import FOR_EVER, BikeParams, City, Epoch, Timeline
from geo.source import Source, Step
from streams.batches import Batch
from streams.pings import Feed, PingDecoder

TICK_MS = 5_000
RATE = 833  # pings a second and partition: 20,000 over 24
START_MS = 1_700_000_000_000
OPERATORS = ("alpha", "beta", "gamma", "delta")
RING = ((396_000_000, 1_159_000_000), (396_000_000, 1_169_000_000), (402_000_000, 1_169_000_000), (402_000_000, 1_159_000_000))


def timeline() -> Timeline:
    city = City("beijing", 0, "Asia/Shanghai", ((RING,),), (), OPERATORS)
    return Timeline(TICK_MS, (Epoch(FOR_EVER, "00", BikeParams(), tuple(sorted(OPERATORS)), (), (city,)),))


class Fleet:
    """Bikes of one partition. Of the pings 80 % are of a bike that stands where it stood, with GPS noise of 5 m an axis."""

    def __init__(self, partition: int, bikes: int, seed: int) -> None:
        self.random = np.random.default_rng((seed, partition))
        self.ids = [f"{partition:02d}-{i:08d}" for i in range(bikes)]
        self.lat = self.random.uniform(39.7, 40.1, bikes)
        self.lng = self.random.uniform(116.0, 116.8, bikes)

    def pings(self, bikes: NDArray[np.int64], ms: NDArray[np.int64], *, moved: float) -> list[bytes]:
        moving = self.random.random(len(bikes)) < moved
        self.lat[bikes] += moving * self.random.normal(0, 0.002, len(bikes))
        self.lng[bikes] += moving * self.random.normal(0, 0.002, len(bikes))
        lat = self.lat[bikes] + self.random.normal(0, 4.5e-5, len(bikes))
        lng = self.lng[bikes] + self.random.normal(0, 5.9e-5, len(bikes))
        return [
            orjson.dumps(
                {
                    "bike_id": self.ids[bike],
                    "operator": OPERATORS[bike & 3],
                    "ts": at,
                    "lat": round(y, 7),
                    "lng": round(x, 7),
                    "accuracy": 5.0,
                    "status": "available",
                }
            )
            for bike, at, y, x in zip(bikes.tolist(), ms.tolist(), lat.tolist(), lng.tolist(), strict=True)
        ]


@dataclass
class Cost:
    decode_s: float = 0.0
    judge_s: float = 0.0
    pings: int = 0
    facts: int = 0
    outcomes: NDArray[np.int64] | None = None

    def take_in(self, step: Step) -> None:
        for frame in step.frames:
            self.facts += sum(len(section.facts) for section in frame.sections.values())
            self.outcomes = frame.outcomes.copy() if self.outcomes is None else self.outcomes + frame.outcomes

    def line(self, name: str, bare: float) -> str:
        decode, judge = (s / self.pings * 1e9 for s in (self.decode_s, self.judge_s))
        both = decode + judge
        return (
            f"{name:28s} decode {decode:5.0f}  judge {judge:5.0f}  both {both:5.0f} ({both / bare:.1f} x)"
            f"  facts {self.facts / self.pings:.2f}"
        )


class Partition:
    def __init__(self, number: int, bikes: int, seed: int) -> None:
        self.fleet = Fleet(number, bikes, seed)
        self.source = Source(number, timeline())
        self.decoder = PingDecoder(Feed("bike.pings", None, "wgs84", "json"), timeline())
        self.offset = 0

    def take(self, values: list[bytes], ms: NDArray[np.int64], cost: Cost) -> None:
        offsets = np.arange(self.offset, self.offset + len(values))
        self.offset += len(values)
        t0 = time.process_time()
        records, bad, _ = self.decoder.decode(Batch.of(values, ms, offsets))
        t1 = time.process_time()
        step = self.source.add(records)
        t2 = time.process_time()
        assert not bad
        assert not step.refused
        cost.decode_s += t1 - t0
        cost.judge_s += t2 - t1
        cost.pings += len(values)
        cost.take_in(step)

    def end(self, ms: int, cost: Cost) -> None:
        """A clock record: the tick of the last ping is closed."""
        values: list[bytes | None] = [None]
        records, _, _ = self.decoder.decode(Batch.of(values, np.array([ms]), np.array([self.offset])))
        self.offset += 1
        t0 = time.process_time()
        step = self.source.add(records)
        cost.judge_s += time.process_time() - t0
        cost.take_in(step)


def fill(partitions: list[Partition], bikes: int) -> Cost:
    """Every bike once: the roster of a first day."""
    cost = Cost()
    for partition in partitions:
        ms = np.full(bikes, START_MS)
        partition.take(partition.fleet.pings(np.arange(bikes), ms, moved=0), ms, cost)
        partition.end(START_MS + TICK_MS, cost)
    return cost


def drive(partitions: list[Partition], *, batch: int, rounds: int, start_ms: int) -> list[Cost]:
    """Batches in turn over all partitions, of RATE pings a second and partition by record time; the cost of each round."""
    costs = []
    step = batch * 1000 // RATE
    for number in range(rounds):
        cost = Cost()
        clock = start_ms + number * max(step, TICK_MS)
        while clock < start_ms + (number + 1) * max(step, TICK_MS):
            ms = clock + np.arange(batch) * 1000 // RATE
            made = [p.fleet.pings(p.fleet.random.integers(0, len(p.fleet.ids), batch), ms, moved=0.2) for p in partitions]
            for partition, values in zip(partitions, made, strict=True):
                partition.take(values, ms, cost)
            clock += step
        costs.append(cost)
    for partition in partitions:
        partition.end(start_ms + rounds * max(step, TICK_MS) + TICK_MS, costs[-1])
    return costs


def bare_ns() -> float:
    """The yardstick: msgspec alone on the same JSON, ns per ping. Other work on the machine slows both alike."""
    fleet = Fleet(99, 1000, 1)
    values = fleet.pings(np.arange(1000), np.full(1000, START_MS), moved=0)
    decode = PingDecoder(Feed("bike.pings", None, "wgs84", "json"), timeline())._parse_one
    times = []
    for _ in range(30):
        t0 = time.process_time()
        list(map(decode, values))
        times.append(time.process_time() - t0)
    return min(times) * 1e6


def check(costs: list[Cost]) -> None:
    total = sum(cost.outcomes for cost in costs if cost.outcomes is not None)
    by_outcome = dict(zip(OUTCOMES, np.sum(total, axis=0).tolist(), strict=True))
    passed = sum(by_outcome[name] for name in ("accepted", "superseded", "teleport", "out_of_order", "duplicate"))
    assert passed == sum(by_outcome.values()) == sum(cost.pings for cost in costs), by_outcome
    assert by_outcome["accepted"] > 0.8 * passed, by_outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=24)
    parser.add_argument("--bikes", type=int, default=41_700)
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    partitions = [Partition(i, arguments.bikes, 7) for i in range(arguments.partitions)]
    gc.collect()
    gc.freeze()
    print(
        f"msgspec alone: {bare_ns():.0f} ns/ping; below: the best round of {arguments.rounds}, as ns/ping and as multiples of it"
    )
    first = fill(partitions, arguments.bikes)
    print(first.line("every bike new, one batch", bare_ns()))
    clock = START_MS + 60_000
    for name, batch in (
        ("batches of 1 s (833)", 833),
        ("backlog, batches of 8,330", 8330),
        ("backlog, batches of 16,660", 16_660),
    ):
        costs = drive(partitions, batch=batch, rounds=arguments.rounds, start_ms=clock)
        clock += 600_000
        check(costs)
        best = min(costs[1:], key=lambda cost: (cost.decode_s + cost.judge_s) / cost.pings)
        print(best.line(name, bare_ns()))
    bikes = sum(p.source.bikes() for p in partitions)
    assert bikes == arguments.bikes * len(partitions)
    t0 = time.process_time()
    packed = [p.source.pack() for p in partitions]
    t1 = time.process_time()
    restored = [Source.restore(i, timeline(), state) for i, state in enumerate(packed)]
    t2 = time.process_time()
    assert sum(source.bikes() for source in restored) == bikes
    assert packed[0]["ids"] == restored[0].pack()["ids"]
    size = sum(p.source.memory() for p in partitions) / bikes
    print(f"{bikes:,} bikes: {size:.0f} bytes each, pack {t1 - t0:.2f} s, restore {t2 - t1:.2f} s")


if __name__ == "__main__":
    main()
