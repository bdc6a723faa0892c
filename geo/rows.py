"""What `geo.bike` judges and what it says: rows of bikes, winners, facts, verdicts. All arrays, one row per bike or fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.void]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]

HOT = np.dtype(
    [
        ("ts", np.int64),  # newest accepted fix, ms; 0: nothing is known of the bike, and all else is 0 then
        ("since", np.int64),  # it stands, or rides, or is away, since; ms
        ("published_ts", np.int64),  # ts at the last fact; ms
        ("candidate_ts", np.int64),  # a fix too far to believe, until the next one confirms it; 0: none
        ("lat", np.int32),  # of the newest accepted fix
        ("lng", np.int32),
        ("place_lat", np.int32),  # where it stands, or was last seen to be moving
        ("place_lng", np.int32),
        ("place_accuracy", np.int32),  # mm
        ("history", np.uint8),  # how many of the two below there are
        ("state", np.uint8),  # as reported by the newest accepted fix
        ("city", np.int16),  # that was told last: index + 1 into Timeline.cities, 0 none
        ("place_city", np.int16),  # that the place is in, by the boundaries now in force
        ("vehicle", np.uint8),
        ("stands", np.bool_),
        ("rode", np.bool_),  # since the last fact
        ("_", np.uint8, (3,)),
    ],
)
"""What a ping of a bike at rest looks at: 64 bytes, one cache line."""

COLD = np.dtype(
    [
        ("idle_since", np.int64),  # it has not moved since; ms
        ("candidate_lat", np.int32),
        ("candidate_lng", np.int32),
        ("older_lat", np.int32),  # history: the last two fixes off the place, the newer one is the last
        ("older_lng", np.int32),
        ("newer_lat", np.int32),
        ("newer_lng", np.int32),
    ],
)
"""What only some pings look at: 32 bytes."""

BIKE = np.dtype([(name, *rest) for part in (HOT, COLD) for name, *rest in part.descr])
"""All that is known of a bike, 96 bytes."""

_RAW = np.dtype((np.void, BIKE.itemsize))


def put(rows: Rows, index: Indices, part: Rows) -> None:
    """Write some rows back. numpy copies structured rows field by field, a hundred times slower than as raw bytes."""
    rows.view(_RAW).put(index, part.view(_RAW))


@dataclass(slots=True)
class Winners:
    """n fixes of n different bikes, one row each; end is that of the fix's tick. Lengths in mm, times in ms."""

    ts: NDArray[np.int64]
    lat: NDArray[np.int32]
    lng: NDArray[np.int32]
    accuracy: NDArray[np.int32]  # 0: not reported
    state: NDArray[np.uint8]
    vehicle: NDArray[np.uint8]
    rode: NDArray[np.bool_]  # any record of the bike in the tick was on a trip
    touched: NDArray[np.bool_]
    end: NDArray[np.int64]

    def take(self, index: Indices) -> Winners:
        return Winners(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(slots=True)
class Told:
    """m facts for cities; winner is the index of the fix that each is of."""

    winner: Indices
    city: NDArray[np.int16]  # index + 1 into Timeline.cities
    lat: NDArray[np.int32]
    lng: NDArray[np.int32]
    stands: NDArray[np.bool_]
    state: NDArray[np.uint8]
    vehicle: NDArray[np.uint8]
    rode: NDArray[np.bool_]
    since: NDArray[np.int64]
    version: NDArray[np.int64]

    def take(self, index: Indices) -> Told:
        return Told(*(getattr(self, field.name)[index] for field in fields(self)))

    @classmethod
    def concatenate(cls, parts: Sequence[Told]) -> Told:
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


@dataclass(slots=True)
class Verdict:
    """What became of n winners. heard: city of the fix by CityOf of those that count as heard, -1 for the others."""

    outcome: NDArray[np.uint8]
    heard: NDArray[np.int16]
    told: Told

    @classmethod
    def none(cls, n: int, outcome: int) -> Verdict:
        """n fixes of one outcome, of which no city hears."""
        told = Told(*(np.zeros(0, dtype=dtype) for dtype in _TOLD_TYPES))
        return cls(np.full(n, outcome, dtype=np.uint8), np.full(n, -1, dtype=np.int16), told)

    @classmethod
    def concatenate(cls, parts: Sequence[Verdict]) -> Verdict:
        """Verdicts on consecutive winners as one."""
        starts = np.cumsum([0, *(len(part.outcome) for part in parts[:-1])]).tolist()
        told = [replace(part.told, winner=part.told.winner + start) for part, start in zip(parts, starts, strict=True)]
        outcome, heard = (np.concatenate([getattr(part, name) for part in parts]) for name in ("outcome", "heard"))
        return cls(outcome, heard, Told.concatenate(told))


_TOLD_TYPES = ("i8", "i2", "i4", "i4", "?", "u1", "u1", "?", "i8", "i8")
