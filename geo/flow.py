"""The cheapest way to bring bikes from where there are too many to where there is room: one min-cost flow.

            distance            0       the first `short` bikes of a place: a shortage
    origin ----------> place ----------> sink
       |                 |---- W ------->       the others
       |------------- W + D ------------>       the depot, which takes any number

W and D make the order of importance exact: more bikes to shortages outweighs everything, then fewer to the depot, then fewer
bike-metres. A solution is the best one if no cycle of the residual graph improves it, and simple cycles suffice. One runs through the sink
at most once, so it changes the bikes to shortages and those to the depot by one at most; and it uses each origin and each place at most
once, so it changes the metres by min(origins, places) hauls at most.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from ortools.graph.python.min_cost_flow import SimpleMinCostFlow

from geo.reach import Pairs

Bikes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Problem:
    """supply: bikes to take from each origin, int64 (m,). room, short: of each place, int64 (n,): how many it may get, and how many
    of them it lacks. pairs: who may bring to whom.
    """

    supply: Bikes
    room: Bikes
    short: Bikes
    pairs: Pairs
    max_haul_m: int


def solve(problem: Problem) -> Bikes:
    """Bikes of each pair, int64 (k,); what is left of a supply goes to the depot.

    Only what can carry bikes is given to the solver: with nodes at which nothing is to be done it takes a hundred times as long.
    """
    pairs = problem.pairs
    moved = np.zeros(len(pairs.origin), np.int64)
    useful = np.flatnonzero((problem.supply[pairs.origin] > 0) & (problem.room[pairs.place] > 0))
    if len(useful):
        origins, number = np.unique(pairs.origin[useful], return_inverse=True)
        some = Pairs(number, pairs.place[useful], pairs.distance_m[useful])
        moved[useful] = _solve(replace(problem, supply=problem.supply[origins], pairs=some))
    return moved


def _solve(problem: Problem) -> Bikes:
    """Of a problem in which each origin has bikes, and each pair can carry some."""
    pairs, supply = problem.pairs, problem.supply
    used, number = np.unique(pairs.place, return_inverse=True)
    origins, sink = len(supply), len(supply) + len(used)
    weight = (min(origins, len(used)) + 1) * problem.max_haul_m + 1
    short = np.minimum(problem.short, problem.room)[used]
    more = problem.room[used] - short
    lacking, roomy = np.flatnonzero(short), np.flatnonzero(more)
    flow = SimpleMinCostFlow()
    hauls = _arcs(
        flow, pairs.origin, origins + number, np.minimum(supply[pairs.origin], problem.room[pairs.place]), pairs.distance_m
    )
    _arcs(flow, origins + lacking, sink, short[lacking], 0)
    _arcs(flow, origins + roomy, sink, more[roomy], 2 * weight)
    _arcs(flow, np.arange(origins), sink, supply, 3 * weight)
    flow.set_nodes_supplies(
        np.append(np.arange(origins), sink).astype(np.int32), np.append(supply, -supply.sum()).astype(np.int64)
    )
    status = flow.solve()
    if status != flow.OPTIMAL:  # the depot takes everything, so there is a solution
        raise ValueError(f"the solver says {status} of a problem that always has a solution: please report it with its input")
    moved: Bikes = np.asarray(flow.flows(hauls), np.int64)
    return moved


def _arcs(
    flow: SimpleMinCostFlow,
    tails: NDArray[np.int64],
    heads: NDArray[np.int64] | int,
    capacities: Bikes,
    costs: NDArray[np.int64] | int,
) -> NDArray[np.int32]:
    """Adds arcs, their numbers."""
    n = len(tails)
    arcs: NDArray[np.int32] = np.asarray(
        flow.add_arcs_with_capacity_and_unit_cost(
            tails.astype(np.int32),
            np.broadcast_to(np.asarray(heads, np.int32), n).copy(),
            capacities.astype(np.int64),
            np.broadcast_to(np.asarray(costs, np.int64), n).copy(),
        ),
        np.int32,
    )
    return arcs
