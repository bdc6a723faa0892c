"""How good a plan could be at best, without looking for it: a bound from what one more bike would have cost in the last best plan.

The flow of `geo/flow.py` has a dual. Give every place a price; let each bike pay the least of haul + price, or the depot; take off what the
prices would earn if all places were filled up. Whatever the prices are, no flow costs less (weak duality: Ahuja, Magnanti, Orlin,
Network Flows, 1993, section 9.4), and with those of a best flow it costs just that. A question that has hardly changed is answered by
the same prices almost exactly. They are remembered, but they are no state: they only tell when it is no use to look for a better plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geo.flow import Bikes, Problem

NO_BOUND = -(2**62)

_MOST_ROUNDS = 200  # prices spread along hauls, one a round; whatever they are by then, they will do
_TOO_DEAR = 2**60

Numbers = NDArray[np.int64]


def _none() -> Numbers:
    return np.zeros(0, np.int64)


@dataclass(slots=True)
class Prices:
    """Of n places, ascending by cell, int64 (n,): a price is rank * weight + metres, the weight being that of a problem."""

    cell: Numbers = field(default_factory=_none)
    rank: Numbers = field(default_factory=_none)
    metres: Numbers = field(default_factory=_none)

    def learn(self, problem: Problem, cell: Numbers, flow: Bikes) -> None:
        """The prices of a best flow, bikes of each pair, int64 (k,): what one more bike would cost from there. cell: of the places."""
        pairs, weight = problem.pairs, _weight(problem)
        brought = np.bincount(pairs.place, flow, len(cell)).astype(np.int64)
        direct = np.where(
            brought < np.minimum(problem.short, problem.room), 0, np.where(brought < problem.room, 2 * weight, _TOO_DEAR)
        )
        used = np.flatnonzero(flow)
        origin, place, distance_m = (column[used] for column in pairs)
        price, before = direct, _none()
        for _ in range(_MOST_ROUNDS):
            if np.array_equal(price, before):
                break
            price, before = direct.copy(), price
            np.minimum.at(price, place, _paid(problem, before, weight)[origin] - distance_m)
        price = np.clip(price, 0, 3 * weight)
        self.cell, self.rank = cell, (price + weight // 2) // weight
        self.metres = price - self.rank * weight

    def least_m(self, problem: Problem, cell: Numbers, *, elsewhere: int, to_depot: int) -> int:
        """No plan that leaves so many bikes without a shortage, and so many to the depot, has fewer bike-metres; NO_BOUND: who knows.

        If it is above 0, no plan is better in these two.
        """
        if not len(self.cell):
            return NO_BOUND
        weight, supply = _weight(problem), problem.supply
        room = np.minimum(problem.room, supply.sum())
        short = np.minimum(problem.short, room)
        if 3.0 * weight * (supply.sum() + room.sum()) > 2**61:
            return NO_BOUND
        price = np.clip(self._of(cell, weight, short), 0, 3 * weight)
        paid = int((supply * _paid(problem, price, weight)).sum())
        earned = int((short * price + (room - short) * np.maximum(price - 2 * weight, 0)).sum())
        return paid - earned - weight * (2 * elsewhere + to_depot)

    def _of(self, cell: Numbers, weight: int, short: Bikes) -> Numbers:
        """Prices of places; those that were not there are cheap."""
        at = np.minimum(np.searchsorted(self.cell, cell), len(self.cell) - 1)
        return np.where(self.cell[at] == cell, self.rank[at] * weight + self.metres[at], np.where(short > 0, 0, 2 * weight))


def _weight(problem: Problem) -> int:
    """More than all bike-metres there can be, twice."""
    return 2 * int(problem.supply.sum()) * problem.max_haul_m + 1


def _paid(problem: Problem, price: Numbers, weight: int) -> Numbers:
    """What a bike of each origin pays: int64 (m,)."""
    pairs = problem.pairs
    paid = np.full(len(problem.supply), 3 * weight)
    first = np.flatnonzero(np.diff(pairs.origin, prepend=-1))
    if len(first):
        least = np.minimum.reduceat(pairs.distance_m + price[pairs.place], first)
        paid[pairs.origin[first]] = np.minimum(least, 3 * weight)
    return paid
