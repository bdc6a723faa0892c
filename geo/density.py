"""How many bikes of each operator stand in each cell, told at intervals of stream time. docs/semantics.md, section 9.

A cell is told when its counts, or who of its operators is silent or degraded, are not what was told of it last. A cell without a record
is empty for every operator that speaks; which ones do not, the city's own record (its *coverage*) says.

Nothing is noted while ticks are worked: at the end of an interval the table of counts is compared with what was told last,
array against array. So a tick costs nothing here, and an interval what a sort of the occupied pairs costs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from geo.alert import encode, end_of, rfc3339
from geo.cells import ALERT_RESOLUTION, name_of
from geo.counts import Counts, key_of
from geo.params import City
from geo.silence import Silence

SCHEMA = "urban-brain/density/1"
COVERAGE_SCHEMA = "urban-brain/coverage/1"

Packed = dict[str, NDArray[Any] | bytes]
Rows = NDArray[np.void]
Cells = NDArray[np.int64]

ROW = np.dtype(
    [
        ("cell", np.int64),
        ("at", np.int64),  # the tick at which the cell was told
        ("count", np.int32),
        ("operator", np.int16),
        ("silent", np.bool_),
        ("degraded", np.bool_),
    ]
)


class Telling(NamedTuple):
    """One record. cell: "" for the coverage of the city; body None: nothing (more) is there. at_ms: its stream time."""

    city: str
    cell: str
    at_ms: int
    body: bytes | None

    @property
    def key(self) -> bytes:
        return key(self.city, self.cell)


class Doubts(NamedTuple):
    """Of which operators it is not known how many bikes stand where. degraded: bool (operators,)."""

    silence: Silence
    degraded: NDArray[np.bool_]


def key(city: str, cell: str) -> bytes:
    """Of a record in the compacted topic."""
    return (f"{city}/{cell}" if cell else city).encode()


@dataclass(frozen=True, slots=True)
class _Told:
    """What is told at a tick. rows: all of `cells`, which ascend; coverage: None if it is as it was, b"" if there is none."""

    tick: int
    coverage: bytes | None
    cells: Cells
    rows: Rows


class Density:
    """What was told last, and what is still to be handed out.

    rows      ROW (n,), a row for each operator that has bikes in a cell, ascending by (cell, operator)
    coverage  body of the newest one; b"": none
    pending   whether a tick was worked since the last end of an interval
    """

    def __init__(self, city: str, operators: tuple[str, ...], tick_ms: int) -> None:
        """operators: of all times, by index."""
        self._city, self._operators, self._tick_ms = city, operators, tick_ms
        self.rows = np.zeros(0, ROW)
        self.coverage = b""
        self._coverage_at = 0  # tick
        self.pending = False
        self._waiting: list[_Told] = []

    # -- time -------------------------------------------------------------------------------------------------------------

    def deadline(self, now: int, city: City | None) -> int | None:
        """The first tick after `now` at which an interval ends, if there may be anything to tell."""
        interval_ms = city.density_interval_ms if city else 0
        if not self.pending or not interval_ms:
            return None
        end_ms = (end_of(now, self._tick_ms) // interval_ms + 1) * interval_ms
        return -(-end_ms // self._tick_ms) - 1

    def look(self, tick: int, city: City | None, counts: Counts, doubts: Doubts) -> None:
        """A tick was worked: tell what changed, if an interval ends in it. Without an interval nothing is told any more."""
        interval_ms = city.density_interval_ms if city else 0
        if city is None or not interval_ms:
            self.pending = False
            if self.coverage:
                self._tell(tick, b"", np.zeros(0, ROW))
            return
        self.pending = end_of(tick, self._tick_ms) // interval_ms == end_of(tick - 1, self._tick_ms) // interval_ms
        if not self.pending:
            self._tell(tick, self._coverage(tick, city, doubts), _rows_of(counts, doubts, tick))

    # -- what changed -----------------------------------------------------------------------------------------------------

    def _tell(self, tick: int, coverage: bytes, now: Rows) -> None:
        place = _same(now, self.rows)
        gone = np.ones(len(self.rows), np.bool_)
        gone[place[place >= 0]] = False
        cells = np.unique(np.concatenate((now["cell"][place < 0], self.rows["cell"][gone])))
        changed = np.isin(now["cell"], cells)
        now["at"][~changed] = self.rows["at"][place[~changed]]
        news = coverage != self.coverage
        if news or len(cells):
            self._waiting.append(_Told(tick, coverage if news else None, cells, now[changed]))
        self.rows, self.coverage = now, coverage

    def _coverage(self, tick: int, city: City, doubts: Doubts) -> bytes:
        """The coverage as it is now: with the time at which it was told, if it says the same."""
        if self.coverage and self._coverage_body(self._coverage_at, city, doubts) == self.coverage:
            return self.coverage
        self._coverage_at = tick
        return self._coverage_body(tick, city, doubts)

    def _coverage_body(self, tick: int, city: City, doubts: Doubts) -> bytes:
        silence, degraded = doubts.silence, self._names(doubts.degraded)
        heard = {int(i): rfc3339(end_of(int(silence.last[i]), self._tick_ms)) for i in np.flatnonzero(silence.was_heard)}
        silent = [
            {"operator": self._operators[operator], "last_heard": heard.get(operator)}
            for operator in np.flatnonzero(silence.silent).tolist()
        ]
        unheard = silence.watched & ~silence.was_heard & ~silence.silent
        body = {
            "schema": COVERAGE_SCHEMA,
            "city": self._city,
            "interval_ms": city.density_interval_ms,
            "observed_at": rfc3339(end_of(tick, self._tick_ms)),
            "resolution": ALERT_RESOLUTION,
            "silent": silent,
            "unheard": self._names(unheard),
            "watched": self._names(silence.watched),
        }
        return encode(body | {"degraded": degraded} if degraded else body)

    def _names(self, which: NDArray[np.bool_]) -> list[str]:
        return [self._operators[operator] for operator in np.flatnonzero(which).tolist()]

    # -- as records -------------------------------------------------------------------------------------------------------

    def take(self) -> Iterator[Telling]:
        """What is to be told now, once each, in order: of a tick the coverage first, then cells in ascending order."""
        waiting, self._waiting = self._waiting, []
        for told in waiting:
            at_ms = end_of(told.tick, self._tick_ms)
            if told.coverage is not None:
                yield Telling(self._city, "", at_ms, told.coverage or None)
            bodies = self._bodies(told.rows)
            for cell in told.cells.tolist():
                yield Telling(self._city, name_of(cell), at_ms, bodies.get(cell))

    def newest(self, cells: Collection[int] | None = None) -> Iterator[Telling]:
        """What was told last of these cells, or of all, and of the city; nothing of what is empty."""
        if self.coverage:
            yield Telling(self._city, "", end_of(self._coverage_at, self._tick_ms), self.coverage)
        rows = self.rows if cells is None else self.rows[np.isin(self.rows["cell"], np.array(list(cells), np.int64))]
        at = dict(zip(rows["cell"].tolist(), rows["at"].tolist(), strict=True))
        for cell, body in self._bodies(rows).items():
            yield Telling(self._city, name_of(cell), end_of(at[cell], self._tick_ms), body)

    @property
    def cells(self) -> int:
        """Cells that were told and are not empty."""
        return int(np.count_nonzero(np.diff(self.rows["cell"], prepend=-1)))

    def _bodies(self, rows: Rows) -> dict[int, bytes]:
        """The body of each cell in rows, by cell: as `encode` would write it, but put together, which is cheaper by far."""
        names = [orjson.dumps(name).decode() for name in self._operators]
        city, schema = orjson.dumps(self._city).decode(), orjson.dumps(SCHEMA).decode()
        times = {tick: rfc3339(end_of(tick, self._tick_ms)) for tick in np.unique(rows["at"]).tolist()}
        cells, at, operators, silent, degraded = (
            rows[name].tolist() for name in ("cell", "at", "operator", "silent", "degraded")
        )
        counts = [f"{names[operator]}:{count}" for operator, count in zip(operators, rows["count"].tolist(), strict=True)]
        any_silent, any_degraded = rows["silent"].any(), rows["degraded"].any()
        starts = np.flatnonzero(np.diff(rows["cell"], prepend=-1)).tolist()
        bodies = {}
        for start, end in pairwise([*starts, len(rows)]):
            cell = cells[start]
            quiet = ",".join(names[operators[i]] for i in range(start, end) if silent[i]) if any_silent else ""
            lost = ",".join(names[operators[i]] for i in range(start, end) if degraded[i]) if any_degraded else ""
            more = f'"degraded":[{lost}],' if lost else ""
            text = (
                f'{{"city":{city},"counts":{{{",".join(counts[start:end])}}},{more}"h3":"{name_of(cell)}",'
                f'"observed_at":"{times[at[start]]}","resolution":{ALERT_RESOLUTION},"schema":{schema},"silent":[{quiet}]}}'
            )
            bodies[cell] = text.encode()
        return bodies

    # -- written down -----------------------------------------------------------------------------------------------------

    def pack(self) -> Packed:
        """What was told last. What waits to be handed out is none of it: it is handed out before a state is packed."""
        columns: Packed = {name: np.ascontiguousarray(self.rows[name]) for name in ROW.names or ()}
        numbers = np.array([self._coverage_at, self.pending], np.int64)
        return columns | {"numbers": numbers, "coverage": self.coverage}

    def restore(self, packed: Packed, index: NDArray[np.int64]) -> None:
        """Take over what was packed; index int64 (n,) is where each operator of then is now, which keeps their order."""
        cells = np.asarray(packed["cell"])
        self.rows = np.zeros(len(cells), ROW)
        for name in ROW.names or ():
            self.rows[name] = packed[name]
        self.rows["operator"] = index[np.asarray(packed["operator"])]
        self._coverage_at, pending = np.asarray(packed["numbers"]).tolist()
        self.pending = bool(pending)
        coverage = packed["coverage"]
        assert isinstance(coverage, bytes)
        self.coverage = coverage


def _rows_of(counts: Counts, doubts: Doubts, tick: int) -> Rows:
    """What stands now, as if all of it were told at a tick."""
    occupied = np.flatnonzero(counts.count[: counts.size])
    order = np.argsort(key_of(counts.codes[occupied], counts.operators[occupied]))
    occupied = occupied[order]
    rows = np.zeros(len(occupied), ROW)
    rows["cell"], rows["operator"] = counts.codes[occupied], counts.operators[occupied]
    rows["count"], rows["at"] = counts.count[occupied], tick
    rows["silent"] = doubts.silence.silent[rows["operator"]]
    rows["degraded"] = doubts.degraded[rows["operator"]]
    return rows


def _same(rows: Rows, others: Rows) -> NDArray[np.int64]:
    """Where in `others` each row stands with the same count and doubts: int64 (n,), -1: nowhere. Both ascend."""
    keys, known = _keys(rows), _keys(others)
    place = np.searchsorted(known, keys)
    found = np.flatnonzero(place < len(known))
    at = place[found]
    same = known[at] == keys[found]
    for name in ("count", "silent", "degraded"):
        same &= others[name][at] == rows[name][found]
    place[found[~same]] = -1
    place[place == len(known)] = -1
    return place


def _keys(rows: Rows) -> NDArray[np.uint64]:
    return key_of(np.ascontiguousarray(rows["cell"]), rows["operator"])
