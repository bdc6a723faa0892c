"""Yardstick (b): what an engineer writes by hand for the same job, as fast as we could make it.

    python -m benchmarks.hand_loop --bootstrap B --topic T --records N --warm W --alerts-topic A

confluent-kafka's `consume(20000)`, polars for JSON, numpy for the rest: newest fix per bike, jitter hold of 50 m, H3 only
for bikes that came to stand elsewhere, counts per (cell, operator), a maximum per hectare, hysteresis, `for`,
`keep_firing_for` and cooldown, alerts to a topic, offsets committed once a second. What it does not do, all in its favour:
its state is in memory only, so a crash loses it; time is the newest that a batch holds, so alerts depend on how batches
were cut (in a backlog partitions come unevenly, and most are missed); an alert names no bikes and is never updated; a bad
record ends it; nothing is converted, expired or doubted.
"""

from __future__ import annotations

import gc
import json
import os
import time
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import h3.api.basic_int as h3
import numpy as np
import polars as pl
from confluent_kafka import Producer
from numpy.typing import NDArray

from benchmarks.answer import COOLDOWN_MS, FOR_MS, KEEP_FIRING_MS, Limits, digest_of
from benchmarks.drain import Watch, arguments, reader
from benchmarks.feed import OPERATORS, RESOLUTION

BATCH = 20_000
HOLD_M = 50.0
METRES = 111_195.0

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_SCHEMA: dict[str, Any] = {
    "bike_id": pl.String,
    "operator": pl.Enum(OPERATORS),
    "ts": pl.Int64,
    "lat": pl.Float64,
    "lng": pl.Float64,
    "status": pl.Enum(["available", "on_trip"]),
}
_PARKED = 0


class HashedIds:
    """Bike -> row, by polars' hash of the id in an open-addressing numpy table. A dict of a million ids is slower."""

    def __init__(self, capacity: int = 1 << 21) -> None:
        self._keys = np.zeros(capacity, np.uint64)
        self._rows = np.zeros(capacity, np.int64)
        self._mask = np.uint64(capacity - 1)
        self.count = 0

    def rows(self, hashes: NDArray[np.uint64]) -> Ints:
        at = (hashes & self._mask).astype(np.int64)
        rows = self._rows[at]
        miss = np.flatnonzero(self._keys[at] != hashes)
        while miss.size:
            empty = miss[self._keys[at[miss]] == 0]
            if empty.size:
                self._insert(hashes[empty], at[empty])
            else:
                at[miss] = (at[miss] + 1) & int(self._mask)
            rows[miss] = self._rows[at[miss]]
            miss = miss[self._keys[at[miss]] != hashes[miss]]
        return rows

    def _insert(self, hashes: NDArray[np.uint64], at: Ints) -> None:
        """New ids into free places; of several that want one place the last gets it, the others look on."""
        self._keys[at] = hashes
        placed = np.unique(at[self._keys[at] == hashes])
        self._rows[placed] = np.arange(self.count, self.count + len(placed))
        self.count += len(placed)


@dataclass
class Episode:
    """Of one (cell, operator)."""

    limits: Limits
    over_ms: int | None = None
    below_ms: int | None = None
    open: bool = False
    quiet_until_ms: int = 0


@dataclass
class Job:
    """The state: a row of (lat, lng, newest ts, number of the (cell, operator) or -1) per bike, counts, episodes."""

    ids: HashedIds = field(default_factory=HashedIds)
    pairs: dict[tuple[int, int], int] = field(default_factory=dict)
    episodes: list[Episode] = field(default_factory=list)
    watched: set[int] = field(default_factory=set)
    clock_ms: int = 0

    def __post_init__(self) -> None:
        self.bikes: Floats = np.zeros((1 << 21, 4))
        self.bikes[:, 3] = -1
        self.last: Ints = np.zeros(1 << 21, np.int64)
        self.counts: Ints = np.zeros(1 << 18, np.int64)
        self.maximum: Ints = np.zeros(1 << 18, np.int64)

    def batch(self, lines: bytes) -> list[dict[str, Any]]:
        """Work through some pings; the alerts that they lead to."""
        frame = pl.read_ndjson(lines, schema=_SCHEMA)
        operator = frame["operator"].to_physical().to_numpy()
        ts = frame["ts"].to_numpy()
        hashes = frame["bike_id"].hash().to_numpy() ^ (operator.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(
            1
        )
        row = self.ids.rows(hashes)
        self.clock_ms = max(self.clock_ms, int(ts.max()))
        newest = self._newest(row, ts)
        row, operator, ts = row[newest], operator[newest], ts[newest]
        lat, lng = frame["lat"].to_numpy()[newest], frame["lng"].to_numpy()[newest]
        parked = frame["status"].to_physical().to_numpy()[newest] == _PARKED

        before = self.bikes[row]
        stood = before[:, 3] >= 0
        north, east = (lat - before[:, 0]) * METRES, (lng - before[:, 1]) * METRES * 0.767
        near = north * north + east * east <= HOLD_M * HOLD_M
        fresh = ts > before[:, 2]
        comes = fresh & parked & ~(stood & near)
        goes = fresh & stood & ~(parked & near)
        moved = np.flatnonzero(comes)
        old = before[goes, 3].astype(np.int64)
        new = self._pairs(lat[moved], lng[moved], operator[moved])
        before[fresh, 2] = ts[fresh]
        before[goes, 3] = -1
        before[moved, 0], before[moved, 1], before[moved, 3] = lat[moved], lng[moved], new
        self.bikes[row] = before
        np.subtract.at(self.counts, old, 1)
        np.add.at(self.counts, new, 1)
        return self._judge(np.concatenate((old, new)))

    def _newest(self, row: Ints, ts: Ints) -> Ints:
        """Indices of each bike's newest fix in the batch."""
        index = np.arange(len(row))
        self.last[row] = index
        winners = self.last[row] == index
        if winners.all():
            return index
        order = np.argsort(ts, kind="stable")
        self.last[row[order]] = order
        return np.flatnonzero(self.last[row] == index)

    def _pairs(self, lat: Floats, lng: Floats, operator: Ints) -> Ints:
        to_cell, pairs = h3.latlng_to_cell, self.pairs
        out = np.empty(len(lat), np.int64)
        for i, (la, ln, op) in enumerate(zip(lat.tolist(), lng.tolist(), operator.tolist(), strict=True)):
            key = (to_cell(la, ln, RESOLUTION), op)
            number = pairs.get(key)
            if number is None:
                number = pairs[key] = len(pairs)
                limits = Limits.of(key[0])
                self.episodes.append(Episode(limits))
                self.maximum[number] = limits.maximum
            out[i] = number
        return out

    def _judge(self, touched: Ints) -> list[dict[str, Any]]:
        """Episodes at the end of a batch. watched: those that are over, pending or open."""
        self.watched.update(touched[self.counts[touched] > self.maximum[touched]].tolist())
        alerts = []
        for number in sorted(self.watched):
            episode, count = self.episodes[number], int(self.counts[number])
            if not episode.open:
                if count <= episode.limits.maximum or self.clock_ms < episode.quiet_until_ms:
                    episode.over_ms = None
                    if count <= episode.limits.maximum:
                        self.watched.discard(number)
                    continue
                episode.over_ms = episode.over_ms or self.clock_ms
                if self.clock_ms - episode.over_ms < FOR_MS:
                    continue
                episode.open, episode.below_ms = True, None
            elif count >= episode.limits.clear:
                episode.below_ms = None
                continue
            else:
                episode.below_ms = episode.below_ms or self.clock_ms
                if self.clock_ms - episode.below_ms < KEEP_FIRING_MS:
                    continue
                episode.open, episode.over_ms = False, None
                episode.quiet_until_ms = self.clock_ms + COOLDOWN_MS
            alerts.append(self._alert(number, episode, count))
        return alerts

    def _alert(self, number: int, episode: Episode, count: int) -> dict[str, Any]:
        cell, operator = list(self.pairs)[number]
        excess = max(0, count - episode.limits.target) if episode.open else 0
        return {
            "cell": h3.int_to_str(cell),
            "operator": OPERATORS[operator],
            "state": "raised" if episode.open else "cleared",
            "count": count,
            "excess": excess,
            "time_ms": self.clock_ms,
        }

    def result(self) -> dict[str, Any]:
        """For comparison with the right answer."""
        cells, operators = np.array(list(self.pairs), np.int64).T
        counts = self.counts[: len(cells)]
        return {
            "bikes": self.ids.count,
            "standing": {name: int(counts[operators == i].sum()) for i, name in enumerate(OPERATORS)},
            "digest": digest_of(cells, operators, counts),
        }


def _lines(values: list[bytes | None]) -> bytes:
    try:
        return b"\n".join(values)  # type: ignore[arg-type]
    except TypeError:  # clock records, at the end of each partition
        return b"\n".join(value for value in values if value is not None)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--alerts-topic", required=True)
    options = parser.parse_args()
    gc.set_threshold(200_000, 50, 100)  # half as fast again: 20,000 message objects in hand look like garbage to come
    consumer, job = reader(options), Job()
    gc.freeze()
    producer = Producer({"bootstrap.servers": options.bootstrap, "linger.ms": 20})
    watch, sent, committed = Watch(options.records, options.warm), 0, time.monotonic()
    done = False
    while not done:
        messages = consumer.consume(BATCH, 0.2)
        values = [message.value() for message in messages]
        for alert in job.batch(_lines(values)) if values else ():
            producer.produce(options.alerts_topic, json.dumps(alert).encode())
            sent += 1
        producer.poll(0)
        if time.monotonic() - committed > 1 and messages:
            consumer.commit(asynchronous=True)
            committed = time.monotonic()
        done = watch.saw(len(messages))
    producer.flush(10)
    print(json.dumps({**watch.result(), "alerts": sent, **job.result()}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
