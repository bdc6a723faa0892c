"""The city's ground: which bike counts in which area, and how many do. Facts come in, what moved comes out.

Bikes are counted in layers (`geo/layers.py`): by the cells of a resolution, or by the rules of a policy. Each layer has a key
and its own table of counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geo.counts import NOWHERE, Counts
from geo.counts import Slots as Pairs
from geo.expiry import Expiry
from geo.geodesy import distance2_mm2
from geo.held import Held
from geo.layers import Cells, Layer
from geo.roster import Change, Key, Roster, Rows, Slots, Told
from geo.silence import Silence
from geo.states import ELSEWHERE, ON_TRIP, REMOVED

Causes = NDArray[np.uint8]

CAUSES = ("moved", "ridden", "status_only", "expired", "policy")
"""How bikes leave an area, in the order in which equals win. The index is the code."""

MOVED, RIDDEN, STATUS_ONLY, EXPIRED, POLICY = range(len(CAUSES))

STAYED_MM = 100_000
"""A bike that stopped standing this near to where it stood was not taken away: only its status changed."""


@dataclass(slots=True)
class Moves:
    """What moved in one tick, by key of the layer.

    touched   pairs whose count may have changed, or that are to be judged for another reason
    departed  (pairs int32, causes uint8), one entry a bike that left
    """

    tick: int
    touched: dict[Key, list[Pairs]] = field(default_factory=lambda: defaultdict(list))
    departed: dict[Key, list[tuple[Pairs, Causes]]] = field(default_factory=lambda: defaultdict(list))

    def forget(self, key: Key) -> None:
        """The pairs of this layer are no more."""
        self.touched.pop(key, None)
        self.departed.pop(key, None)

    def to_judge(self, key: Key) -> Pairs:
        """The pairs touched, once each, ascending: int32 (n,)."""
        touched = self.touched.get(key)
        return np.unique(np.concatenate(touched)) if touched else np.zeros(0, np.int32)


class Ground:
    """Roster, counts by layer, and when bikes expire: always in agreement with each other.

    fleets    int64 (operators,)  bikes of each operator that are not removed, missing or elsewhere
    standing  int64 (operators,)  bikes of each operator that stand
    """

    def __init__(self, operators: int) -> None:
        self.roster = Roster()
        self.expiry = Expiry(operators)
        self.layers: dict[Key, Layer] = {}
        self.tables: dict[Key, Counts] = {}
        self.held = Held(operators)
        self.fleets = np.zeros(operators, np.int64)
        self.standing = np.zeros(operators, np.int64)

    def weigh(self, told: Told) -> Change:
        """What facts, which carry their own h, would change."""
        return self.held.newer(self.roster.weigh(told))

    def apply(self, change: Change, moves: Moves) -> None:
        """Facts into the roster, and bikes from pair to pair."""
        if not len(change.slots):
            return
        self.roster.put(change)
        self.held.drop(change.slots)
        new = ~change.before["held"]
        self.expiry.file(change.operator[new], change.slots[new], change.after["spoken"][new])
        self._count_fleets(change.operator, change.after, 1)
        self._count_fleets(change.operator, change.before, -1)
        causes, stands = _causes(change), change.after["stands"]
        resettled = change.resettled()
        for key, layer in self.layers.items():
            new = np.flatnonzero(resettled | (stands & change.restated()) if layer.follows_states else resettled)
            pairs = np.where(stands, self.roster.pairs[key][change.slots], np.int32(NOWHERE))
            pairs[new] = self._pairs_of(key, change.after[new], change.operator[new])
            self._move(key, change.slots, pairs, causes, moves)

    def hold(self, change: Change) -> None:
        """Facts of bikes that the roster holds do not act: no more is known of these bikes than that they were heard."""
        if len(change.slots):
            self.roster.hear(change.slots, change.after["spoken"])
            self.held.put(change)

    def release(self, operators: NDArray[np.bool_], moves: Moves) -> None:
        """What is held of operators, bool (operators,), acts."""
        slots, owners, rode, after = self.held.take(operators)
        before = self.roster.take(slots)
        after["spoken"] = before["spoken"]
        self.apply(Change(slots, owners, rode, before, after), moves)

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

    def count_cells(self, resolutions: set[int]) -> None:
        """Count in the cells of these resolutions from now on, and of no others."""
        for key in [key for key, layer in self.layers.items() if isinstance(layer, Cells) and key not in resolutions]:
            self.drop(key)
        for resolution in sorted(resolutions - self.layers.keys()):
            self.lay(resolution, Cells(resolution))

    def lay(self, key: Key, layer: Layer) -> None:
        """Count by this layer from now on, under a key that has none yet: every bike that stands is put into its area."""
        self.layers[key], counts = layer, Counts()
        self.tables[key] = counts
        standing = np.flatnonzero(self.roster.rows["stands"])
        pairs = self._pairs_of(key, self.roster.take(standing), self.roster.operators[standing])
        counts.change(pairs[:0], pairs[pairs != NOWHERE])
        self.roster.place(key, standing, pairs)

    def drop(self, key: Key) -> Pairs:
        """Count by this layer no more; where the bikes were: int32, by slot."""
        del self.layers[key], self.tables[key]
        return self.roster.pairs.pop(key)

    def recount_fleets(self) -> None:
        """All of them, from the roster."""
        self.fleets[:] = 0
        self.standing[:] = 0
        self._count_fleets(self.roster.operators, self.roster.rows, 1)

    def look_at_all(self, operators: Sequence[int] | None, moves: Moves) -> None:
        """Every pair of these operators, or of all, is to be judged."""
        for key, counts in self.tables.items():
            pairs = np.arange(counts.size, dtype=np.int32)
            if operators is not None:
                pairs = pairs[np.isin(counts.operators[: counts.size], operators)]
            moves.touched[key].append(pairs)

    def compact_roster(self) -> None:
        """Give the places of bikes that are gone back, once they are many."""
        moved = self.roster.compact()
        if moved is not None:
            self.expiry.renumber(moved)
            self.held.renumber(moved)

    def compact_pairs(self, key: Key, tracked: Iterable[NDArray[np.bool_]]) -> Pairs:
        """Give the places of pairs back that are empty and not tracked, bool (size,); int32, the new slot of each old."""
        counts = self.tables[key]
        new = counts.compact(np.logical_or.reduce([counts.count[: counts.size] > 0, *tracked]))
        self.roster.pairs[key] = new[self.roster.pairs[key]]
        return new

    def _remove(self, slots: Slots, cause: int, moves: Moves) -> None:
        self._count_fleets(self.roster.operators[slots], self.roster.take(slots), -1)
        nowhere, causes = np.full(len(slots), NOWHERE, np.int32), np.full(len(slots), cause, np.uint8)
        for key in self.tables:
            self._move(key, slots, nowhere, causes, moves)
        self.roster.remove(slots)
        self.held.drop(slots)

    def _count_fleets(self, operators: NDArray[np.int16], rows: Rows, by: int) -> None:
        """Bikes came (by = 1) or went (-1): operators and rows (n,)."""
        there = rows["held"] & (rows["state"] < REMOVED)
        self.fleets += by * np.bincount(operators[there], minlength=len(self.fleets))
        self.standing += by * np.bincount(operators[rows["stands"]], minlength=len(self.standing))

    def _pairs_of(self, key: Key, rows: Rows, operators: NDArray[np.int16]) -> Pairs:
        """The pairs of n standing bikes in a layer; NOWHERE for those that count in no area."""
        codes = self.layers[key].codes(rows, operators)
        if not (codes < 0).any():
            return self.tables[key].pairs(codes, operators)
        pairs, found = np.full(len(codes), NOWHERE, np.int32), np.flatnonzero(codes >= 0)
        pairs[found] = self.tables[key].pairs(codes[found], operators[found])
        return pairs

    def _move(self, key: Key, slots: Slots, to: Pairs, causes: Causes, moves: Moves) -> None:
        """Bikes stand in other pairs now: slots int64, to int32 (NOWHERE: in none), why they left (n,)."""
        before = self.roster.pairs[key][slots]
        self.roster.pairs[key][slots] = to
        left, entered = before != to, before != to
        left &= before != NOWHERE
        entered &= to != NOWHERE
        moves.touched[key].append(self.tables[key].change(before[left], to[entered]))
        moves.departed[key].append((before[left], causes[left]))


def _causes(change: Change) -> Causes:
    """Why bikes that stood are not where they were: codes of CAUSES, uint8 (n,)."""
    before, after = change.before, change.after
    gone = ~after["stands"]
    in_place = ~gone & (before["lat"] == after["lat"]) & (before["lng"] == after["lng"])  # only another rule has it now
    ridden = change.rode | (gone & (after["state"] == ON_TRIP))
    d2 = distance2_mm2(before["lat"], before["lng"], after["lat"], after["lng"])
    stayed = gone & (after["state"] != ELSEWHERE) & (d2 <= STAYED_MM * STAYED_MM)
    return np.where(ridden, RIDDEN, np.where(stayed | in_place, STATUS_ONLY, MOVED)).astype(np.uint8)
