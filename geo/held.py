"""What is held: facts of degraded feeds that make bikes stand nowhere, until it is known if they are true. `geo/degraded.py`.

One for each bike at most, by its slot in the roster. A tick at which one comes or goes costs a copy of all that are held, any
other tick costs nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo.roster import ROW, Change, Rows, Slots
from geo.states import ON_TRIP

Packed = dict[str, NDArray[Any] | bytes]
Flags = NDArray[np.bool_]


class Held:
    """slots int64, ascending; operators int16; rode bool; rows ROW: all (n,), as they came, each with its own h."""

    def __init__(self) -> None:
        self.slots: Slots = np.zeros(0, np.int64)
        self.operators = np.zeros(0, np.int16)
        self.rode: Flags = np.zeros(0, np.bool_)
        self.rows: Rows = np.zeros(0, ROW)

    def __len__(self) -> int:
        return len(self.slots)

    def newer(self, change: Change) -> Change:
        """The facts that are newer than what is held of their bikes; a ride that is held is theirs, too."""
        if not len(self):
            return change
        place, found = self._find(change.slots)
        place = place[found]
        before, after = self.rows[place], change.after[found]
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
        slots = np.concatenate((self.slots, change.slots))
        order = np.argsort(slots)
        self.slots = slots[order]
        self.operators = np.concatenate((self.operators, change.operator))[order]
        self.rode = np.concatenate((self.rode, change.rode))[order]
        self.rows = np.concatenate((self.rows, change.after))[order]

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
        taken = (self.slots[theirs], self.operators[theirs], self.rode[theirs], self.rows[theirs])
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
            "rows": np.ascontiguousarray(self.rows).view(np.int64).reshape(-1, ROW.itemsize // 8),
        }

    @classmethod
    def restore(cls, packed: Packed, operators: NDArray[np.int16]) -> Held:
        """Operators int16 (n,) as this process counts them."""
        held = cls()
        slots, rode, words = (np.asarray(packed[name]) for name in ("slots", "rode", "rows"))
        held.slots, held.operators, held.rode = slots.astype(np.int64), operators, rode.astype(np.bool_)
        held.rows = np.ascontiguousarray(words, np.int64).reshape(-1).view(ROW)
        return held

    def _find(self, slots: Slots) -> tuple[NDArray[np.intp], Flags]:
        """Of each of n bikes where it stands here, and whether it does."""
        place = np.minimum(np.searchsorted(self.slots, slots), len(self) - 1)
        return place, np.asarray(self.slots[place] == slots)

    def _keep(self, which: Flags) -> None:
        self.slots, self.operators = self.slots[which], self.operators[which]
        self.rode, self.rows = self.rode[which], self.rows[which]
