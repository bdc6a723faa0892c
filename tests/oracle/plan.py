"""The best plan, by trying them all or bike by bike. Shares nothing with `geo/plan.py` but its values, and, in `agreed`, its choice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from geo.plan import DEPOT, Excess, Move, Places, Plan, plan
from tests.oracle.plane import d2


class Place(NamedTuple):
    """One place in plain numbers. free: bikes that it may still get."""

    cell: int
    at: tuple[int, int]
    free: int
    short: int


def places_of(places: Places, excesses: Sequence[Excess]) -> list[Place]:
    """What may be brought where: up to the target, not beyond what all together may have, and nothing into an open episode's area."""
    closed = {cell for excess in excesses for cell in excess.cells}
    found = []
    for i in range(len(places)):
        cell, count = int(places.cell[i]), int(places.count[i])
        free = min(int(places.target[i]) - count, int(places.maximum[i]) - count, int(places.room[i]))
        free = 0 if cell in closed else max(free, 0)
        found.append(Place(cell, (int(places.lat[i]), int(places.lng[i])), free, max(int(places.minimum[i]) - count, 0)))
    return found


def metres(excess: Excess, place: Place) -> int:
    return (math.isqrt(d2((excess.lat, excess.lng), place.at)) + 500) // 1000


def in_reach(excess: Excess, place: Place, max_haul_m: int) -> bool:
    return d2((excess.lat, excess.lng), place.at) <= (max_haul_m * 1000) ** 2


def worth_of(moves: Sequence[Move], excesses: Sequence[Excess], places: Sequence[Place]) -> tuple[int, int, int]:
    """(bikes that did not go to a shortage, bikes to the depot, bike-metres)."""
    brought = {place.cell: 0 for place in places}
    for move in moves:
        if move.to != DEPOT:
            brought[move.to] += move.bikes
    short = sum(min(brought[place.cell], place.short) for place in places)
    depot = sum(move.bikes for move in moves if move.to == DEPOT)
    return sum(e.bikes for e in excesses) - short, depot, sum(move.bikes * move.distance_m for move in moves)


def best_worth(excesses: Sequence[Excess], places: Sequence[Place], max_haul_m: int) -> tuple[int, int, int]:
    """The least that any way to distribute the bikes can have, compared from the left."""
    reach = [[i for i, place in enumerate(places) if in_reach(excess, place, max_haul_m)] for excess in excesses]
    haul = [[metres(excess, place) for place in places] for excess in excesses]
    total = sum(excess.bikes for excess in excesses)

    @cache
    def least(number: int, free: tuple[int, ...]) -> tuple[int, int, int]:
        if number == len(excesses):
            brought = [place.free - left for place, left in zip(places, free, strict=True)]
            return total - sum(min(b, place.short) for b, place in zip(brought, places, strict=True)), 0, 0
        found = []
        for depot, given in shares(excesses[number].bikes, [free[i] for i in reach[number]]):
            left = list(free)
            driven = 0
            for i, bikes in zip(reach[number], given, strict=True):
                left[i] -= bikes
                driven += bikes * haul[number][i]
            elsewhere, to_depot, bike_m = least(number + 1, tuple(left))
            found.append((elsewhere, to_depot + depot, bike_m + driven))
        return min(found)

    return least(0, tuple(place.free for place in places))


def shares(bikes: int, caps: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """(bikes for the depot, bikes for each place) in every way."""
    if not caps:
        yield bikes, []
        return
    for first in range(min(bikes, caps[0]) + 1):
        for depot, rest in shares(bikes - first, caps[1:]):
            yield depot, [first, *rest]


def can_be_done(moves: Sequence[Move], excesses: Sequence[Excess], places: Sequence[Place], max_haul_m: int) -> bool:
    """Whether every move is right, and every bike of every episode is in one."""
    by_cell: Mapping[int, Place] = {place.cell: place for place in places}
    by_name = {excess.episode: excess for excess in excesses}
    taken, brought = dict.fromkeys(by_name, 0), dict.fromkeys(by_cell, 0)
    for move in moves:
        if move.episode not in by_name or move.bikes <= 0:
            return False
        taken[move.episode] += move.bikes
        if move.to == DEPOT:
            if move.distance_m != 0:
                return False
            continue
        place, excess = by_cell.get(move.to), by_name[move.episode]
        if place is None or not in_reach(excess, place, max_haul_m) or metres(excess, place) != move.distance_m:
            return False
        brought[move.to] += move.bikes
    full = all(brought[place.cell] <= place.free for place in places)
    return full and taken == {name: excess.bikes for name, excess in by_name.items()}


def agreed(asked: Places, excesses: Sequence[Excess], previous: Plan, max_haul_m: int) -> list[Move]:
    """The core's plan, if it is one of those that may be chosen: possible, and no plan is clearly better.

    Which of equal plans it is, and what was kept of the one before, is the core's choice; its figures are found here.
    """
    made = list(plan(asked, excesses, previous, max_haul_m=max_haul_m).moves)
    found = places_of(asked, excesses)
    assert can_be_done(made, excesses, found, max_haul_m), f"{made} can not be done"
    worth, best = worth_of(made, excesses, found), cheapest(excesses, found, max_haul_m)
    assert worth >= best, f"{made} is worth {worth}, the best is {best}: one of them is wrong"
    assert not clearly(best, worth), f"{made} is worth {worth}, and {best} is clearly better"
    assert previous.moves or worth == best, f"{made} is worth {worth}, the best is {best}"
    return made


def clearly(better: tuple[int, ...], than: tuple[int, ...]) -> bool:
    """Better by 15 % in any figure, and worse in none before it."""
    for one, other in zip(better, than, strict=True):
        if one > other:
            return False
        if one < other and (other - one) * 100 >= 15 * other:
            return True
    return False


def cheapest(excesses: Sequence[Excess], places: Sequence[Place], max_haul_m: int) -> tuple[int, int, int]:
    """The figures of the best plan: bike by bike along the cheapest way there is, which may take others back (successive shortest
    paths). Costs are (not to a shortage, to the depot, metres), compared from the left."""
    haul: list[dict[int, int]] = []  # of each excess, metres by place
    for excess in excesses:
        near = [j for j, place in enumerate(places) if place.free and in_reach(excess, place, max_haul_m)]
        haul.append({j: metres(excess, places[j]) for j in near})
    moved: Counter[tuple[int, int]] = Counter()
    brought: Counter[int] = Counter()
    total = (0, 0, 0)
    for i, excess in enumerate(excesses):
        for _ in range(excess.bikes):
            spent, way = _way(i, places, haul, moved, brought)
            total = _sum(total, spent)
            for sign, origin, place in way:
                moved[origin, place] += sign
                brought[place] += sign
    return total


Cost = tuple[int, int, int]
Way = list[tuple[int, int, int]]
"""(1: a bike more, -1: one fewer, excess, place); what ends at the depot is in none."""


def _way(
    start: int,
    places: Sequence[Place],
    haul: Sequence[Mapping[int, int]],
    moved: Mapping[tuple[int, int], int],
    brought: Mapping[int, int],
) -> tuple[Cost, Way]:
    """The cheapest way to put one bike more of an excess somewhere, by Bellman and Ford."""
    reached: dict[int, tuple[int, Way]] = {start: (0, [])}  # metres, and the bikes that make room on the way
    changed = [start]
    while changed:
        origin = changed.pop(0)
        driven, way = reached[origin]
        for place, there in haul[origin].items():
            for other in range(len(haul)):  # give a bike to the place, and take one of another excess back
                if other != origin and moved[other, place] > 0:
                    now = driven + there - haul[other][place]
                    if other not in reached or now < reached[other][0]:
                        reached[other] = (now, [*way, (1, origin, place), (-1, other, place)])
                        changed.append(other)
    ends: list[tuple[Cost, Way]] = []
    for origin, (driven, way) in reached.items():
        ends.append(((1, 1, driven), way))
        for place, there in haul[origin].items():
            if brought[place] < places[place].free:
                last = 0 if brought[place] < places[place].short else 1
                ends.append(((last, 0, driven + there), [*way, (1, origin, place)]))
    return min(ends, key=lambda end: end[0])


def _sum(*costs: Cost) -> Cost:
    return sum(c[0] for c in costs), sum(c[1] for c in costs), sum(c[2] for c in costs)
