"""The right answer for the feed of `feed.py`, from how the feed is made and not from its pings.

A bike stands at a place from its first ping there until the first ping of its next ride, and every ping counts in the
tick of its record time. So the counts per (cell, operator) at each tick are sums of steps, and the alerts follow from
docs/semantics.md, section 6, one (cell, operator) at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import h3.api.basic_int as h3
import numpy as np
from numpy.typing import NDArray

from benchmarks.feed import CYCLE_S, OPERATORS, PER_HECTARE, RESOLUTION, REST_PERIOD_S, RIDE_S, STAND_OFFSETS, World

TICK_MS = 5_000
TICK_S = TICK_MS // 1000
FOR_MS, KEEP_FIRING_MS, COOLDOWN_MS, UPDATE_MS = 60_000, 60_000, 600_000, 60_000

Ints = NDArray[np.int64]
Event = tuple[int, str, str, str, int, int]
"""(tick from the start of the stream, cell, operator, state, count, excess)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a cell: over means count > maximum, below means count < clear."""

    maximum: int
    clear: int
    target: int

    @classmethod
    def of(cls, cell: int) -> Limits:
        area_e4 = round(h3.cell_area(cell, "km^2") * 100 * 10_000)
        maximum = PER_HECTARE * area_e4 // 10_000
        return cls(maximum, -(-maximum * 8 // 10), maximum * 6 // 10)


@dataclass(frozen=True, slots=True)
class Answer:
    """After so many ticks: bikes that stand per operator, digest of all counts, and the alert events sent."""

    standing: dict[str, int]
    digest: str
    occupied: int
    events: tuple[Event, ...]


def digest_of(cells: Ints, operators: Ints, counts: Ints) -> str:
    """One name for all counts > 0 of (cell, operator), in whatever order they come."""
    some = np.flatnonzero(counts)
    rows = np.stack((cells, operators, counts), axis=1)[some].astype(np.int64)
    return blake2b(rows[np.lexsort(rows.T)].tobytes(), digest_size=8).hexdigest()


def answer(world: World, seconds: int) -> Answer:
    """What is right when the stream has run for so many seconds, a whole number of ticks, and the last is closed."""
    pairs, cells, operators = _pairs(world)
    ticks = seconds // TICK_S
    steps = np.zeros((ticks, len(cells)), np.int32)
    for second, numbers, change in _steps(world, pairs, seconds):
        np.add.at(steps, (second // TICK_S, numbers), change)
    counts = np.cumsum(steps, axis=0, dtype=np.int32)
    limits = {int(cell): Limits.of(int(cell)) for cell in np.unique(cells)}
    maximum = np.array([limits[int(cell)].maximum for cell in cells])
    events: list[Event] = []
    for pair in np.flatnonzero((counts > maximum).any(axis=0)).tolist():
        name = (h3.int_to_str(int(cells[pair])), OPERATORS[operators[pair]])
        events += [(tick, *name, *what) for tick, *what in _episode(counts[:, pair].tolist(), limits[int(cells[pair])])]
    events.sort()
    last = counts[-1]
    return Answer(
        standing={name: int(last[operators == i].sum()) for i, name in enumerate(OPERATORS)},
        digest=digest_of(cells, operators, last.astype(np.int64)),
        occupied=int((last > 0).sum()),
        events=tuple(events),
    )


def standing_at(world: World, second: int) -> dict[str, int]:
    """Bikes that stand per operator once the pings of this second are in, of a live feed that began with everyone."""
    riding = (second - world.phase[: world.movers]) % CYCLE_S < RIDE_S
    stands = np.concatenate((~riding, np.ones(world.bikes - world.movers, np.bool_)))
    return {name: int((stands & (world.operator == i)).sum()) for i, name in enumerate(OPERATORS)}


def _pairs(world: World) -> tuple[Ints, Ints, Ints]:
    """Number of the (cell, operator) of each bike's home and then of each mover's other place; cells and operators by number."""
    places = np.concatenate((world.home, world.away)) / 1e7
    cells = np.array([h3.latlng_to_cell(lat, lng, RESOLUTION) for lat, lng in places.tolist()], dtype=np.int64)
    operator = np.concatenate((world.operator, world.operator[: world.movers]))
    names, pairs = np.unique(np.stack((cells, operator), axis=1), axis=0, return_inverse=True)
    return pairs.ravel(), names[:, 0], names[:, 1]


def _steps(world: World, pairs: Ints, seconds: int) -> Iterator[tuple[Ints, Ints, int]]:
    """(second, pair, +1 or -1) of every bike that begins or ceases to stand."""
    resting = np.arange(world.movers, world.bikes)
    yield world.phase[resting] % REST_PERIOD_S, pairs[resting], 1
    phase, movers = world.phase[: world.movers], np.arange(world.movers)
    for cycle in range(-1, seconds // CYCLE_S + 1):
        place = pairs[movers + (world.bikes if cycle % 2 == 0 else 0)]  # where this cycle's ride ends
        begin = phase + cycle * CYCLE_S
        heard = np.full(world.movers, -1)  # first ping there that is in the stream
        for offset in reversed(STAND_OFFSETS):
            heard = np.where(begin + offset >= 0, begin + offset, heard)
        came = (heard >= 0) & (heard < seconds)
        yield heard[came], place[came], 1
        left = came & (begin + CYCLE_S < seconds)
        yield (begin + CYCLE_S)[left], place[left], -1


def _episode(counts: list[int], limits: Limits) -> Iterator[tuple[int, str, int, int]]:
    """(tick, state, count, excess) of the events of one (cell, operator); counts by tick."""
    over_since = below_since = None
    is_open, cooldown_end, last_tick, last_excess, severity = False, 0, 0, 0, 0
    for tick, count in enumerate(counts):
        excess = max(0, count - limits.target)
        if not is_open:
            over_since = None if count <= limits.maximum or tick < cooldown_end else tick if over_since is None else over_since
            if over_since is not None and (tick - over_since) * TICK_MS >= FOR_MS:
                is_open, below_since, over_since, last_tick, last_excess = True, None, None, tick, excess
                severity = _severity(count, limits)
                yield tick, "raised", count, excess
            continue
        below_since = None if count >= limits.clear else tick if below_since is None else below_since
        if below_since is not None and (tick - below_since) * TICK_MS >= KEEP_FIRING_MS:
            is_open, cooldown_end = False, tick + COOLDOWN_MS // TICK_MS
            yield tick, "cleared", count, 0
        elif (tick - last_tick) * TICK_MS >= UPDATE_MS and (
            _matters(abs(excess - last_excess), last_excess) or _severity(count, limits) != severity
        ):
            last_tick, last_excess, severity = tick, excess, _severity(count, limits)
            yield tick, "updated", count, excess


def _severity(count: int, limits: Limits) -> int:
    """Of three steps; the deadlines that raise it are behind the end of the stream."""
    return (2 * count >= 3 * limits.maximum) + (count >= 2 * limits.maximum)


def _matters(delta: int, last_excess: int) -> bool:
    return delta > 0 and (delta >= 3 or 5 * delta >= last_excess)
