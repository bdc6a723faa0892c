"""To tell a bike's story to a source: one ping a tick, and what the cities hear of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geo.frame import OUTCOMES, Frame
from geo.params import FOR_EVER, BikeParams, City, Epoch, Timeline
from geo.source import Records, Source, Step
from geo.spans import Spans
from geo.states import STATES, VEHICLES

TICK_MS = 5_000
START_MS = 1_700_000_000_000
LAT, LNG = 399_000_000, 1_164_000_000
METRE = 90  # of latitude, in 1e-7 degrees: a little more than a metre

Ring = tuple[tuple[int, int], ...]


def box(south: int, west: int, north: int, east: int) -> Ring:
    return ((south, west), (south, east), (north, east), (north, west))


def city(name: str, *rings: Ring) -> City:
    """A city of one polygon: its rim, then its holes."""
    return City(name, 0, "UTC", (rings,), (), ())


EAST = city("east", box(LAT - 10**6, LNG - 10**6, LAT + 10**6, LNG + 10**6))
WEST = city("west", box(LAT - 10**6, LNG - 3 * 10**6, LAT + 10**6, LNG))
WEST_LNG = LNG - 2 * 10**6


def epoch(
    from_tick: int = FOR_EVER,
    *,
    operators: Sequence[str] = ("alfa", "bravo"),
    cities: Sequence[City] = (EAST, WEST),
    **bike: int,
) -> Epoch:
    return Epoch(from_tick, f"{from_tick:x}", BikeParams(**bike), tuple(operators), (), tuple(cities))


def timeline(*epochs: Epoch) -> Timeline:
    return Timeline(TICK_MS, epochs or (epoch(),))


@dataclass(frozen=True)
class Ping:
    """at: (metres north, metres east, roughly) of (LAT, LNG) by default. ts: offset from the record's time, ms."""

    bike: str = "b1"
    north: int = 0
    east: int = 0
    state: str = "available"
    accuracy_m: int = 5
    operator: int = 0
    vehicle: str = "none"
    touched: bool = False
    late_ms: int = 0
    lat: int = LAT
    lng: int = LNG


def records(items: Sequence[tuple[int, Ping | str | None]], first_offset: int = 0) -> Records:
    """(record time, ping; None is a clock record, any text a malformed one), in order of the log."""
    pings = [(i, ms, ping) for i, (ms, ping) in enumerate(items) if isinstance(ping, Ping)]

    def column(values: list[Any], dtype: Any) -> Any:
        return np.array(values, dtype=dtype)

    valued = [ping is not None for _, ping in items]
    return Records(
        record_ms=column([ms for ms, _ in items], np.int64),
        offsets=np.arange(first_offset, first_offset + len(items)),
        items=None,
        has_value=None if all(valued) else column(valued, np.bool_),
        rows=column([i for i, _, _ in pings], np.int64),
        ids=Spans.of([ping.bike.encode() for _, _, ping in pings]),
        operator=column([ping.operator for _, _, ping in pings], np.int16),
        device_ms=column([ms - ping.late_ms for _, ms, ping in pings], np.int64),
        lat=column([ping.lat + ping.north * METRE for _, _, ping in pings], np.int32),
        lng=column([ping.lng + ping.east * METRE for _, _, ping in pings], np.int32),
        accuracy=column([ping.accuracy_m * 1000 for _, _, ping in pings], np.int32),
        state=column([STATES.index(ping.state) for _, _, ping in pings], np.uint8),
        vehicle=column([VEHICLES.index(ping.vehicle) for _, _, ping in pings], np.uint8),
        touched=column([ping.touched for _, _, ping in pings], np.bool_),
    )


def outcomes(frames: Sequence[Frame]) -> dict[str, int]:
    """How many records had each outcome, of all operators."""
    total = sum(frame.outcomes.sum(axis=0) for frame in frames)
    return {name: int(n) for name, n in zip(OUTCOMES, np.broadcast_to(total, len(OUTCOMES)), strict=True) if n}


def plain(frame: Frame) -> dict[str, Any]:
    """A frame as values that compare."""
    sections = {
        name: ([[v.tolist() if hasattr(v, "tolist") else v for v in columns(s.facts)], s.heard.tolist()])
        for name, s in frame.sections.items()
    }
    return {"tick": frame.tick, "previous": frame.previous, "sections": sections, "outcomes": frame.outcomes.tolist()}


def columns(facts: Any) -> list[Any]:
    return [getattr(facts, name) for name in type(facts).__dataclass_fields__]


@dataclass
class Told:
    """A fact in words. since and version are seconds after START_MS; at is in metres as in Ping."""

    city: str
    bike: str
    stands: bool
    state: str
    since: float
    version: float
    rode: bool
    vehicle: str
    lat: int
    lng: int
    operator: int


def told(frames: Sequence[Frame]) -> list[Told]:
    out = []
    for frame in frames:
        for name, section in sorted(frame.sections.items()):
            f = section.facts
            out += [
                Told(
                    city=name,
                    bike=f.ids[i],
                    stands=bool(f.stands[i]),
                    state=STATES[f.state[i]],
                    since=(int(f.since[i]) - START_MS) / 1000,
                    version=(int(f.version[i]) - START_MS) / 1000,
                    rode=bool(f.rode[i]),
                    vehicle=VEHICLES[f.vehicle[i]],
                    lat=int(f.lat[i]),
                    lng=int(f.lng[i]),
                    operator=int(f.operator[i]),
                )
                for i in range(len(f))
            ]
    return out


@dataclass
class Story:
    """A source that is told of one moment after the other; each `at` closes its tick."""

    timeline: Timeline = field(default_factory=timeline)
    offset: int = 0

    def __post_init__(self) -> None:
        self.source = Source(0, self.timeline)
        self.steps: list[Step] = []
        self.log: list[tuple[int, Ping | str | None]] = []

    def take(self, *items: tuple[int, Ping | str | None]) -> Step:
        step = self.source.add(records(items, self.offset))
        self.offset += len(items)
        self.log += items
        self.steps.append(step)
        return step

    def at(self, seconds: float, *pings: Ping | str) -> list[Frame]:
        """Records at a time after START_MS, and the end of their tick. The frames that this closes."""
        ms = START_MS + int(seconds * 1000)
        end = (ms // TICK_MS + 1) * TICK_MS
        return self.take(*((ms, ping) for ping in pings), (end, None)).frames

    def say(self, seconds: float, *pings: Ping) -> list[Told]:
        return told(self.at(seconds, *pings))

    def outcome(self, seconds: float, ping: Ping) -> str:
        (name,) = outcomes(self.at(seconds, ping))
        return name
