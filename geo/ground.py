"""The city's ground: which bike stands in which cell, and how many do. Facts come in, what moved comes out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geo.cells import cells_of
from geo.counts import NOWHERE, Counts
from geo.counts import Slots as Pairs
from geo.expiry import Expiry
from geo.geodesy import distance2_mm2
from geo.roster import Change, Roster, Slots, Told
from geo.silence import Silence
from geo.states import ELSEWHERE, ON_TRIP

Causes = NDArray[np.uint8]

CAUSES = ("moved", "ridden", "status_only", "expired")
"""How bikes leave a cell, in the order in which equals win. The index is the code."""

MOVED, RIDDEN, STATUS_ONLY, EXPIRED = range(len(CAUSES))

STAYED_MM = 100_000
"""A bike that stopped standing this near to where it stood was not taken away: only its status changed."""


@dataclass(slots=True)
class Moves:
    """What moved in one tick, by resolution.

    touched   pairs whose count may have changed, or that are to be judged for another reason
    departed  (pairs int32, causes uint8), one entry a bike that left
    """

    touched: dict[int, list[Pairs]] = field(default_factory=lambda: defaultdict(list))
    departed: dict[int, list[tuple[Pairs, Causes]]] = field(default_factory=lambda: defaultdict(list))

    def to_judge(self, resolution: int) -> Pairs:
        """The pairs touched, once each, ascending: int32 (n,)."""
        touched = self.touched.get(resolution)
        return np.unique(np.concatenate(touched)) if touched else np.zeros(0, np.int32)


class Ground:
    """Roster, counts by resolution, and when bikes expire: always in agreement with each other."""

    def __init__(self, operators: int) -> None:
        self.roster = Roster()
        self.expiry = Expiry(operators)
        self.tables: dict[int, Counts] = {}

    def apply(self, told: Told, moves: Moves) -> None:
        """Facts, which carry their own h, into the roster, and bikes from pair to pair."""
        if not len(told):
            return
        change = self.roster.apply(told)
        new = ~change.before["held"]
        self.expiry.file(change.operator[new], change.slots[new], change.after["spoken"][new])
        causes, stands, resettled = _causes(change), change.after["stands"], np.flatnonzero(change.resettled())
        lat, lng = change.after["lat"][resettled], change.after["lng"][resettled]
        for resolution, counts in self.tables.items():
            pairs = np.where(stands, self.roster.pairs[resolution][change.slots], np.int32(NOWHERE))
            pairs[resettled] = counts.pairs(cells_of(lat, lng, resolution), change.operator[resettled])
            self._move(resolution, change.slots, pairs, causes, moves)

    def expire(self, silence: Silence, ttl_ms: int, moves: Moves) -> None:
        """Bikes that were not heard for so much of their operator's speaking time leave."""
        slots = self.expiry.pop(silence, ttl_ms, self.roster.spoken)
        if len(slots):
            self._remove(slots, EXPIRED, moves)

    def banish(self, operators: NDArray[np.bool_], moves: Moves) -> None:
        """All bikes of operators leave: bool (operators,)."""
        self._remove(self.roster.of_operators(operators), MOVED, moves)
        for operator in np.flatnonzero(operators).tolist():
            self.expiry.drop(operator)

    def count_at(self, resolutions: set[int]) -> None:
        """Count at these resolutions from now on, and at no others."""
        for resolution in self.tables.keys() - resolutions:
            del self.tables[resolution], self.roster.pairs[resolution]
        standing = np.flatnonzero(self.roster.rows["stands"])
        rows, operators = self.roster.take(standing), self.roster.operators[standing]
        for resolution in sorted(resolutions - self.tables.keys()):
            counts = self.tables[resolution] = Counts(resolution)
            pairs = counts.pairs(cells_of(rows["lat"], rows["lng"], resolution), operators)
            counts.change(pairs[:0], pairs)
            self.roster.place(resolution, standing, pairs)

    def look_at_all(self, operators: Sequence[int] | None, moves: Moves) -> None:
        """Every pair of these operators, or of all, is to be judged."""
        for resolution, counts in self.tables.items():
            pairs = np.arange(counts.size, dtype=np.int32)
            if operators is not None:
                pairs = pairs[np.isin(counts.operators[: counts.size], operators)]
            moves.touched[resolution].append(pairs)

    def compact_roster(self) -> None:
        """Give the places of bikes that are gone back, once they are many."""
        moved = self.roster.compact()
        if moved is not None:
            self.expiry.renumber(moved)

    def compact_pairs(self, resolution: int, tracked: Iterable[NDArray[np.bool_]]) -> Pairs:
        """Give the places of pairs back that are empty and not tracked, bool (size,); int32, the new slot of each old."""
        counts = self.tables[resolution]
        new = counts.compact(np.logical_or.reduce([counts.count[: counts.size] > 0, *tracked]))
        self.roster.pairs[resolution] = new[self.roster.pairs[resolution]]
        return new

    def _remove(self, slots: Slots, cause: int, moves: Moves) -> None:
        nowhere, causes = np.full(len(slots), NOWHERE, np.int32), np.full(len(slots), cause, np.uint8)
        for resolution in self.tables:
            self._move(resolution, slots, nowhere, causes, moves)
        self.roster.remove(slots)

    def _move(self, resolution: int, slots: Slots, to: Pairs, causes: Causes, moves: Moves) -> None:
        """Bikes stand in other pairs now: slots int64, to int32 (NOWHERE: in none), why they left (n,)."""
        before = self.roster.pairs[resolution][slots]
        self.roster.pairs[resolution][slots] = to
        left, entered = before != to, before != to
        left &= before != NOWHERE
        entered &= to != NOWHERE
        moves.touched[resolution].append(self.tables[resolution].change(before[left], to[entered]))
        moves.departed[resolution].append((before[left], causes[left]))


def _causes(change: Change) -> Causes:
    """Why bikes that stood are not where they were: codes of CAUSES, uint8 (n,)."""
    before, after = change.before, change.after
    gone = ~after["stands"]
    ridden = change.rode | (gone & (after["state"] == ON_TRIP))
    d2 = distance2_mm2(before["lat"], before["lng"], after["lat"], after["lng"])
    stayed = gone & (after["state"] != ELSEWHERE) & (d2 <= STAYED_MM * STAYED_MM)
    return np.where(ridden, RIDDEN, np.where(stayed, STATUS_ONLY, MOVED)).astype(np.uint8)
