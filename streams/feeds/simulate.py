"""A small city that lives: bikes of some operators ride, park, crowd at hot spots and are taken away by a truck.

Deterministic for a seed. It is there to make alerts come and go for the demo and for load; it is no model of any city.
Everything is stream time; one step of the world is 5 s.

The tide: for the first 40 % of a period most rides end at a hot spot, then they leave it again. So cells pass their
maximum some minutes after the start, and clear after the tide or after the truck.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import itemgetter

import h3.api.basic_str as h3
import numpy as np
import shapely
from numpy.typing import NDArray

from geo.params import City
from streams.feeds.records import FeedRecord, Router
from streams.settings import Settings

STEP_MS = 5_000
PARKED, RIDING, TAKEN = 0, 1, 2
DEFAULT_START_MS = 1_767_254_400_000  # 2026-01-01T08:00:00Z

_M_PER_DEGREE = 111_195.0
_PLAY_M = 3_000.0  # bikes live at most so far from the middle, so that rides take minutes
_SPOT_SIGMA_M = 45.0  # a crowd fits into one cell of resolution 9
_NOISE_M = 4.0
_SPEED_M_S = (3.5, 6.0)
_HEARTBEAT_MS = (50_000, 90_000)
_RIDE_PING_MS = (8_000, 15_000)
_TRUCK_REACH_M = 150.0
_TRUCK_SHARE = 0.7

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate. bikes: in each city, over all operators. seconds: of stream time; None: for ever."""

    seed: int = 1
    bikes: int = 3_000
    spots: int = 5
    seconds: int | None = None
    start_ms: int = DEFAULT_START_MS
    period_ms: int = 900_000
    truck_every_ms: int = 300_000
    operators: int = 3


def simulate(settings: Settings, plan: Plan) -> Iterator[FeedRecord]:
    """Pings of all configured cities in order of record time."""
    router = Router(settings)
    first = settings.timeline.epochs[0]
    worlds = [
        World(plan, city, number, (city.operators or first.operators)[: plan.operators])
        for number, city in enumerate(first.cities)
    ]
    records = heapq.merge(*(world.records(router) for world in worlds), key=itemgetter(0))
    if plan.seconds is None:
        return records
    end_ms = plan.start_ms + plan.seconds * 1000
    return takewhile(lambda record: record.record_ms < end_ms, records)


class World:
    """One city's bikes. Arrays have a row for each bike; x and y are metres east and north of the city's middle."""

    def __init__(self, plan: Plan, city: City, number: int, operators: Sequence[str]) -> None:
        self._plan = plan
        self._rng = np.random.default_rng([plan.seed, number])
        self._place = _Place(city, self._rng)
        self._operators = list(operators)
        n = plan.bikes
        self._operator: NDArray[np.int64] = np.arange(n) % len(self._operators)
        self._ids = [f"{city.name}-{index:05d}" for index in range(n)]
        self._spots = self._place.spots(plan.spots)
        weights = np.arange(len(self._spots), 0, -1, dtype=float)
        self._weights = weights / weights.sum()

        self._at = self._place.anywhere(n)  # (n, 2) x, y
        self._to = self._at.copy()
        self._mode = np.zeros(n, np.int8)
        self._speed = self._rng.uniform(*_SPEED_M_S, n)
        self._broken = self._rng.random(n) < 0.03
        self._due: NDArray[np.int64] = plan.start_ms + self._rng.integers(0, _HEARTBEAT_MS[1], n)
        self._event = np.zeros(n, np.int8)  # index into _EVENTS
        self._back_ms = np.zeros(n, np.int64)  # when the truck puts a taken bike down
        self._now = plan.start_ms
        self._rush()

    def records(self, router: Router) -> Iterator[FeedRecord]:
        """Pings for ever, in order of record time."""
        topics = [router.topic(operator) for operator in self._operators]
        while True:
            yield from self._step(topics)

    def _rush(self) -> None:
        """At the start the tide is under way: rides to the hot spots that are partly done."""
        bikes = np.flatnonzero((self._rng.random(len(self._ids)) < 0.35) & ~self._broken)
        self._send(bikes, to_spot=np.ones(len(bikes), bool))
        done = self._rng.random((len(bikes), 1)) * 0.95
        self._at[bikes] += (self._to[bikes] - self._at[bikes]) * done

    def _step(self, topics: Sequence[str]) -> list[FeedRecord]:
        """5 s of the world."""
        self._event[:] = 0
        self._move()
        self._depart()
        phase = self._now - self._plan.start_ms
        if phase and phase % self._plan.truck_every_ms == 0:
            self._truck()
        self._put_down()
        records = self._pings(topics)
        self._now += STEP_MS
        return records

    def _move(self) -> None:
        riding = np.flatnonzero(self._mode == RIDING)
        way = self._to[riding] - self._at[riding]
        left = np.hypot(way[:, 0], way[:, 1])
        reach = self._speed[riding] * (STEP_MS / 1000)
        there = left <= reach
        share = np.where(there, 1.0, reach / np.maximum(left, 1e-9))
        self._at[riding] += way * share[:, None]
        self._change(riding[there], PARKED, "trip_end")

    def _depart(self) -> None:
        """Parked bikes that set off. With the tide from everywhere to the spots, against it from the spots away."""
        flood = (self._now - self._plan.start_ms) % self._plan.period_ms < 0.4 * self._plan.period_ms
        crowded = self._near_spot()
        per_minute = np.where(crowded, 0.01 if flood else 0.30, 0.08 if flood else 0.02)
        chance = per_minute * (STEP_MS / 60_000)
        bikes = np.flatnonzero((self._mode == PARKED) & ~self._broken & (self._rng.random(len(chance)) < chance))
        self._send(bikes, to_spot=self._rng.random(len(bikes)) < (0.7 if flood else 0.05))

    def _near_spot(self) -> Bools:
        apart = self._at[:, None, :] - self._spots[None, :, :]
        near: Bools = np.any(np.hypot(apart[..., 0], apart[..., 1]) < _TRUCK_REACH_M, axis=1)
        return near

    def _send(self, bikes: NDArray[np.int64], *, to_spot: Bools) -> None:
        goal = self._place.anywhere(len(bikes))
        spot = self._rng.choice(len(self._spots), len(bikes), p=self._weights)
        crowd = self._spots[spot] + self._rng.normal(0, _SPOT_SIGMA_M, (len(bikes), 2))
        self._to[bikes] = np.where(to_spot[:, None], crowd, goal)
        self._change(bikes, RIDING, "trip_start")

    def _truck(self) -> None:
        """Each operator's truck takes most bikes of its fullest spot away."""
        for operator in range(len(self._operators)):
            own = (self._operator == operator) & (self._mode == PARKED)
            apart = self._at[own][:, None, :] - self._spots[None, :, :]
            near = np.hypot(apart[..., 0], apart[..., 1]) < _TRUCK_REACH_M
            fullest = int(near.sum(axis=0).argmax())
            bikes = np.flatnonzero(own)[near[:, fullest]]
            taken = bikes[self._rng.random(len(bikes)) < _TRUCK_SHARE]
            self._change(taken, TAKEN, "rebalance_pick_up")
            self._back_ms[taken] = self._now + self._rng.integers(240_000, 480_000, len(taken))

    def _put_down(self) -> None:
        bikes = np.flatnonzero((self._mode == TAKEN) & (self._back_ms <= self._now))
        self._at[bikes] = self._place.anywhere(len(bikes))
        self._change(bikes, PARKED, "rebalance_drop_off")

    def _change(self, bikes: NDArray[np.int64], mode: int, event: str) -> None:
        """A change is told at once."""
        self._mode[bikes] = mode
        self._event[bikes] = _EVENTS.index(event)
        self._due[bikes] = self._now

    def _pings(self, topics: Sequence[str]) -> list[FeedRecord]:
        """What is heard in this step: at most one ping of each bike."""
        rng = self._rng
        bikes = np.flatnonzero(self._due < self._now + STEP_MS)
        n = len(bikes)
        record_ms = np.maximum(self._due[bikes], self._now) + rng.integers(0, 1_000, n)
        record_ms = np.minimum(record_ms, self._now + STEP_MS - 1)
        ts = record_ms - rng.integers(100, 1_500, n)
        poor = rng.random(n) < 0.02
        noise = np.where(poor, 8 * _NOISE_M, _NOISE_M)[:, None] * rng.normal(0, 1, (n, 2))
        accuracy = np.where(poor, rng.integers(60, 150, n), rng.integers(3, 13, n))
        degrees = self._place.degrees(self._at[bikes] + noise)
        riding = self._mode[bikes] == RIDING
        wait = np.where(riding, rng.integers(*_RIDE_PING_MS, n), rng.integers(*_HEARTBEAT_MS, n))
        self._due[bikes] = record_ms + wait
        state = np.where(self._broken[bikes] & (self._mode[bikes] == PARKED), 3, self._mode[bikes])
        order = np.argsort(record_ms, kind="stable")
        columns = (bikes, record_ms, ts, degrees[:, 0], degrees[:, 1], accuracy, state, self._event[bikes])
        rows = zip(*(column[order].tolist() for column in columns), strict=True)
        return [self._record(row, topics) for row in rows]

    def _record(self, row: tuple[int, int, int, float, float, int, int, int], topics: Sequence[str]) -> FeedRecord:
        bike, record_ms, ts, lat, lng, accuracy, state, event = row
        operator, name = self._operator[bike], self._ids[bike]
        told = f',"event":"{_EVENTS[event]}"' if event else ""
        value = (
            f'{{"bike_id":"{name}","operator":"{self._operators[operator]}","ts":{ts},"received_at":{record_ms},'
            f'"lat":{lat:.7f},"lng":{lng:.7f},"accuracy":{accuracy},"status":"{_STATUS[state]}",'
            f'"vehicle_type":"bicycle"{told}}}'
        )
        return FeedRecord(record_ms, topics[operator], name.encode(), value.encode())


_STATUS = ("available", "on_trip", "removed", "non_operational")  # by mode; the last one: parked and broken
_EVENTS = ("", "trip_start", "trip_end", "rebalance_pick_up", "rebalance_drop_off")


class _Place:
    """Where bikes may be: the city's area near its middle. Metres on a plane, good enough over some kilometres."""

    def __init__(self, city: City, rng: np.random.Generator) -> None:
        self._rng = rng
        rings = [[[(lat / 1e7, lng / 1e7) for lat, lng in ring] for ring in polygon] for polygon in city.boundary]
        self._shape = shapely.MultiPolygon([(polygon[0], polygon[1:]) for polygon in rings])
        shapely.prepare(self._shape)
        middle = self._shape.representative_point()
        self._lat, self._lng = middle.x, middle.y  # the shape was made with latitude first
        self._scale = np.array([_M_PER_DEGREE * math.cos(math.radians(self._lat)), _M_PER_DEGREE])

    def degrees(self, metres: Floats) -> Floats:
        """(n, 2) x, y -> (n, 2) lat, lng."""
        east_north = metres / self._scale
        return np.stack([self._lat + east_north[:, 1], self._lng + east_north[:, 0]], axis=1)

    def anywhere(self, n: int) -> Floats:
        """(n, 2) points inside, evenly."""
        found = np.empty((0, 2))
        while len(found) < n:
            points = self._rng.uniform(-_PLAY_M, _PLAY_M, (max(64, 2 * (n - len(found))), 2))
            degrees = self.degrees(points)
            inside = shapely.contains_xy(self._shape, degrees[:, 0], degrees[:, 1])
            found = np.concatenate([found, points[inside]])
        return found[:n]

    def spots(self, n: int) -> Floats:
        """(n, 2) middles of different cells of resolution 9, so that a crowd is one cell's."""
        cells: dict[str, None] = {}
        for _ in range(50):
            for lat, lng in self.degrees(self.anywhere(n)).tolist():
                cells.setdefault(h3.latlng_to_cell(lat, lng, 9))
            if len(cells) >= n:
                break
        middles = np.array([h3.cell_to_latlng(cell) for cell in list(cells)[:n]])
        metres: Floats = np.stack([middles[:, 1] - self._lng, middles[:, 0] - self._lat], axis=1) * self._scale
        return metres
