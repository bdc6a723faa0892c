"""Who stands where: the newest that a city was told of each bike, one row of 40 bytes each, and its pair per layer.

A bike's slot is its number in all arrays. One that expires keeps its slot, empty, until a quarter of all are: then the
rest moves together. A bike that stands nowhere has a row as well, so that an older fact that comes late cannot revive it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo.alert import Bike
from geo.counts import NOWHERE
from geo.counts import Slots as Pairs
from geo.frame import Section
from geo.idtable import IdTable, hashes_of
from geo.spans import Spans
from geo.states import NO_VEHICLE, NON_OPERATIONAL, RESERVED, STATES, VEHICLES

Slots = NDArray[np.int64]
Rows = NDArray[np.void]
Key = int | str
"""Of a layer: a resolution for its cells, or the id of a policy."""

Packed = dict[str, NDArray[Any] | bytes]

ROW = np.dtype(
    [
        ("since", np.int64),  # ms
        ("version", np.int64),  # ms, device time; of equals the greater source wins, then the later tick
        ("spoken", np.int64),  # h: its operator's speaking time when it was heard last, ms
        ("lat", np.int32),  # 1e-7 degrees
        ("lng", np.int32),
        ("source", np.int16),
        ("state", np.uint8),
        ("vehicle", np.uint8),
        ("stands", np.bool_),
        ("held", np.bool_),  # false: the slot is empty
        ("unused", np.int16),
    ]
)
WORDS = ROW.itemsize // 8
_SPOKEN = 2  # the word of a row that is `spoken`
_FEW = 4096  # empty slots are not worth moving the others


@dataclass(slots=True)
class Told:
    """What all sources say in one tick, at most once of each bike: operator int16, rode bool, rows ROW, all (n,)."""

    operator: NDArray[np.int16]
    ids: list[str]
    rode: NDArray[np.bool_]
    rows: Rows

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, which: NDArray[np.intp]) -> Told:
        return Told(self.operator[which], [self.ids[i] for i in which.tolist()], self.rode[which], self.rows[which])


@dataclass(slots=True)
class Change:
    """Rows that are replaced, or would be: slots int64, operator int16, rode bool, before and after ROW, all (n,)."""

    slots: Slots
    operator: NDArray[np.int16]
    rode: NDArray[np.bool_]
    before: Rows
    after: Rows

    def take(self, which: NDArray[np.bool_]) -> Change:
        """Some of them: bool (n,)."""
        if which.all():
            return self
        return Change(self.slots[which], self.operator[which], self.rode[which], self.before[which], self.after[which])

    def restated(self) -> NDArray[np.bool_]:
        """Which of them have another state or type than they had: bool (n,)."""
        before, after = self.before, self.after
        return np.asarray((before["state"] != after["state"]) | (before["vehicle"] != after["vehicle"]))

    def resettled(self) -> NDArray[np.bool_]:
        """Which of them stand at a position at which they did not stand before: bool (n,)."""
        before, after = self.before, self.after
        stayed = before["stands"] & (before["lat"] == after["lat"]) & (before["lng"] == after["lng"])
        return np.asarray(after["stands"] & ~stayed)


def told_by(sections: Sequence[tuple[int, Section]]) -> Told:
    """The facts of (source, section) pairs as one."""
    told = [(source, section.facts) for source, section in sections if len(section.facts)]
    rows = np.zeros(sum(len(facts) for _, facts in told), ROW)
    for name in ("lat", "lng", "stands", "state", "vehicle", "since", "version"):
        rows[name] = np.concatenate([getattr(facts, name) for _, facts in told]) if told else 0
    rows["source"] = np.repeat([source for source, _ in told], [len(facts) for _, facts in told])
    rows["held"] = True
    return Told(
        operator=np.concatenate([facts.operator for _, facts in told]) if told else np.zeros(0, np.int16),
        ids=[id_ for _, facts in told for id_ in facts.ids],
        rode=np.concatenate([facts.rode for _, facts in told]) if told else np.zeros(0, np.bool_),
        rows=rows,
    )


def rows_of(words: NDArray[np.int64]) -> Rows:
    """Rows as they are kept, int64 (n, WORDS), as ROW (n,). As words they are copied many times faster."""
    return words.view(ROW)[:, 0]


def words_of(rows: Rows) -> NDArray[np.int64]:
    """The other way."""
    return rows.view(np.int64).reshape(-1, WORDS)


class Roster:
    """Rows by bike. pairs: by layer, int32 (capacity,): the pair in which it counts, or NOWHERE."""

    def __init__(self) -> None:
        self._ids = IdTable()
        self._words = np.zeros((0, WORDS), np.int64)
        self._empty = 0  # slots below len(self._ids)
        self.pairs: dict[Key, Pairs] = {}

    def __len__(self) -> int:
        """Bikes held, wherever they stand."""
        return len(self._ids) - self._empty

    @property
    def rows(self) -> Rows:
        """ROW (slots in use,): a view."""
        return rows_of(self._words[: len(self._ids)])

    @property
    def operators(self) -> NDArray[np.int16]:
        """int16 (slots in use,)."""
        return self._ids.operators

    def spoken(self, slots: NDArray[np.signedinteger[Any]]) -> NDArray[np.int64]:
        """h of these bikes: int64 (n,)."""
        return np.asarray(self._words[slots, _SPOKEN])

    def take(self, slots: Slots) -> Rows:
        """Copies of rows: ROW (n,)."""
        return rows_of(self._words.take(slots, axis=0))

    def weigh(self, told: Told) -> Change:
        """What would change by what is newer than what is held. The rows told carry their own h; it never falls.

        Nothing is written yet: `put` does. What is told of bikes that are not held is to be put, as they have slots now.
        """
        known = len(self._ids)
        ids = Spans.of([id_.encode() for id_ in told.ids])
        slots = self._ids.slots(hashes_of(told.operator, ids), told.operator, ids)
        self._empty += len(self._ids) - known
        self._fit()
        newest = _newest(slots, told.rows)
        if len(newest) < len(told):
            told, slots = told.take(newest), slots[newest]
        before, after = self.take(slots), told.rows
        newer = after["version"] > before["version"]
        newer |= (after["version"] == before["version"]) & (after["source"] >= before["source"])
        acts = np.flatnonzero(newer | ~before["held"])
        if len(acts) < len(slots):
            told, slots, before, after = told.take(acts), slots[acts], before[acts], after[acts]
        after["spoken"] = np.where(before["held"], np.maximum(before["spoken"], after["spoken"]), after["spoken"])
        return Change(slots, told.operator, told.rode, before, after)

    def put(self, change: Change) -> None:
        """Write what changes."""
        self._words[change.slots] = words_of(change.after)
        self._empty -= int(np.count_nonzero(~change.before["held"]))

    def hear(self, slots: Slots, spoken: NDArray[np.int64]) -> None:
        """These bikes were heard: h, int64 (n,); it never falls. Nothing else is known of them."""
        self._words[slots, _SPOKEN] = np.maximum(self._words[slots, _SPOKEN], spoken)

    def place(self, key: Key, slots: Slots, pairs: Pairs) -> None:
        """These bikes count in these pairs of a layer, int32 (n,), all others nowhere."""
        self.pairs[key] = np.full(len(self._words), NOWHERE, np.int32)
        self.pairs[key][slots] = pairs

    def remove(self, slots: Slots) -> None:
        """These bikes are not held any more."""
        self._words[slots] = 0
        for pairs in self.pairs.values():
            pairs[slots] = NOWHERE
        self._empty += len(slots)

    def of_operators(self, operators: NDArray[np.bool_]) -> Slots:
        """The bikes held of operators: bool (operators,)."""
        return np.flatnonzero(self.rows["held"] & operators[self.operators])

    def compact(self) -> Pairs | None:
        """Move the bikes together if many slots are empty: int32, the new slot of each old one (-1: it was empty)."""
        if self._empty < max(_FEW, len(self._ids) // 4):
            return None
        held = self.rows["held"].copy()
        new = np.where(held, np.cumsum(held) - 1, -1).astype(np.int32)
        old = np.flatnonzero(held)
        self._words = self._words[old]
        self.pairs = {key: pairs[old] for key, pairs in self.pairs.items()}
        self._ids.keep(held)
        self._empty = 0
        return new

    def listing(self, key: Key, wanted: dict[int, int]) -> dict[int, list[Bike]]:
        """By pair, the first bikes to move, at most as many as wanted of each: broken ones, then longest idle, then by id.

        Reserved ones are somebody's and stay. One pass over the roster, however many pairs are asked for.
        """
        slots = self._standing_in(key, np.array(list(wanted), np.int32))
        rows = self.take(slots)
        free = rows["state"] != RESERVED
        slots, rows = slots[free], rows[free]
        pairs, broken = self.pairs[key][slots], rows["state"] == NON_OPERATIONAL
        order = np.lexsort((rows["since"], ~broken, pairs))
        slots, rows, pairs, broken = slots[order], rows[order], pairs[order], broken[order]
        listed = {}
        for pair, limit in wanted.items():
            start, end = np.searchsorted(pairs, pair), np.searchsorted(pairs, pair, side="right")
            if start + limit < end:  # those that equal the last one that fits are told apart by their ids
                last = start + limit - 1
                equal = (rows["since"][start:end] == rows["since"][last]) & (broken[start:end] == broken[last])
                end = start + limit + np.count_nonzero(equal[limit:])
            bikes = self._bikes(slots[start:end], rows[start:end])
            listed[pair] = first_of([bikes], limit)
        return listed

    def pack(self) -> Packed:
        """The bikes held; where they stand is for the city to write down."""
        held = self.rows["held"].copy()
        return {
            "rows": self._words[: len(held)][held],
            "operators": self.operators[held],
            "ids": self._ids.packed_ids(held),
        }

    @classmethod
    def restore(cls, packed: Packed, operators: NDArray[np.int16]) -> Roster:
        """The roster of these bikes, in the order packed; operators int16 (n,) as this process counts them."""
        roster = cls()
        ids, words = packed["ids"], packed["rows"]
        assert isinstance(ids, bytes) and not isinstance(words, bytes)
        roster._ids = IdTable.of(operators, ids)
        roster._words = words.reshape(-1, WORDS).astype(np.int64, copy=True)
        return roster

    def _standing_in(self, key: Key, pairs: Pairs) -> Slots:
        where = self.pairs[key]
        if not len(pairs):
            return np.zeros(0, np.int64)
        if len(pairs) < 4:  # cheaper than looking every bike's pair up
            return np.flatnonzero(np.logical_or.reduce([where == pair for pair in pairs]))
        asked = np.zeros(int(max(pairs.max(), where.max())) + 2, np.bool_)  # the last one is of NOWHERE
        asked[pairs] = True
        return np.flatnonzero(asked[where])

    def _bikes(self, slots: Slots, rows: Rows) -> list[Bike]:
        ids = self._ids.ids(slots)
        columns = (rows[name].tolist() for name in ("lat", "lng", "since", "version", "state", "vehicle"))
        return [
            Bike(id_, lat, lng, since, version, STATES[state], None if vehicle == NO_VEHICLE else VEHICLES[vehicle])
            for id_, lat, lng, since, version, state, vehicle in zip(ids, *columns, strict=True)
        ]

    def _fit(self) -> None:
        """Room for every id: a quarter more than is needed."""
        n = len(self._ids)
        if n > len(self._words):
            more = n + n // 4 + 1024 - len(self._words)
            self._words = np.concatenate((self._words, np.zeros((more, WORDS), np.int64)))
            for key, pairs in self.pairs.items():
                self.pairs[key] = np.concatenate((pairs, np.full(more, NOWHERE, np.int32)))


def first_of(lists: Sequence[Sequence[Bike]], limit: int) -> list[Bike]:
    """The first bikes to move of all that are listed."""
    bikes = sorted(chain.from_iterable(lists), key=lambda bike: (bike.state != STATES[NON_OPERATIONAL], bike.since, bike.id))
    return bikes[:limit]


def _newest(slots: Slots, rows: Rows) -> NDArray[np.intp]:
    """Of the facts of each bike the one of greatest (version, source), the later one of equals; in the order told."""
    order = np.lexsort((rows["source"], rows["version"], slots))
    last = np.ones(len(order), np.bool_)
    last[:-1] = slots[order][1:] != slots[order][:-1]
    return np.sort(order[last])
