"""When a city plans where its bikes are to be brought, and when what it planned acts. docs/planning.md.

    tick     k          k + 1         k + 2
             rules      -             the plan acts: moves of episodes, then rules, then maybe the next plan
             plan made

A plan acts two ticks later whatever it took to make it, so that a worker may one day make it beside its other work. It is made at
multiples of the interval and not after the plan before: else the time of an operator's moves would tell of its rivals' alerts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from geo.alert import DEFICIT, OVERCROWDED, Haul, episode_id
from geo.cells import ALERT_RESOLUTION, Centres, cells_of, centroid, e7
from geo.episodes import NEVER, Episode, Phase
from geo.ground import Ground, Moves
from geo.params import Planning, Timeline
from geo.plan import DEPOT, Excess, Move, Plan, plan
from geo.prices import Prices
from geo.reach import Pairs, pairs_within
from geo.surroundings import Surroundings
from geo.vacancies import Spots, Vacancies, bicycles_if_none, count_in
from geo.watch import Watch

ACTS_AFTER = 2
"""Ticks from the making of a plan to its first effect."""

MANY_EPISODES = 65_536

Hauls = tuple[Haul, ...]


@dataclass(frozen=True, slots=True)
class Pending:
    """A plan that does not act yet: moves by episode."""

    acts_at: int
    hauls: dict[str, Hauls]


@dataclass(frozen=True)
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

    @cached_property
    def bikes(self) -> int:
        """Too many, or missing."""
        return self.watch.measure.reading(self.pair).excess


class Rebalancing:
    """The plans of one city; what acts stands in the episodes."""

    def __init__(self, city: str, timeline: Timeline, ground: Ground) -> None:
        self.pending: Pending | None = None
        self._changed = True  # since the last plan; the same question again has the same answer
        self._given = True  # whether any episode may have moves
        self._city, self._timeline, self._ground = city, timeline, ground
        self._centres = Centres()
        self._surroundings: dict[int, Surroundings] = {}
        self._prices: dict[int, Prices] = {}
        self._point_of = lru_cache(MANY_EPISODES)(lambda cell: e7(centroid(cell)))
        self._id_of = lru_cache(MANY_EPISODES)(partial(episode_id, city))

    def deadline(self, now: int, planning: Planning | None, watches: Sequence[Watch]) -> int:
        """The first tick after `now` at which a plan acts or is made, if nothing else happens before."""
        due = self.pending.acts_at if self.pending else NEVER
        if planning is None or not self._changed or not _any_open(watches):
            return due
        every = self._every(planning)
        return min(due, (now // every + 1) * every)

    def act(self, planning: Planning | None, watches: Sequence[Watch], moves: Moves) -> None:
        """The plan that is due becomes the moves of episodes; without a planning there are none."""
        if planning is None and self._given:
            self.pending, self._given = None, False
            self._give({}, watches, moves)
        elif self.pending and self.pending.acts_at <= moves.tick:
            pending, self.pending, self._given = self.pending, None, True
            self._give(pending.hauls, watches, moves)

    def note(self, changed: bool) -> None:
        """Whether anything happened at a tick that a plan may depend on; too often does not hurt."""
        self._changed |= changed

    def plan(self, tick: int, planning: Planning | None, watches: Sequence[Watch], speaks: NDArray[np.bool_]) -> None:
        """Make the plan of a tick, if one is due. speaks: bool (operators,), those to plan for."""
        if planning is None or tick % self._every(planning) or not self._changed or not _any_open(watches):
            return
        if self._timeline.at(tick).from_tick == tick:  # a plan that was asked for before, by another interval, may still wait
            return
        crowds, shortages = (list(self._open(watches, kind)) for kind in (OVERCROWDED, DEFICIT))
        vacancies, hauls = Vacancies(watches, self._surroundings), {}
        for operator in np.flatnonzero(speaks).tolist():
            too_many = [one for one in crowds if one.operator == operator and one.bikes]
            if too_many:
                lacking = [one for one in shortages if one.operator == operator]
                hauls.update(self._plan_of(operator, too_many, lacking, vacancies, planning.max_haul_m))
        self.pending, self._changed = Pending(tick + ACTS_AFTER, hauls), False

    def _every(self, planning: Planning) -> int:
        """Ticks from one plan to the next."""
        return max(ACTS_AFTER, -(-planning.interval_ms // self._timeline.tick_ms))

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
                    name = self._id_of(rule.key, area, operator, episode.opened, *more)
                    yield _Open(name, watch, pair, episode)

    # -- one operator -----------------------------------------------------------------------------------------------

    def _plan_of(
        self, operator: int, crowds: Sequence[_Open], shortages: Sequence[_Open], vacancies: Vacancies, max_haul_m: int
    ) -> dict[str, Hauls]:
        crowds = sorted(crowds, key=lambda one: one.id)
        excesses = [Excess(one.id, *self._point(one), one.bikes, ()) for one in crowds]
        kinds = self._kinds(operator)
        spots, pairs = self._reached(operator, self._lacking(operator, shortages, kinds), excesses, max_haul_m)
        previous = [Move(one.id, haul.to, haul.bikes, haul.distance_m) for one in crowds for haul in one.episode.hauls]
        places = vacancies.places(operator, kinds, spots, _nearest(pairs, len(spots.cell)))
        prices = self._prices.setdefault(operator, Prices())
        made = plan(places, excesses, Plan(tuple(previous)), max_haul_m=max_haul_m, pairs=pairs, prices=prices)
        brought = np.zeros(len(spots.cell), np.int64)
        hauls: dict[str, list[Haul]] = {}
        for move in made.moves:
            lat = lng = 0
            if move.to != DEPOT:
                i = int(np.searchsorted(spots.cell, move.to))
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

    def _lacking(self, operator: int, shortages: Sequence[_Open], kinds: Sequence[int]) -> dict[int, tuple[int, int, int]]:
        """(lat, lng, bikes that are missing) of zones that lack some, by the cells of their centroids."""
        lacking: dict[int, tuple[int, int, int]] = {}
        for one in shortages:
            at = self._point(one)
            cell = int(cells_of(np.array(at[:1], np.int32), np.array(at[1:], np.int32), ALERT_RESOLUTION)[0])
            if cell not in lacking and one.bikes and count_in(one.watch, operator, kinds, at, one.code):
                lacking[cell] = (*at, one.bikes)
        return lacking

    def _reached(
        self, operator: int, lacking: dict[int, tuple[int, int, int]], excesses: Sequence[Excess], max_haul_m: int
    ) -> tuple[Spots, Pairs]:
        """The places within reach of any excess, by cell, and who is within reach of whom: zones that lack bikes, and cells in
        which the operator has any."""
        table = self._ground.tables[ALERT_RESOLUTION]
        around = self._surroundings.setdefault(operator, Surroundings(operator, self._centres))
        around.refresh(table)
        origins = [(excess.lat, excess.lng) for excess in excesses]
        occupied = (table.count[around.slot] > 0) & ~np.isin(around.cell, list(lacking))
        near = around.near(origins, max_haul_m)
        near = Pairs(*(column[occupied[near.place]] for column in near))
        number = np.flatnonzero(np.bincount(near.place, minlength=len(around.cell)))
        zones = np.array([(cell, *zone) for cell, zone in lacking.items()], np.int64).reshape(-1, 4)
        zone_at = zones[:, 1].astype(np.int32), zones[:, 2].astype(np.int32)
        at = np.array(origins, np.int32)
        to_zones = pairs_within((at[:, 0], at[:, 1]), zone_at, max_haul_m * 1000)
        reached = np.flatnonzero(np.bincount(to_zones.place, minlength=len(zones)))
        spots = Spots(
            cell=np.concatenate((zones[reached, 0], around.cell[number])),
            lat=np.concatenate((zone_at[0][reached], around.lat[number])),
            lng=np.concatenate((zone_at[1][reached], around.lng[number])),
            lacks=np.concatenate((zones[reached, 3], np.zeros(len(number), np.int64))),
            number=np.concatenate((np.full(len(reached), -1), number)),
        )
        by_cell = np.argsort(spots.cell)
        rank = np.empty(len(by_cell), np.int64)
        rank[by_cell] = np.arange(len(by_cell))
        rank_of_zone, rank_of_number = np.zeros(len(zones), np.int64), np.zeros(len(around.cell), np.int64)
        rank_of_zone[reached], rank_of_number[number] = rank[: len(reached)], rank[len(reached) :]
        return spots.take(by_cell), _merged(
            near._replace(place=rank_of_number[near.place]), to_zones._replace(place=rank_of_zone[to_zones.place])
        )

    def _point(self, one: _Open) -> tuple[int, int]:
        """The centroid of an episode's area."""
        cell = one.watch.layer.cell_of(one.code)
        if cell is None:
            return e7(one.watch.layer.area(one.code).centroid)
        return self._point_of(cell)


def _any_open(watches: Sequence[Watch]) -> bool:
    """Whether there is anything to plan for."""
    return any(
        episode.phase is Phase.OPEN and not watch.rule_of(pair).shadow
        for watch in watches
        if watch.measure.kind == OVERCROWDED
        for pair, episode in watch.episodes.items()
    )


def _merged(some: Pairs, others: Pairs) -> Pairs:
    """Pairs of either, ascending as both are."""
    if not len(others.origin):
        return some
    both = Pairs(*(np.concatenate(columns) for columns in zip(some, others, strict=True)))
    order = np.lexsort((both.place, both.origin))
    return Pairs(*(column[order] for column in both))


def _nearest(pairs: Pairs, places: int) -> NDArray[np.int64]:
    """How far each place is from the nearest origin: int64 (places,), metres."""
    nearest = np.full(places, 2**62, np.int64)
    np.minimum.at(nearest, pairs.place, pairs.distance_m)
    return nearest
