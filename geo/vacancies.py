"""Where an operator's bikes may be brought, and how many: what the rules in force leave free. docs/planning.md, section 3.

A place is a point in a cell. It is in an area of a rule if a bike that stood at the point would count there; what places that
share an area may get of it is given out before anything is planned, so that no plan can break a rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geo.measures import Crowding
from geo.plan import NO_LIMIT, Places
from geo.policy import UNLIMITED
from geo.states import VEHICLES
from geo.surroundings import Surroundings, codes_at
from geo.watch import Watch

_BICYCLE = VEHICLES.index("bicycle")

Numbers = NDArray[np.int64]
Coordinates = NDArray[np.int32]


class Spots(NamedTuple):
    """n cells, each once, and a point in each (1e-7 degrees).

    lacks   int64 (n,)  bikes that are missing there
    number  int64 (n,)  the cell's, if the point is its centroid, among the operator's surroundings; else -1
    """

    cell: Numbers
    lat: Coordinates
    lng: Coordinates
    lacks: Numbers
    number: Numbers

    def take(self, which: NDArray[np.intp]) -> Spots:
        return Spots(self.cell[which], self.lat[which], self.lng[which], self.lacks[which], self.number[which])


@dataclass(frozen=True, slots=True)
class Shared:
    """Areas that limit n places. place, area: int64 (k,), which is in which; room: int64 (areas,)."""

    place: Numbers
    area: Numbers
    room: Numbers


class Vacancies:
    """What there is at one tick, for one operator after the other. surroundings: of each that is asked for."""

    def __init__(self, watches: Sequence[Watch], surroundings: Mapping[int, Surroundings]) -> None:
        self._surroundings = surroundings
        self._watches = [watch for watch in watches if isinstance(watch.measure, Crowding)]
        self._promised: dict[tuple[int, int], int] = {}  # bikes that operators before bring, by (watch, area) of a limit on all

    def places(self, operator: int, kinds: Sequence[int], spots: Spots, nearest_m: Numbers) -> Places:
        """The spots as the planner wants them. kinds: codes of vehicle types; nearest_m: how far they are, int64 (n,)."""
        free = self._free(operator, kinds, spots, nearest_m)
        none, everything = np.zeros(len(free), np.int32), np.full(len(free), NO_LIMIT, np.int32)
        short = np.minimum(spots.lacks, free)
        return Places(
            cell=spots.cell,
            lat=spots.lat,
            lng=spots.lng,
            count=none,
            minimum=short.astype(np.int32),
            target=free.astype(np.int32),
            maximum=everything,
            room=everything,
        )

    def promise(self, operator: int, kinds: Sequence[int], spots: Spots, bikes: Numbers) -> None:
        """So many bikes, int64 (n,), are going to be brought to these: the next operators find less."""
        for number, watch in enumerate(self._watches):
            together = np.array([rule.all_operators for rule in watch.rules], np.bool_)
            if not together.any():
                continue
            place, codes = self._members(watch, operator, kinds, spots)
            shared = together[watch.layer.rule_of(codes)]
            for code, more in zip(codes[shared].tolist(), bikes[place[shared]].tolist(), strict=True):
                self._promised[number, code] = self._promised.get((number, code), 0) + more

    def _free(self, operator: int, kinds: Sequence[int], spots: Spots, nearest_m: Numbers) -> Numbers:
        shared = self._areas(operator, kinds, spots)
        free = np.full(len(spots.cell), UNLIMITED, np.int64)
        np.minimum.at(free, shared.place, shared.room[shared.area])
        limited = free < UNLIMITED
        free = np.where(limited, free, spots.lacks)
        wanted = np.bincount(shared.area, free[shared.place], len(shared.room))
        scarce = wanted > shared.room
        if scarce.any():
            order = np.lexsort((spots.cell, nearest_m, spots.lacks == 0))
            _give_out(free, shared, scarce[shared.area], order)
        return np.minimum(free, NO_LIMIT)

    def _areas(self, operator: int, kinds: Sequence[int], spots: Spots) -> Shared:
        """Every area that limits what these places may get."""
        place, area, room, areas = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
        for number, watch in enumerate(self._watches):
            at, codes = self._members(watch, operator, kinds, spots)
            found, each = np.unique(codes, return_inverse=True)
            left = self._room(number, watch, operator, found)
            limits = left < UNLIMITED
            renumbered = areas + np.cumsum(limits) - 1
            place.append(at[limits[each]])
            area.append(renumbered[each][limits[each]])
            room.append(left[limits])
            areas += int(np.count_nonzero(limits))
        return Shared(np.concatenate(place), np.concatenate(area), np.concatenate(room))

    def _room(self, number: int, watch: Watch, operator: int, codes: Numbers) -> Numbers:
        """How many bikes areas may still get, 0 or more; UNLIMITED if nothing says."""
        assert isinstance(watch.measure, Crowding)
        room = watch.measure.room(codes, operator)
        limited = room < UNLIMITED
        promised = np.array(
            [self._promised.get((number, code), 0) for code in codes.tolist()] if self._promised else 0, np.int64
        )
        crowded = watch.are_open(watch.counts.find(codes, np.full(len(codes), operator, np.int16)))
        return np.where(limited, np.where(crowded, 0, np.maximum(room - promised, 0)), UNLIMITED)

    def _members(self, watch: Watch, operator: int, kinds: Sequence[int], spots: Spots) -> tuple[Numbers, Numbers]:
        """(place, code of an area) of all areas in which a bike of any kind would count: each pair once."""
        place, code = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for kind in kinds if watch.layer.follows_states else kinds[:1]:
            codes = self._codes(watch, operator, kind, spots)
            known = codes >= 0
            for before_place, before_code in zip(place[1:], code[1:], strict=True):
                known[before_place[codes[before_place] == before_code]] = False
            place.append(np.flatnonzero(known))
            code.append(codes[known])
        return np.concatenate(place), np.concatenate(code)

    def _codes(self, watch: Watch, operator: int, kind: int, spots: Spots) -> Numbers:
        codes, cells = np.zeros(len(spots.cell), np.int64), spots.number >= 0
        codes[cells] = self._surroundings[operator].codes(watch.key, watch.layer, kind, spots.number[cells])
        codes[~cells] = codes_at(watch.layer, operator, kind, spots.lat[~cells], spots.lng[~cells])
        return codes


def count_in(watch: Watch, operator: int, kinds: Sequence[int], at: tuple[int, int], code: int) -> bool:
    """Whether an operator's bikes of every kind would count in an area if they stood at a point."""
    lat, lng = np.array(at[:1], np.int32), np.array(at[1:], np.int32)
    return all(codes_at(watch.layer, operator, kind, lat, lng).tolist() == [code] for kind in kinds)


def bicycles_if_none(kinds: NDArray[np.uint8]) -> list[int]:
    """Vehicle types, each once; one that was not told is a bicycle."""
    return sorted({kind or _BICYCLE for kind in np.flatnonzero(np.bincount(kinds)).tolist()})


def _give_out(free: Numbers, shared: Shared, scarce: NDArray[np.bool_], order: NDArray[np.intp]) -> None:
    """Each place in turn takes what it may have from all of its areas. scarce: bool (k,), those that have not enough for all."""
    of: dict[int, list[int]] = {}
    for place, area in zip(shared.place[scarce].tolist(), shared.area[scarce].tolist(), strict=True):
        of.setdefault(place, []).append(area)
    left = shared.room.tolist()
    for place in order.tolist():
        if areas := of.get(place):
            bikes = min(int(free[place]), *(left[area] for area in areas))
            free[place] = bikes
            for area in areas:
                left[area] -= bikes
