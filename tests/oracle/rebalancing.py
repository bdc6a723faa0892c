"""Where bikes are to be brought: docs/planning.md in plain Python, one place, one area, one bike at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geo.params import City, Planning, Rule
from geo.plan import DEPOT, NO_LIMIT, Excess, Move, Places, Plan
from tests.oracle import bodies, places
from tests.oracle import plan as truth
from tests.oracle.incidents import IncidentsTruth
from tests.oracle.places import Force
from tests.oracle.plane import Point
from tests.oracle.rules import Episode, Haul, Spot

AVAILABLE, BICYCLE = 1, 1
Area = tuple[str, tuple[str, str], str]
"""(policy, rule, area)."""


@dataclass
class Spotted:
    """A place."""

    cell: str
    at: Point
    lacks: int = 0
    nearest: int = 0
    free: int = 0
    areas: set[Area] = field(default_factory=set)


class RebalancingTruth(IncidentsTruth):
    """A city's plans. waiting: (the tick at which the newest acts, moves by spot and opening tick), until it does."""

    waiting: tuple[int, dict[tuple[Spot, int], list[Haul]]] | None = None

    def _carry_out(self, planning: Planning | None) -> None:
        if planning is None:
            self.waiting = None
            for episode in self.episodes.values():
                episode.hauls = []
        elif self.waiting is not None and self.waiting[0] == self.k:
            for spot, episode in self.episodes.items():
                episode.hauls = self.waiting[1].get((spot, episode.opened), [])
            self.waiting = None

    def _make_plan(self, planning: Planning | None) -> None:
        if planning is None or not any(self._is_told(spot, episode, "overcrowded") for spot, episode in self.episodes.items()):
            return
        waits = max(2, -(-planning.interval_ms // self.timeline.tick_ms))
        if self.k % waits or self.timeline.at(self.k).from_tick == self.k:
            return
        assert self.waiting is None
        promised: Counter[Area] = Counter()
        made: dict[tuple[Spot, int], list[Haul]] = {}
        for operator in sorted(self.allowed()):
            if not self.voices[operator].silent:
                made |= self._plan_of(operator, planning, promised)
        self.waiting = (self.k + 2, made)

    def _is_told(self, spot: Spot, episode: Episode, kind: str) -> bool:
        return bool(episode.sequence) and spot.kind == kind and not self._rule(spot).shadow

    def _rule(self, spot: Spot) -> Rule:
        return next(rule for rule in self.force[spot.policy].rules if rule.key == spot.rule)

    def _open(self, operator: str, kind: str) -> list[Spot]:
        """Open episodes in the order of their events."""
        found = []
        for force in self.force.values():
            for rule in force.rules:
                spots = [s for s in self.episodes if s.policy == force.policy.policy_id and s.rule == rule.key]
                found += [s for s in self._in_order(force, rule, spots) if s.operator == operator]
        return [spot for spot in found if self._is_told(spot, self.episodes[spot], kind)]

    def _point(self, spot: Spot) -> Point:
        rule, force = self._rule(spot), self.force[spot.policy]
        if rule.area == "cell":
            return centre(spot.area)
        return places.centroid_e7(self._zone(force, rule, spot.area).polygons)

    def _excess(self, spot: Spot) -> int:
        return self._numbers(self.force[spot.policy], self._rule(spot), spot).excess

    def _plan_of(self, operator: str, planning: Planning, promised: Counter[Area]) -> dict[tuple[Spot, int], list[Haul]]:
        crowded = {self._name(spot): spot for spot in self._open(operator, "overcrowded") if self._excess(spot)}
        if not crowded:
            return {}
        excesses = [Excess(name, *self._point(spot), self._excess(spot), ()) for name, spot in crowded.items()]
        spots = self._places(operator)
        for spot in spots:
            reached = [e for e in excesses if truth.in_reach(e, _place(spot), planning.max_haul_m)]
            spot.nearest = min((truth.metres(e, _place(spot)) for e in reached), default=-1)
        spots = sorted((s for s in spots if s.nearest >= 0), key=lambda s: (s.lacks == 0, s.nearest, s.cell))
        self._give_out(operator, spots, promised)
        previous = [
            Move(name, haul.to, haul.bikes, haul.distance_m)
            for name, spot in crowded.items()
            for haul in self.episodes[spot].hauls
        ]
        moves = truth.agreed(_asked(spots), excesses, Plan(tuple(previous)), planning.max_haul_m)
        by_cell = {int(spot.cell, 16): spot for spot in spots}
        made: dict[tuple[Spot, int], list[Haul]] = {}
        for move in moves:
            at = by_cell[move.to].at if move.to != DEPOT else (0, 0)
            key = (crowded[move.episode], self.episodes[crowded[move.episode]].opened)
            made.setdefault(key, []).append(Haul(move.to, at, move.bikes, move.distance_m))
            if move.to != DEPOT:
                for area in by_cell[move.to].areas:
                    promised[area] += move.bikes
        return {
            key: sorted(hauls, key=lambda haul: (haul.to == DEPOT, haul.distance_m, haul.to)) for key, hauls in made.items()
        }

    def _name(self, spot: Spot) -> str:
        return bodies.id_of(self.name, spot.rule, spot.area, spot.operator, self.episodes[spot].opened)

    # --- places --------------------------------------------------------------------------------------------------------

    def _kinds(self, operator: str) -> set[int]:
        return {row.vehicle or BICYCLE for bike, row in self.roster.items() if bike[0] == operator and row.stands}

    def _places(self, operator: str) -> list[Spotted]:
        found: dict[str, Spotted] = {}
        for spot in self._open(operator, "deficit"):
            at = self._point(spot)
            cell = bodies.cell_of(at, 9)
            there = [places.place_of(self.force[spot.policy], operator, at, AVAILABLE, kind) for kind in self._kinds(operator)]
            counts = all(place is not None and (place[0].key, place[1]) == (spot.rule, spot.area) for place in there)
            missing = self._excess(spot)
            if cell not in found and counts and missing:
                found[cell] = Spotted(cell, at, missing)
        for bike, row in self.roster.items():
            if bike[0] == operator and row.stands:
                cell = bodies.cell_of(row.at, 9)
                found.setdefault(cell, Spotted(cell, centre(cell)))
        return list(found.values())

    def _give_out(self, operator: str, spots: list[Spotted], promised: Counter[Area]) -> None:
        """What each may get, in turn; areas get less by it."""
        room: dict[Area, int] = {}
        for spot in spots:
            limiting = []
            for force in self.force.values():
                for kind in self._kinds(operator):
                    place = places.place_of(force, operator, spot.at, AVAILABLE, kind)
                    if place is not None:
                        area = (force.policy.policy_id, place[0].key, place[1])
                        if not _limits(place[0]):
                            continue
                        room.setdefault(area, self._room(force, place[0], place[1], operator, promised[area]))
                        limiting.append(area)
                        if place[0].all_operators:
                            spot.areas.add(area)
            spot.free = min((room[area] for area in limiting), default=spot.lacks)
            for area in set(limiting):
                room[area] -= spot.free

    def _room(self, force: Force, rule: Rule, area: str, operator: str, promised: int) -> int:
        spot = Spot(force.policy.policy_id, "overcrowded", rule.key, area, operator)
        episode = self.episodes.get(spot)
        if episode is not None and episode.sequence:
            return 0
        most = self._maximum(force, rule, spot)
        if rule.area == "cell":
            most = most * rule.target_ratio.numerator // rule.target_ratio.denominator
        owners = self.timeline.operators if rule.all_operators else (operator,)
        there = sum(self._counts(force)[rule.key, area, owner] for owner in owners)
        return max(0, most - there - promised)


def _limits(rule: Rule) -> bool:
    """Whether a rule says how many may be in one of its areas, and a move can change it."""
    if rule.shadow or places.maximum(rule, 0, 0, 0) is None:
        return False
    return rule.area == "cell" or bool(rule.geographies)


def centre(cell: str) -> Point:
    at = bodies.centroid(cell)
    return round(at["lat"] * 1e7), round(at["lng"] * 1e7)


def planning_of(city: City | None) -> Planning | None:
    return city.planning if city else None


def _place(spot: Spotted) -> truth.Place:
    return truth.Place(int(spot.cell, 16), spot.at, spot.free, min(spot.lacks, spot.free))


def _asked(spots: list[Spotted]) -> Places:
    def column(values: list[int]) -> Any:
        return np.array(values, np.int32)

    free = [min(spot.free, NO_LIMIT) for spot in spots]
    return Places(
        cell=np.array([int(spot.cell, 16) for spot in spots], np.int64),
        lat=column([spot.at[0] for spot in spots]),
        lng=column([spot.at[1] for spot in spots]),
        count=column([0] * len(spots)),
        minimum=column([min(spot.lacks, most) for spot, most in zip(spots, free, strict=True)]),
        target=column(free),
        maximum=column([NO_LIMIT] * len(spots)),
        room=column([NO_LIMIT] * len(spots)),
    )
