"""From a ping to its alert: crowds that become one bike too many at moments that are known.

Every tick some cells outside of the feed's area get exactly their maximum of bikes, and in the next tick, at a random
moment, one more. Its record time says which tick it is in; when that is over the alert is due. What is measured is how
long after that a reader of `alerts` has it. The rule has no `for`, which is stream time and nobody's delay.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from datetime import datetime
from statistics import quantiles
from typing import Any

import h3.api.basic_int as h3
from confluent_kafka import Producer

from benchmarks.answer import TICK_MS, Limits
from benchmarks.feed import NORTH, OPERATORS, RESOLUTION, WEST
from benchmarks.live import live
from benchmarks.rig import BenchError, Rig, require, say

BIKES = 225_000  # 4,500 pings/s
TICKS, CROWDS = 12, 40  # 40 crowds of some 60 bikes in a tick: 500 pings/s more
RULE = 'for = "0s"'
_STEP = 0.004  # degrees between crowds: more than a cell is wide


@dataclass
class Crowd:
    """A cell that is full, and when the bike came that was too many (record time and receipt of the alert, ms)."""

    cell: int
    operator: str
    size: int
    sent_ms: int = 0
    heard_ms: int = 0

    @property
    def due_ms(self) -> int:
        return (self.sent_ms // TICK_MS + 1) * TICK_MS


@dataclass(frozen=True)
class Latency:
    """Seconds beyond the end of the tick, and from the ping."""

    beyond_p50: float
    beyond_p99: float
    whole_p99: float
    alerts: int


def _crowds() -> list[Crowd]:
    found = {}
    for i in range(TICKS * CROWDS):
        cell = h3.latlng_to_cell(NORTH + 0.03 + _STEP * (i // 100), WEST + _STEP * 1.2 * (i % 100), RESOLUTION)
        found[cell] = Crowd(cell, OPERATORS[i % 3], Limits.of(cell).maximum + 1)
    return list(found.values())


class _Bikes:
    """Sends one bike after the other into cells."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        config = {"bootstrap.servers": bootstrap, "linger.ms": 5, "compression.type": "lz4", "partitioner": "murmur2_random"}
        self._producer, self._topic, self._number = Producer(config), topic, 0
        self._failed = 0

    def send(self, crowd: Crowd, *, last: bool) -> None:
        lat, lng = h3.cell_to_latlng(crowd.cell)
        self._number += 1
        ping = {
            "bike_id": f"c{self._number:07d}", "operator": crowd.operator, "ts": time.time_ns() // 1_000_000, "lat": round(lat, 7),
            "lng": round(lng, 7), "accuracy": 5, "status": "available",
        }  # fmt: skip
        done = (lambda error, message: self._acked(crowd, error, message)) if last else self._plain
        self._producer.produce(self._topic, json.dumps(ping).encode(), str(ping["bike_id"]).encode(), on_delivery=done)
        self._producer.poll(0)

    def _plain(self, error: Any, message: Any) -> None:
        self._failed += error is not None

    def _acked(self, crowd: Crowd, error: Any, message: Any) -> None:
        self._plain(error, message)
        crowd.sent_ms = message.timestamp()[1]  # the broker's, for its topic stamps on arrival

    def flush(self) -> None:
        require(self._producer.flush(10) == 0 and not self._failed, "pings of crowds were not acknowledged")

    def poll(self) -> None:
        self._producer.poll(0)


def measure(rig: Rig) -> Latency:
    crowds = _crowds()
    with live(rig, "latency", rule=RULE) as one:
        one.feed_on(rig, BIKES)
        one.wait_until_read()
        bikes = _Bikes(rig.bootstrap, one.topic)
        tail = one.deployed.tail(one.deployed.settings.topics.alerts, from_start=False)
        waiting = {(h3.int_to_str(crowd.cell), crowd.operator): crowd for crowd in crowds}
        plan = random.Random(1)
        for start in range(0, len(crowds), CROWDS):
            _tick(bikes, crowds[start : start + CROWDS], plan, lambda: _hear(tail.poll(0.005), waiting))
            one.worker.process.check()
        deadline = time.monotonic() + 30
        while any(not crowd.heard_ms for crowd in crowds) and time.monotonic() < deadline:
            _hear(tail.poll(0.005), waiting)
        _hear(tail.poll(1.0), waiting)  # nothing may come twice
        tail.close()
    missing = sum(not crowd.heard_ms for crowd in crowds)
    require(not missing, f"{missing} of {len(crowds)} crowds raised no alert")
    beyond = [(crowd.heard_ms - crowd.due_ms) / 1000 for crowd in crowds]
    whole = [(crowd.heard_ms - crowd.sent_ms) / 1000 for crowd in crowds]
    found = Latency(quantiles(beyond, n=100)[49], quantiles(beyond, n=100)[98], quantiles(whole, n=100)[98], len(crowds))
    say(
        f"latency: {found.alerts} alerts, p50 {found.beyond_p50:.2f} s and p99 {found.beyond_p99:.2f} s beyond the tick, "
        f"{found.whole_p99:.2f} s from the ping (p99, of which up to {TICK_MS / 1000:.0f} s the tick)"
    )
    return found


def _tick(bikes: _Bikes, crowds: list[Crowd], plan: random.Random, hear: Any) -> None:
    """Fill the cells within a tick, and make each too full at a random moment of the next 5 s."""
    begin = time.monotonic()
    extra = sorted((plan.random() * TICK_MS / 1000, i) for i in range(len(crowds)))
    fill = [crowd for crowd in crowds for _ in range(crowd.size - 1)]
    plan.shuffle(fill)
    for crowd in fill:
        bikes.send(crowd, last=False)
    bikes.flush()
    for at_s, i in extra:
        while time.monotonic() < begin + at_s:
            bikes.poll()
            hear()
        bikes.send(crowds[i], last=True)
    while time.monotonic() < begin + TICK_MS / 1000:
        bikes.poll()
        hear()


def _hear(messages: list[Any], waiting: dict[tuple[str, str], Crowd]) -> None:
    now_ms = time.time_ns() // 1_000_000
    for message in messages:
        alert = json.loads(message.value())
        crowd = waiting.get((alert["area"]["h3"], alert["operator"]))
        if crowd is None:  # of the feed's own crowds
            continue
        opened_ms = round(datetime.fromisoformat(alert["opened_at"]).timestamp() * 1000)
        if alert["state"] != "raised" or crowd.heard_ms or alert["count"] != crowd.size or opened_ms != crowd.due_ms:
            raise BenchError(f"a wrong alert: {alert['state']} of {alert['count']} bikes at {alert['opened_at']}, not {crowd}")
        crowd.heard_ms = now_ms
