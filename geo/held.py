"""What is held: facts of degraded feeds that make bikes stand nowhere, until it is known if they are true. `geo/degraded.py`.

One for each bike at most, by its slot in the roster. A tick at which one comes or goes costs a copy of all that are held, any
other tick costs nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo.roster import WORDS, Change, Rows, Slots, rows_of, words_of
from geo.states import ON_TRIP

Packed = dict[str, NDArray[Any] | bytes]
Flags = NDArray[np.bool_]


class Held:
    """slots int64, ascending; operators int16; rode and stood (whether the bike stands in the roster) bool: all (n,).

    words     int64 (n, words of a row)  the facts as they came, each with its own h
    standing  int64 (operators,)         how many of them are of bikes that stand in the roster
    """

    def __init__(self, operators: int) -> None:
        self.slots: Slots = np.zeros(0, np.int64)
        self.operators = np.zeros(0, np.int16)
        self.rode: Flags = np.zeros(0, np.bool_)
        self.stood: Flags = np.zeros(0, np.bool_)
        self.words = np.zeros((0, WORDS), np.int64)
        self.standing = np.zeros(operators, np.int64)

    def __len__(self) -> int:
        return len(self.slots)

    def newer(self, change: Change) -> Change:
        """The facts that are newer than what is held of their bikes; a ride that is held is theirs, too."""
        if not len(self):
            return change
        place, found = self._find(change.slots)
        place = place[found]
        before, after = rows_of(self.words[place]), change.after[found]
        older = after["version"] < before["version"]
        older |= (after["version"] == before["version"]) & (after["source"] < before["source"])
        change.rode = change.rode.copy()
        change.rode[found] |= self.rode[place] | (before["state"] == ON_TRIP)
        keep = np.ones(len(change.slots), np.bool_)
        keep[np.flatnonzero(found)[older]] = False
        return change.take(keep)

    def put(self, change: Change) -> None:
        """Hold these, in place of what was held of their bikes."""
        self.drop(change.slots)
        order = np.argsort(change.slots)
        slots, operators, stood = change.slots[order], change.operator[order], change.before["stands"][order]
        at = np.searchsorted(self.slots, slots)
        self.slots = np.insert(self.slots, at, slots)
        self.operators = np.insert(self.operators, at, operators)
        self.rode = np.insert(self.rode, at, change.rode[order])
        self.stood = np.insert(self.stood, at, stood)
        self.words = np.insert(self.words, at, words_of(change.after)[order], axis=0)
        self._count(operators[stood], 1)

    def drop(self, slots: Slots) -> None:
        """Forget what is held of these bikes."""
        if len(self):
            place, found = self._find(slots)
            if found.any():
                keep = np.ones(len(self), np.bool_)
                keep[place[found]] = False
                self._keep(keep)

    def take(self, operators: Flags) -> tuple[Slots, NDArray[np.int16], Flags, Rows]:
        """Hand out all that is held of operators, bool (operators,): slots, operators, rode, rows."""
        theirs = operators[self.operators]
        taken = (self.slots[theirs], self.operators[theirs], self.rode[theirs], rows_of(self.words[theirs]))
        self._keep(~theirs)
        return taken

    def renumber(self, new: NDArray[np.int32]) -> None:
        """The roster moved: int32, the new slot of each old one. It keeps their order."""
        self.slots = new[self.slots].astype(np.int64)

    def pack(self, held: Flags) -> Packed:
        """held: bool (slots,), the bikes that the roster writes down."""
        slots = (np.cumsum(held) - 1)[self.slots]
        return {
            "slots": slots.astype(np.int64),
            "operators": self.operators,
            "rode": self.rode,
            "stood": self.stood,
            "rows": self.words,
        }

    @classmethod
    def restore(cls, packed: Packed, index: NDArray[np.int64], operators: int) -> Held:
        """Of `operators` operators; index int64 (n,) is where each packed one is now."""
        held = cls(operators)
        slots, owners, rode, stood, words = (
            np.asarray(packed[name]) for name in ("slots", "operators", "rode", "stood", "rows")
        )
        held.slots, held.operators = slots.astype(np.int64), index[owners].astype(np.int16)
        held.rode, held.stood = rode.astype(np.bool_), stood.astype(np.bool_)
        held.words = words.reshape(-1, WORDS).astype(np.int64)
        held._count(held.operators[held.stood], 1)
        return held

    def _find(self, slots: Slots) -> tuple[NDArray[np.intp], Flags]:
        """Of each of n bikes where it stands here, and whether it does."""
        place = np.minimum(np.searchsorted(self.slots, slots), len(self) - 1)
        return place, np.asarray(self.slots[place] == slots)

    def _keep(self, which: Flags) -> None:
        self._count(self.operators[~which & self.stood], -1)
        self.slots, self.operators = self.slots[which], self.operators[which]
        self.rode, self.stood, self.words = self.rode[which], self.stood[which], self.words[which]

    def _count(self, operators: NDArray[np.int16], by: int) -> None:
        self.standing += by * np.bincount(operators, minlength=len(self.standing))
