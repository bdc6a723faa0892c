"""Where to bring the bikes that are too many: a plan of moves for one operator.

Bikes go from the areas of open episodes to places that stay at or under their target, and under whatever is allowed for all operators
together, within `max_haul_m`. In this order: as many as possible to shortages; as few as possible to the depot; as few bike-metres as
possible. The depot takes what no place within reach has room for, so there always is a plan, and no plan breaks a rule anew.

A plan stands until it is wrong or could be clearly better, or trucks would be sent to and fro: moves that are still right are kept, what is
not planned yet is added, and only a plan that is at least 15 % better replaces it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from geo.flow import Problem, solve
from geo.prices import Prices
from geo.reach import GREATEST_REACH_MM, Pairs, pairs_within

DEPOT = 0
"""`to` of a move to no place. No H3 index is 0."""

NO_LIMIT = 2**31 - 1
"""`maximum` or `room` of a place that no rule limits."""

CLEARLY_PERCENT = 15
MAX_HAUL_M = 3_000


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """n H3 cells of one resolution, as one operator finds them; in any order, each once.

    cell      int64 (n,)  H3 index
    lat, lng  int32 (n,)  centre, 1e-7 degrees
    count     int32 (n,)  bikes of the operator that stand there
    minimum   int32 (n,)  fewer are a shortage; 0: none is
    target    int32 (n,)  what it may be filled up to
    maximum   int32 (n,)  most bikes of the operator that any rule in force allows, or NO_LIMIT
    room      int32 (n,)  how many more bikes of anybody the rules on all operators together allow, or NO_LIMIT

    Raises ValueError unless 0 <= minimum <= target <= maximum, 0 <= count and 0 <= room everywhere.
    """

    cell: NDArray[np.int64]
    lat: NDArray[np.int32]
    lng: NDArray[np.int32]
    count: NDArray[np.int32]
    minimum: NDArray[np.int32]
    target: NDArray[np.int32]
    maximum: NDArray[np.int32]
    room: NDArray[np.int32]

    def __post_init__(self) -> None:
        n = len(self.cell)
        for name in self.__slots__:
            column = getattr(self, name)
            if column.shape != (n,):
                raise ValueError(f"{name} must have the shape ({n},) of cell, got {column.shape}: give one value a place")
        if len(np.unique(self.cell)) < n:
            raise ValueError("cell must name each place once: add up what is there twice")
        steps = (("0", "count"), ("0", "room"), ("0", "minimum"), ("minimum", "target"), ("target", "maximum"))
        for low, high in steps:
            wrong = np.flatnonzero(getattr(self, high) < (0 if low == "0" else getattr(self, low)))
            if len(wrong):
                i, value = int(wrong[0]), int(getattr(self, high)[wrong[0]])
                raise ValueError(f"{high} must be at least {low}, got {value} at place {i}: settle contradicting rules before")

    def __len__(self) -> int:
        return len(self.cell)

    def sorted(self) -> Self:
        """The same by cell."""
        order = np.argsort(self.cell)
        return type(self)(*(getattr(self, name)[order] for name in self.__slots__))


class Excess(NamedTuple):
    """An open episode: bikes over the target of an area. Position in 1e-7 degrees; cells: of the area, where nothing is brought."""

    episode: str
    lat: int
    lng: int
    bikes: int
    cells: tuple[int, ...]


class Move(NamedTuple):
    """So many bikes from an episode's area to a cell (DEPOT: to the depot, distance 0)."""

    episode: str
    to: int
    bikes: int
    distance_m: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Moves by (episode, to); at most one of each."""

    moves: tuple[Move, ...] = ()


NOTHING = Plan()


class Worth(NamedTuple):
    """What a plan is worth, most important first. Fewer is better in each: bikes that did not go to a shortage, bikes to the depot,
    bike-metres."""

    elsewhere: int
    to_depot: int
    bike_m: int


def plan(
    places: Places,
    excesses: Iterable[Excess],
    previous: Plan = NOTHING,
    *,
    max_haul_m: int = MAX_HAUL_M,
    pairs: Pairs | None = None,
    prices: Prices | None = None,
) -> Plan:
    """The plan of one operator. The order of places and excesses does not matter.

    previous: the plan that is being carried out. pairs: who is within reach of whom, of the excesses by episode and the places by cell,
    if it is known already. prices: those of the plan before; they save time, and change no plan. Raises ValueError for two excesses of one episode, one that is negative, or a haul out of range.
    """
    desk = _Desk.of(places, excesses, max_haul_m, pairs)
    kept = desk.still_right(previous)
    repaired, prices = kept + desk.best(kept), prices or Prices()
    if kept.any():
        worth = desk.worth(repaired)
        least_m = prices.least_m(desk.problem, desk.cell, elsewhere=worth.elsewhere, to_depot=worth.to_depot)
        if least_m > 0 and not clearly_better(worth._replace(bike_m=least_m), worth):
            return desk.plan(repaired)
        fresh = desk.best(desk.nothing())
    else:
        worth, fresh = None, repaired
    prices.learn(desk.problem, desk.cell, fresh[: len(desk.problem.pairs.origin)])
    return desk.plan(fresh if worth is None or clearly_better(desk.worth(fresh), worth) else repaired)


def clearly_better(new: Worth, old: Worth) -> bool:
    """Whether anything is better by at least 15 %, and nothing more important worse."""
    for fewer, more in zip(new, old, strict=True):
        if fewer > more:
            return False
        if fewer < more and 100 * (more - fewer) >= CLEARLY_PERCENT * more:
            return True
    return False


@dataclass(frozen=True, slots=True, eq=False)
class _Desk:
    """A problem in canonical order, and flows over its pairs: int64, one number for each pair and then one for each origin's depot."""

    episodes: list[str]
    cell: NDArray[np.int64]
    problem: Problem

    @classmethod
    def of(cls, places: Places, excesses: Iterable[Excess], max_haul_m: int, pairs: Pairs | None) -> Self:
        places, listed = places.sorted(), sorted(excesses)
        episodes = [excess.episode for excess in listed]
        if len(set(episodes)) < len(episodes):
            raise ValueError("an episode must have one excess, found one with two: add them up")
        if any(excess.bikes < 0 for excess in listed):
            raise ValueError("an excess must not be negative: leave out areas that are not over their target")
        if not 0 < max_haul_m * 1000 <= GREATEST_REACH_MM:
            raise ValueError(f"max_haul_m must be from 1 to {GREATEST_REACH_MM // 1000}, got {max_haul_m}")
        room = np.clip(np.minimum(places.target.astype(np.int64) - places.count, places.room), 0, None)
        room[np.isin(places.cell, [cell for excess in listed for cell in excess.cells])] = 0
        open_ = np.flatnonzero(room)
        short = np.clip(places.minimum.astype(np.int64) - places.count, 0, None)
        if pairs is None:
            lat = np.array([excess.lat for excess in listed], np.int32)
            lng = np.array([excess.lng for excess in listed], np.int32)
            pairs = pairs_within((lat, lng), (places.lat, places.lng), max_haul_m * 1000)
        pairs = Pairs(*(column[room[pairs.place] > 0] for column in pairs))
        pairs = pairs._replace(place=(np.cumsum(room > 0) - 1)[pairs.place])
        supply = np.array([excess.bikes for excess in listed], np.int64)
        return cls(episodes, places.cell[open_], Problem(supply, room[open_], short[open_], pairs, max_haul_m))

    def nothing(self) -> NDArray[np.int64]:
        return np.zeros(len(self.problem.pairs.origin) + len(self.episodes), np.int64)

    def still_right(self, previous: Plan) -> NDArray[np.int64]:
        """As much of a plan as can still be done; of what is too much, what goes furthest is given up first, and the depot before."""
        flow, pairs = self.nothing(), self.problem.pairs
        if not previous.moves:
            return flow
        number = {name: i for i, name in enumerate(self.episodes)}
        moves = [move for move in previous.moves if move.episode in number]
        moves.sort(key=lambda move: (move.to == DEPOT, move.distance_m, move))
        origins = np.array([number[move.episode] for move in moves], np.int64)
        found = self._pairs_of(origins, np.array([move.to for move in moves], np.int64)).tolist()
        supply, room, place_of = self.problem.supply.tolist(), self.problem.room.tolist(), pairs.place.tolist()
        for move, origin, pair in zip(moves, origins.tolist(), found, strict=True):
            if move.to == DEPOT:
                bikes = min(move.bikes, supply[origin])
                flow[len(pairs.origin) + origin] += bikes
            elif pair >= 0:
                bikes = min(move.bikes, supply[origin], room[place_of[pair]])
                flow[pair] += bikes
                room[place_of[pair]] -= bikes
            else:
                continue
            supply[origin] -= bikes
        return flow

    def _pairs_of(self, origin: NDArray[np.int64], to: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pairs of n (origin, cell); -1 where there is none."""
        pairs = self.problem.pairs
        if not len(pairs.origin):
            return np.full(len(origin), -1)
        place = np.minimum(np.searchsorted(self.cell, to), len(self.cell) - 1)
        keys, wanted = pairs.origin * len(self.cell) + pairs.place, origin * len(self.cell) + place
        pair = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((self.cell[place] == to) & (keys[pair] == wanted), pair, -1)

    def best(self, given: NDArray[np.int64]) -> NDArray[np.int64]:
        """The best flow of what a given one has not placed, into what it has left."""
        pairs, n, places = self.problem.pairs, len(self.problem.pairs.origin), len(self.cell)
        brought = np.bincount(pairs.place, given[:n], places).astype(np.int64)
        supply = self.problem.supply - np.bincount(pairs.origin, given[:n], len(self.episodes)).astype(np.int64) - given[n:]
        left = replace(
            self.problem,
            supply=supply,
            room=self.problem.room - brought,
            short=np.clip(self.problem.short - brought, 0, None),
        )
        moved = solve(left)
        rest = supply - np.bincount(pairs.origin, moved, len(self.episodes)).astype(np.int64)
        return np.concatenate([moved, rest])

    def worth(self, flow: NDArray[np.int64]) -> Worth:
        pairs, n = self.problem.pairs, len(self.problem.pairs.origin)
        brought = np.bincount(pairs.place, flow[:n], len(self.cell)).astype(np.int64)
        short = int(np.minimum(brought, self.problem.short).sum())
        return Worth(int(self.problem.supply.sum()) - short, int(flow[n:].sum()), int((flow[:n] * pairs.distance_m).sum()))

    def plan(self, flow: NDArray[np.int64]) -> Plan:
        pairs, n = self.problem.pairs, len(self.problem.pairs.origin)
        used, left = np.flatnonzero(flow[:n]), np.flatnonzero(flow[n:])
        moves = [
            Move(self.episodes[origin], cell, bikes, distance_m)
            for origin, cell, bikes, distance_m in zip(
                pairs.origin[used].tolist(),
                self.cell[pairs.place[used]].tolist(),
                flow[used].tolist(),
                pairs.distance_m[used].tolist(),
                strict=True,
            )
        ]
        moves += [
            Move(self.episodes[origin], DEPOT, bikes, 0)
            for origin, bikes in zip(left.tolist(), flow[n + left].tolist(), strict=True)
        ]
        return Plan(tuple(sorted(moves)))
