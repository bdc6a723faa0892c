"""Records of one partition on their way to judgement: what the record alone says of itself is settled here.

Records   as decoded, malformed ones and clock records still counted
screen    unknown_operator, future, stale, inaccurate -> Fixes
Fixes     what the ticks' close works on
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from geo.frame import OUTCOMES
from geo.idtable import IdTable, hashes_of
from geo.params import BikeParams
from geo.spans import Spans
from geo.states import ON_TRIP
from geo.ticks import Newest, newest

MALFORMED, UNKNOWN_OPERATOR, FUTURE, STALE, INACCURATE, SUPERSEDED = map(
    OUTCOMES.index, ("malformed", "unknown_operator", "future", "stale", "inaccurate", "superseded")
)

RODE, TOUCHED = np.uint8(1), np.uint8(2)

Indices = NDArray[np.int64]


@dataclass(slots=True)
class Records:
    """What n consecutive records of one partition decode to; m of them are well-formed pings, the arrays below `rows`.

    A record with several pings stands here once for each of them, with its own timestamp and offset every time: so pings of
    one record are judged like pings that were sent one behind the other.

    record_ms  int64 (n,)   Kafka's timestamps, those of clock records included
    offsets    int64 (n,)   never descending
    items      int32 (n,)   which ping of its record, from 0; -1: the record is one ping; None: all are
    has_value  bool (n,)    False: a clock record; None: all have a value
    rows       int64 (m,)   index among the n, ascending
    ids        m bike ids, UTF-8
    operator   int16 (m,)   index into Timeline.operators; -1: not known, or not the feed's
    device_ms  int64 (m,)
    lat, lng   int32 (m,)   1e-7 degrees, WGS-84
    accuracy   int32 (m,)   mm; 0: not reported
    state, vehicle          uint8 (m,), codes of geo.states
    touched    bool (m,)
    """

    record_ms: NDArray[np.int64]
    offsets: NDArray[np.int64]
    items: NDArray[np.int32] | None
    has_value: NDArray[np.bool_] | None
    rows: NDArray[np.int64]
    ids: Spans
    operator: NDArray[np.int16]
    device_ms: NDArray[np.int64]
    lat: NDArray[np.int32]
    lng: NDArray[np.int32]
    accuracy: NDArray[np.int32]
    state: NDArray[np.uint8]
    vehicle: NDArray[np.uint8]
    touched: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.record_ms)

    def part(self, start: int, stop: int) -> Records:
        """Records start to stop - 1."""
        first, last = np.searchsorted(self.rows, (start, stop)).tolist()
        columns = {field.name: getattr(self, field.name)[first:last] for field in fields(self)[5:]}
        return Records(
            record_ms=self.record_ms[start:stop],
            offsets=self.offsets[start:stop],
            items=None if self.items is None else self.items[start:stop],
            has_value=None if self.has_value is None else self.has_value[start:stop],
            rows=self.rows[first:last] - start,
            **columns,
        )


@dataclass(slots=True)
class Fixes:
    """n pings that may count, in order of the log. fit: passed every test; the others only lend the tick their marks."""

    tick: NDArray[np.int64]
    offset: NDArray[np.int64]
    item: NDArray[np.int32]  # which ping of its record; -1: the only one
    ts: NDArray[np.int64]
    operator: NDArray[np.int16]
    lat: NDArray[np.int32]
    lng: NDArray[np.int32]
    accuracy: NDArray[np.int32]
    state: NDArray[np.uint8]
    vehicle: NDArray[np.uint8]
    marks: NDArray[np.uint8]  # RODE | TOUCHED
    fit: NDArray[np.bool_]
    slot: NDArray[np.int64]  # the bike's, in geo.idtable

    def __len__(self) -> int:
        return len(self.tick)

    def take(self, rows: Indices | slice) -> Fixes:
        """Some of the rows."""
        return Fixes(*(getattr(self, name)[rows] for name in _COLUMNS))

    @classmethod
    def concatenate(cls, parts: Sequence[Fixes]) -> Fixes:
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS))

    def newest(self, scratch: NDArray[np.int32]) -> Newest:
        """As of geo.ticks, by slots."""
        return newest(self.slot, self.tick, self.ts, self.fit, self.marks, scratch)

    def reduced(self, scratch: NDArray[np.int32]) -> tuple[Fixes, Indices]:
        """Of fixes of one tick: one row per bike with all its marks, and the fit rows that it beats."""
        found = self.newest(scratch)
        beaten = self.fit.copy()
        beaten[found.rows] = False
        rest = self.take(found.rows)
        rest.marks = found.marks
        return rest, np.flatnonzero(beaten)


_COLUMNS = tuple(field.name for field in fields(Fixes))


@dataclass(slots=True)
class Screened:
    """fixes: what is left. missed: (tick, row of the outcomes matrix, outcome) of k records, int64 (3, k); None: none.

    refused: (offset, item, outcome) of those to set aside.
    """

    fixes: Fixes
    missed: NDArray[np.int64] | None
    refused: list[tuple[int, int, str]]


def screen(
    records: Records, ticks: NDArray[np.int64], params: BikeParams, allowed: NDArray[np.bool_], bikes: IdTable
) -> Screened:
    """Test n records of known ticks, each by itself; those that stay get their slot among the bikes.

    allowed: bool (operators + 1,), the last is of the unknown: False.
    """
    rows, whole = records.rows, len(records.rows) == len(records)
    operator, ids = records.operator, records.ids
    fixes = Fixes(
        tick=ticks if whole else ticks[rows],
        offset=records.offsets if whole else records.offsets[rows],
        item=np.full(len(rows), -1, dtype=np.int32) if records.items is None else records.items[rows],
        ts=records.device_ms,
        operator=operator,
        lat=records.lat,
        lng=records.lng,
        accuracy=records.accuracy,
        state=records.state,
        vehicle=records.vehicle,
        marks=(records.state == ON_TRIP) * RODE + records.touched * TOUCHED,
        fit=np.ones(len(rows), dtype=np.bool_),
        slot=np.zeros(len(rows), dtype=np.int64),
    )
    early = records.device_ms - (records.record_ms if whole else records.record_ms[rows])
    missed = [] if whole else _malformed(records, ticks, len(allowed) - 1)
    refused: list[tuple[int, int, str]] = []
    if len(rows) and not (
        early.max() <= params.future_ms
        and early.min() >= -params.ttl_ms
        and records.accuracy.max() <= params.max_accuracy_mm
        and allowed[operator].all()
    ):
        outcome = _outcomes(records, early, params, allowed)
        fixes.fit = outcome == 0
        more, refused = _missed(fixes, outcome, len(allowed) - 1)
        missed.append(more)
        kept = np.flatnonzero(fixes.fit | (outcome == INACCURATE))
        fixes, operator, ids = fixes.take(kept), operator[kept], ids[kept]
    fixes.slot = bikes.slots(hashes_of(operator, ids), operator, ids)
    return Screened(fixes, np.concatenate(missed, axis=1) if missed else None, refused)


def _malformed(records: Records, ticks: NDArray[np.int64], unknown: int) -> list[NDArray[np.int64]]:
    bad = np.ones(len(records), dtype=np.bool_) if records.has_value is None else records.has_value.copy()
    bad[records.rows] = False
    at = ticks[bad]
    return [np.stack((at, np.full(len(at), unknown), np.full(len(at), MALFORMED)))] if len(at) else []


def _outcomes(records: Records, early: NDArray[np.int64], params: BikeParams, allowed: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Outcome of each well-formed ping by itself, 0 (accepted) so far for those that pass; uint8 (m,)."""
    outcome = np.where(records.accuracy > params.max_accuracy_mm, np.uint8(INACCURATE), np.uint8(0))
    outcome[early < -params.ttl_ms] = STALE
    outcome[early > params.future_ms] = FUTURE
    outcome[~allowed[records.operator]] = UNKNOWN_OPERATOR  # the first test that fails has the last word
    return outcome


def _missed(fixes: Fixes, outcome: NDArray[np.uint8], unknown: int) -> tuple[NDArray[np.int64], list[tuple[int, int, str]]]:
    """Those that missed, and those to set aside, as in Screened."""
    missed = np.flatnonzero(outcome)
    operator = np.where(outcome == UNKNOWN_OPERATOR, unknown, fixes.operator)[missed]
    aside = np.flatnonzero((outcome == UNKNOWN_OPERATOR) | (outcome == FUTURE))
    places = zip(fixes.offset[aside].tolist(), fixes.item[aside].tolist(), outcome[aside].tolist(), strict=True)
    more = np.stack((fixes.tick[missed], operator.astype(np.int64), outcome[missed].astype(np.int64)))
    return more, [(offset, item, OUTCOMES[code]) for offset, item, code in places]


def waves(found: Newest) -> list[Newest]:
    """The groups that are not the first of their bike come after those before them: by wave, none of them empty."""
    if not found.wave.any():
        return [found] if len(found.wave) else []
    order = np.argsort(found.wave, kind="stable")
    ends = np.cumsum(np.bincount(found.wave))
    return [found.take(wave) for wave in np.split(order, ends[:-1]) if len(wave)]
