"""One input partition of bikes: records in, frames out. The state stands at a tick's end at all times.

    add      screen by the record alone, lay by in the open tick
    close    newest fix per tick and bike -> waves -> geo.bike.judge -> frames

A batch may close many ticks. They are judged together: wave w holds each bike's w-th winner of the batch, so that a bike's
fixes are judged in order and all bikes and ticks of a wave at once. How the log is cut into batches changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from geo.bike import judge
from geo.borders import Borders, Boundary
from geo.frame import OUTCOMES, Frame
from geo.framing import frames
from geo.idtable import IdTable
from geo.memory import Memory
from geo.packing import Packed, pack_bikes, pack_clock, unpack_bikes, unpack_clock
from geo.params import BikeParams, Timeline
from geo.records import RODE, SUPERSEDED, TOUCHED, Fixes, Records, Screened, screen, waves
from geo.rest import pass_over
from geo.rows import Told, Verdict, Winners
from geo.ticks import TickClock

__all__ = ["Records", "Source", "Step"]

INTERNAL_ERROR = OUTCOMES.index("internal_error")

REDUCE_AT = 200_000
"""Records of one open tick that are kept as they came; beyond, only the newest of each bike."""

_LEAST_ROWS = 1024
_GROWTH = 1.25

Indices = NDArray[np.int64]


@dataclass(slots=True)
class Step:
    """What some records brought about: frames in order of ticks, and (offset, item, outcome) of pings to set aside.

    item: which ping of the record at that offset, as in `Records.items`.

    The malformed ones are not among them: the decoder knows them already. An internal error is found when its tick
    closes, so its record may be of an earlier call.
    """

    frames: list[Frame]
    refused: list[tuple[int, int, str]]


@dataclass(frozen=True, slots=True)
class _Rules:
    """What one epoch says, ready for use. allowed: bool (operators + 1,), the last is of those that are not known."""

    params: BikeParams
    allowed: NDArray[np.bool_]
    borders: Borders


class Source:
    """The state of one input partition. index: its number among all (topic, partition), in order."""

    def __init__(self, index: int, timeline: Timeline) -> None:
        self.index = index
        self._timeline = timeline
        self._clock = TickClock(timeline.tick_ms)
        self._rules: dict[int, _Rules] = {}
        self._bikes = IdTable()
        self._memory = Memory()
        self._borders: Borders | None = None  # those that place_city is by
        self._sweep_at = _LEAST_ROWS
        self._open: list[Fixes] = []
        self._missed = self._no_outcomes(1)[0]  # of the open tick: int64 (operators + 1, outcomes), of those not in _open
        self._reduce_at = REDUCE_AT

    @property
    def through(self) -> int:
        """Complete through this tick; -1 before any record."""
        return self._clock.through

    @property
    def last_tick(self) -> int:
        """The last closed tick that had a record; -1 if there was none."""
        return self._clock.last_tick

    @property
    def resume_offset(self) -> int | None:
        return self._clock.resume_offset

    @property
    def resume_clock(self) -> int:
        return self._clock.resume_clock

    def bikes(self) -> int:
        """How many bikes are in memory."""
        return len(self._bikes)

    def memory(self) -> int:
        """Bytes that the bikes take, ids and all, without the open tick."""
        return self._memory.nbytes() + self._bikes.memory()

    # --- records in ---------------------------------------------------------------------------------------------------

    def add(self, records: Records) -> Step:
        """Take the next records of the log. Gives the frames of all ticks that they close, in order."""
        step = Step([], [])
        for part in self._by_epoch(records):
            self._take(part, step)
        return step

    def _by_epoch(self, records: Records) -> Iterator[Records]:
        """Runs of records whose ticks are of one epoch each."""
        if not len(records):
            return
        starts = [epoch.from_tick for epoch in self._timeline.epochs[1:]]
        if not starts:
            yield records
            return
        ticks = self._clock.ticks(records.record_ms)
        cuts = sorted({0, len(records), *np.searchsorted(ticks, starts).tolist()})
        for start, stop in pairwise(cuts):
            yield records.part(start, stop)

    def _take(self, records: Records, step: Step) -> None:
        clock = self._clock
        ticks = clock.ticks(records.record_ms)
        last = int(ticks[-1])
        epoch = self._timeline.index_at(last)
        rules = self._at(epoch)
        screened = screen(records, ticks, rules.params, rules.allowed, self._bikes)
        self._memory.make_room(len(self._bikes))
        step.refused += screened.refused
        if last > clock.open:
            valued = ticks if records.has_value is None else ticks[records.has_value]
            before = valued[: np.searchsorted(valued, last)]  # they ascend
            closing = before[np.flatnonzero(np.diff(before, prepend=-1))]
            if clock.first_offset is not None:
                if self._timeline.index_at(clock.open) != epoch:
                    self._close(np.array([clock.open]), self._missed[None], step)
                    self._open, self._missed = [], self._no_outcomes(1)[0]
                else:
                    closing = np.union1d(closing, [clock.open])
            screened = self._close_with(closing, last, screened, step)
        if screened.missed is not None:
            _, row, outcome = screened.missed
            np.add.at(self._missed, (row, outcome), 1)
        if len(screened.fixes):
            self._open.append(screened.fixes)
        clock.advance(records.record_ms, records.offsets, ticks, records.has_value)
        if sum(map(len, self._open)) > self._reduce_at:
            self._reduce()
        if len(self._bikes) >= self._sweep_at:
            self._sweep()

    def _close_with(self, closing: Indices, last: int, screened: Screened, step: Step) -> Screened:
        """Close some ticks; gives what of the screened is of tick `last`, which stays open."""
        missed = self._no_outcomes(len(closing))
        rest = screened.missed
        if len(closing):
            missed[0] += self._missed  # nothing, unless the first to close is the tick that was open
            if rest is not None:
                tick, row, outcome = rest[:, rest[0] < last]
                np.add.at(missed, (np.searchsorted(closing, tick), row, outcome), 1)
        if rest is not None:
            rest = rest[:, rest[0] == last]
        cut = int(np.searchsorted(screened.fixes.tick, last))
        self._open.append(screened.fixes.take(slice(cut)))
        if len(closing):
            self._close(closing, missed, step)
        self._open, self._missed = [], self._no_outcomes(1)[0]
        return Screened(screened.fixes.take(slice(cut, None)), rest, [])

    def _reduce(self) -> None:
        """Keep only what can still matter of a huge open tick."""
        fixes = Fixes.concatenate(self._open)
        rest, beaten = fixes.reduced(self._memory.scratch)
        np.add.at(self._missed[:, SUPERSEDED], fixes.operator[beaten], 1)
        self._open, self._reduce_at = [rest], max(REDUCE_AT, 2 * len(rest))

    # --- ticks closed -------------------------------------------------------------------------------------------------

    def _close(self, ticks: Indices, missed: NDArray[np.int64], step: Step) -> None:
        """Judge the open fixes, which are all of these non-empty ticks of one epoch. missed: int64 (T, operators + 1, outcomes)."""
        rules = self._at(self._timeline.index_at(int(ticks[0])))
        if rules.borders is not self._borders:
            self._move_borders(rules.borders)
        judged = None
        if any(map(len, self._open)):
            fixes = Fixes.concatenate(self._open)
            ends = np.searchsorted(fixes.tick, ticks, side="right")  # they stand in the order of the log
            at = np.repeat(np.arange(len(ticks)), np.diff(ends, prepend=0))
            judged = fixes, at, self._judge_all(fixes, rules, step)
        step.frames += frames(
            source=self.index,
            timeline=self._timeline,
            ticks=ticks,
            previous=self.last_tick,
            outcomes=missed,
            judged=judged,
            bikes=self._bikes,
        )
        self._clock.last_tick = int(ticks[-1])

    def _judge_all(self, fixes: Fixes, rules: _Rules, step: Step) -> Verdict:
        """What became of all fixes, wave by wave; winner numbers are rows of the fixes, what is not judged is superseded."""
        found = fixes.newest(self._memory.scratch)
        fit = fixes.fit[found.rows]
        if not fit.all():
            found = found.take(fit)
        verdict = Verdict.none(len(fixes), SUPERSEDED)
        found = pass_over(self._memory, fixes, found, rules.params, self._timeline.tick_ms, verdict)
        told = []
        for wave in waves(found):
            rows = wave.rows
            one = self._judge(fixes, rows, wave.marks, rules)
            verdict.outcome[rows], verdict.heard[rows] = one.outcome, one.heard
            told.append(replace(one.told, winner=rows[one.told.winner]))
        failed = np.flatnonzero(verdict.outcome == INTERNAL_ERROR)
        places = zip(fixes.offset[failed].tolist(), fixes.item[failed].tolist(), strict=True)
        step.refused += [(offset, item, OUTCOMES[INTERNAL_ERROR]) for offset, item in sorted(places)]
        return replace(verdict, told=Told.concatenate(told)) if told else verdict

    def _judge(self, fixes: Fixes, rows: Indices, marks: NDArray[np.uint8], rules: _Rules) -> Verdict:
        """Judge winners of different bikes. State is written last, so that a failure leaves it as it was."""
        slots = fixes.slot[rows]
        bikes = self._memory.take(slots)
        try:
            verdict = judge(bikes, self._winners(fixes, rows, marks), rules.params, rules.borders.city_of)
        except MemoryError:
            raise
        except Exception:
            # A poisoned ping, or a bug of ours that one bike brings out: find the one, the others count.
            if len(rows) == 1:
                return Verdict.none(1, INTERNAL_ERROR)
            return Verdict.concatenate([self._judge(fixes, rows[i : i + 1], marks[i : i + 1], rules) for i in range(len(rows))])
        self._memory.put(slots, bikes)
        return verdict

    def _winners(self, fixes: Fixes, rows: Indices, marks: NDArray[np.uint8]) -> Winners:
        return Winners(
            ts=fixes.ts[rows],
            lat=fixes.lat[rows],
            lng=fixes.lng[rows],
            accuracy=fixes.accuracy[rows],
            state=fixes.state[rows],
            vehicle=fixes.vehicle[rows],
            rode=(marks & RODE) != 0,
            touched=(marks & TOUCHED) != 0,
            end=(fixes.tick[rows] + 1) * self._timeline.tick_ms,
        )

    def _no_outcomes(self, ticks: int) -> NDArray[np.int64]:
        return np.zeros((ticks, len(self._timeline.operators) + 1, len(OUTCOMES)), dtype=np.int64)

    # --- epochs and memory --------------------------------------------------------------------------------------------

    def _at(self, epoch: int) -> _Rules:
        """The rules of an epoch by its number."""
        if epoch not in self._rules:
            now = self._timeline.epochs[epoch]
            allowed = [operator in now.operators for operator in self._timeline.operators]
            number = {name: i + 1 for i, name in enumerate(self._timeline.cities)}
            borders = _borders(tuple((number[city.name], city.boundary) for city in now.cities))
            self._rules[epoch] = _Rules(now.bike, np.array([*allowed, False]), borders)
        return self._rules[epoch]

    def _move_borders(self, borders: Borders) -> None:
        """Every place is in the city that the borders now in force say."""
        bikes = self._memory.hot[: len(self._bikes)]
        bikes["place_city"] = borders.city_of(bikes["place_lat"], bikes["place_lng"])
        self._borders = borders

    def _remembered(self, tick: int) -> NDArray[np.bool_]:
        """Bikes that are more than nothing to any tick after this one; bool (bikes,)."""
        ts = self._memory.hot["ts"][: len(self._bikes)]
        epochs = self._timeline.epochs[max(self._timeline.index_at(tick), 0) :]
        ttl = max(epoch.bike.ttl_ms for epoch in epochs)
        remembered: NDArray[np.bool_] = (ts != 0) & ((tick + 1) * self._timeline.tick_ms - ts <= 2 * ttl)
        return remembered

    def _sweep(self) -> None:
        """Free the memory of bikes that would count as new anyway, but for those of the open tick."""
        keep = self._remembered(self.through)
        for fixes in self._open:
            keep[fixes.slot] = True
        kept = int(keep.sum())
        if kept < 0.9 * len(keep):
            self._memory.keep(np.flatnonzero(keep))
            self._bikes.keep(keep)
            number = np.cumsum(keep) - 1
            for fixes in self._open:
                fixes.slot = number[fixes.slot]
        self._sweep_at = max(_LEAST_ROWS, int(len(self._bikes) * _GROWTH))

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def pack(self) -> Packed:
        """The whole state at the end of `through`, without the open tick: numpy arrays and bytes by name."""
        keep = self._remembered(self.through)
        if keep.sum() < 0.75 * len(keep):
            self._sweep_at = 0  # much is forgotten: the next close frees it
        return {
            **pack_clock(self._clock),
            **pack_bikes(self._bikes, self._memory.take(np.flatnonzero(keep)), keep, self._timeline),
        }

    @classmethod
    def restore(cls, index: int, timeline: Timeline, packed: Mapping[str, NDArray[np.generic] | bytes]) -> Source:
        """A source as packed, perhaps by a process that knew fewer epochs. Read the log on from `resume_offset`."""
        source = cls(index, timeline)
        source._clock = unpack_clock(packed, timeline.tick_ms)
        source._bikes, rows = unpack_bikes(packed, timeline)
        source._memory = Memory.of(rows)
        source._sweep_at = max(_LEAST_ROWS, int(len(source._bikes) * _GROWTH))
        return source


@lru_cache(maxsize=16)
def _borders(cities: tuple[tuple[int, Boundary], ...]) -> Borders:
    """Made once for all partitions and for all epochs with the same boundaries."""
    return Borders(cities)
