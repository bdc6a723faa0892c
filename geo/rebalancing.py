"""When a city plans where its bikes are to be brought, and when what it planned acts. docs/planning.md.

    tick     k          k + 1         k + 2
             rules      -             the plan acts: moves of episodes, then rules, then maybe the next plan
             plan made

A plan acts two ticks later whatever it took to make it, so that a worker may one day make it beside its other work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo.alert import DEFICIT, OVERCROWDED, Haul, episode_id
from geo.cells import ALERT_RESOLUTION, Centres, cells_of, centroid, e7
from geo.episodes import NEVER, Episode
from geo.ground import Ground, Moves
from geo.params import Planning, Timeline
from geo.plan import DEPOT, Excess, Move, Plan, plan
from geo.reach import pairs_within
from geo.vacancies import Spots, Vacancies, bicycles_if_none, count_in
from geo.watch import Watch

ACTS_AFTER = 2
"""Ticks from the making of a plan to its first effect."""

LONG_AGO = -(2**62)

Hauls = tuple[Haul, ...]


@dataclass(frozen=True, slots=True)
class Pending:
    """A plan that does not act yet: moves by episode."""

    acts_at: int
    hauls: dict[str, Hauls]


@dataclass(frozen=True, slots=True)
class _Open:
    """An open episode of a rule that is no shadow."""

    id: str
    watch: Watch
    pair: int
    episode: Episode

    @property
    def operator(self) -> int:
        return int(self.watch.counts.operators[self.pair])

    @property
    def code(self) -> int:
        return int(self.watch.counts.codes[self.pair])

    @property
    def bikes(self) -> int:
        """Too many, or missing."""
        return self.watch.measure.reading(self.pair).excess


class Rebalancing:
    """The plans of one city. made: the tick of the last one; what acts stands in the episodes."""

    def __init__(self, city: str, timeline: Timeline, ground: Ground) -> None:
        self.made = LONG_AGO
        self.pending: Pending | None = None
        self._changed = True  # since the last plan; the same question again has the same answer
        self._city, self._timeline, self._ground = city, timeline, ground
        self._centres = Centres()

    def deadline(self, planning: Planning | None, watches: Sequence[Watch]) -> int:
        """The first tick at which a plan acts or is made, if nothing else happens before."""
        due = self.pending.acts_at if self.pending else NEVER
        return min(due, self._next(planning)) if planning and _any_open(watches) else due

    def act(self, planning: Planning | None, watches: Sequence[Watch], moves: Moves) -> None:
        """The plan that is due becomes the moves of episodes; without a planning there are none, and never were."""
        if planning is None and self.made != LONG_AGO:
            self.made, self.pending = LONG_AGO, None
            self._give({}, watches, moves)
        elif self.pending and self.pending.acts_at <= moves.tick:
            pending, self.pending = self.pending, None
            self._give(pending.hauls, watches, moves)

    def note(self, changed: bool) -> None:
        """Whether anything happened at a tick that a plan may depend on; too often does not hurt."""
        self._changed |= changed

    def plan(self, tick: int, planning: Planning | None, watches: Sequence[Watch], speaks: NDArray[np.bool_]) -> None:
        """Make the plan of a tick, if one is due. speaks: bool (operators,), those to plan for."""
        if planning is None or tick < self._next(planning) or not _any_open(watches):
            return
        if not self._changed:
            self.made = tick
            return
        crowds, shortages = (list(self._open(watches, kind)) for kind in (OVERCROWDED, DEFICIT))
        vacancies, hauls = Vacancies(watches), {}
        for operator in np.flatnonzero(speaks).tolist():
            too_many = [one for one in crowds if one.operator == operator and one.bikes]
            if too_many:
                lacking = [one for one in shortages if one.operator == operator]
                hauls.update(self._plan_of(operator, too_many, lacking, vacancies, planning.max_haul_m))
        self.made, self.pending, self._changed = tick, Pending(tick + ACTS_AFTER, hauls), False

    def _next(self, planning: Planning | None) -> int:
        if planning is None:
            return NEVER
        return self.made + max(ACTS_AFTER, -(-planning.interval_ms // self._timeline.tick_ms))

    def _give(self, hauls: dict[str, Hauls], watches: Sequence[Watch], moves: Moves) -> None:
        for one in self._open(watches, OVERCROWDED):
            now = hauls.get(one.id, ())
            if now != one.episode.hauls:
                one.episode.hauls = now
                moves.touched[one.watch.key].append(np.array([one.pair], np.int32))

    def _open(self, watches: Sequence[Watch], kind: str) -> Iterator[_Open]:
        """In (rule, area, operator) order."""
        more = (DEFICIT,) if kind == DEFICIT else ()
        for watch in watches:
            if watch.measure.kind != kind:
                continue
            codes = watch.counts.codes
            for pair in sorted(watch.open_pairs(), key=lambda pair: (codes[pair], watch.counts.operators[pair])):
                rule, episode = watch.rule_of(pair), watch.episodes[pair]
                if not rule.shadow:
                    area = watch.layer.name_of(int(codes[pair]))
                    operator = self._timeline.operators[int(watch.counts.operators[pair])]
                    name = episode_id(self._city, rule.key, area, operator, episode.opened, *more)
                    yield _Open(name, watch, pair, episode)

    # -- one operator -----------------------------------------------------------------------------------------------

    def _plan_of(
        self, operator: int, crowds: Sequence[_Open], shortages: Sequence[_Open], vacancies: Vacancies, max_haul_m: int
    ) -> dict[str, Hauls]:
        excesses = [Excess(one.id, *self._point(one), one.bikes, ()) for one in crowds]
        kinds = self._kinds(operator)
        spots, nearest_m = _reached(self._spots(operator, shortages, kinds), excesses, max_haul_m)
        previous = [Move(one.id, haul.to, haul.bikes, haul.distance_m) for one in crowds for haul in one.episode.hauls]
        places = vacancies.places(operator, kinds, spots, nearest_m)
        made = plan(places, excesses, Plan(tuple(previous)), max_haul_m=max_haul_m)
        number = {cell: i for i, cell in enumerate(spots.cell.tolist())}
        brought = np.zeros(len(number), np.int64)
        hauls: dict[str, list[Haul]] = {}
        for move in made.moves:
            lat = lng = 0
            if move.to != DEPOT:
                i = number[move.to]
                brought[i] += move.bikes
                lat, lng = int(spots.lat[i]), int(spots.lng[i])
            hauls.setdefault(move.episode, []).append(Haul(move.distance_m, move.to, lat, lng, move.bikes))
        used = np.flatnonzero(brought)
        vacancies.promise(operator, kinds, spots.take(used), brought[used])
        return {name: tuple(sorted(some, key=lambda haul: (haul.to == DEPOT, haul))) for name, some in hauls.items()}

    def _kinds(self, operator: int) -> list[int]:
        """Vehicle types of the operator's standing bikes."""
        roster = self._ground.roster
        return bicycles_if_none(roster.rows["vehicle"][roster.rows["stands"] & (roster.operators == operator)])

    def _spots(self, operator: int, shortages: Sequence[_Open], kinds: Sequence[int]) -> Spots:
        """Zones that lack bikes, by their centroids, then cells in which the operator has any."""
        lacking: dict[int, tuple[int, int, int]] = {}
        for one in shortages:
            at = self._point(one)
            cell = int(cells_of(np.array(at[:1], np.int32), np.array(at[1:], np.int32), ALERT_RESOLUTION)[0])
            if cell not in lacking and one.bikes and count_in(one.watch, operator, kinds, at, one.code):
                lacking[cell] = (*at, one.bikes)
        table = self._ground.tables[ALERT_RESOLUTION]
        size = table.size
        occupied = table.codes[:size][(table.count[:size] > 0) & (table.operators[:size] == operator)]
        first = np.array(list(lacking), np.int64)
        rest = occupied[~np.isin(occupied, first)]
        rows = np.array(list(lacking.values()), np.int64).reshape(-1, 3)
        lat, lng = self._centres.of(rest)
        return Spots(
            cell=np.concatenate((first, rest)),
            lat=np.concatenate((rows[:, 0].astype(np.int32), lat)),
            lng=np.concatenate((rows[:, 1].astype(np.int32), lng)),
            lacks=np.concatenate((rows[:, 2], np.zeros(len(rest), np.int64))),
        )

    def _point(self, one: _Open) -> tuple[int, int]:
        """The centroid of an episode's area."""
        cell = one.watch.layer.cell_of(one.code)
        if cell is None:
            return e7(one.watch.layer.area(one.code).centroid)
        return e7(centroid(cell))


def _any_open(watches: Sequence[Watch]) -> bool:
    """Whether there is anything to plan for."""
    return any(
        not watch.rule_of(pair).shadow for watch in watches if watch.measure.kind == OVERCROWDED for pair in watch.open_pairs()
    )


def _reached(spots: Spots, excesses: Sequence[Excess], max_haul_m: int) -> tuple[Spots, NDArray[np.int64]]:
    """Those within reach of any excess, and how far they are from the nearest: int64 (n,), metres."""
    lat, lng = (np.array([getattr(one, axis) for one in excesses], np.int32) for axis in ("lat", "lng"))
    pairs = pairs_within((lat, lng), (spots.lat, spots.lng), max_haul_m * 1000)
    nearest = np.full(len(spots.cell), 2**62, np.int64)
    np.minimum.at(nearest, pairs.place, pairs.distance_m)
    reached = np.flatnonzero(nearest < 2**62)
    return spots.take(reached), nearest[reached]
