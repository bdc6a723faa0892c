"""The best plan by trying them all. For a handful of bikes and places; shares nothing with `geo/plan.py` but its values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from geo.plan import DEPOT, Excess, Move, Places
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
