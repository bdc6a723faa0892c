"""What a plan costs: 100,000 occupied cells, 1,000 open episodes. Answers are asserted before speeds are printed.

python -m benchmarks.bench_plan [cells] [episodes]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from geo.plan import DEPOT, NO_LIMIT, NOTHING, Excess, Places, Plan, plan

HEX_M = 350
"""Between the centres of neighbouring cells of resolution 9, about."""

SOUTH, WEST = 395_000_000, 1_160_000_000
Result = TypeVar("Result")


def town(cells: int, seed: int = 1) -> Places:
    """A square of cells: most have some room, some have none, a few lack bikes."""
    r, side = np.random.default_rng(seed), int(np.ceil(np.sqrt(cells)))
    rows, columns = np.divmod(np.arange(cells), side)
    target = r.integers(3, 30, cells).astype(np.int32)
    minimum = np.where(r.random(cells) < 0.02, target // 2, 0).astype(np.int32)
    return Places(
        cell=np.arange(cells) + 0x891F_0000_0000_0000 // 16,
        lat=(SOUTH + rows * HEX_M * 90).astype(np.int32),
        lng=(WEST + columns * HEX_M * 117).astype(np.int32),
        count=r.integers(0, 30, cells).astype(np.int32),
        minimum=minimum,
        target=target,
        maximum=(target * 5 // 3).astype(np.int32),
        room=np.where(r.random(cells) < 0.1, r.integers(0, 10, cells), NO_LIMIT).astype(np.int32),
    )


def crowds(places: Places, episodes: int, seed: int = 2) -> list[Excess]:
    """Episodes close together, as in a city's centre: they compete for the same room."""
    r = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(len(places))))
    near = np.clip(r.normal(side / 2, side / 10, (episodes * 3, 2)), 0, side - 1).astype(int)
    at = np.unique(near[:, 0] * side + near[:, 1])
    chosen = r.permutation(at[at < len(places)])[:episodes].tolist()
    return [
        Excess(f"episode {i:06d}", int(places.lat[i]), int(places.lng[i]), int(r.integers(5, 60)), (int(places.cell[i]),))
        for i in chosen
    ]


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def check(places: Places, excesses: list[Excess], made: Plan) -> None:
    """Everything is planned, nothing goes where it must not."""
    of = {excess.episode: excess for excess in excesses}
    out = dict.fromkeys(of, 0)
    brought: dict[int, int] = {}
    for move in made.moves:
        out[move.episode] += move.bikes
        if move.to != DEPOT:
            brought[move.to] = brought.get(move.to, 0) + move.bikes
            assert move.distance_m <= 3000
    assert out == {name: excess.bikes for name, excess in of.items()}
    crowded = {cell for excess in excesses for cell in excess.cells}
    index = {int(cell): i for i, cell in enumerate(places.cell)}
    for cell, bikes in brought.items():
        i = index[cell]
        assert cell not in crowded
        assert places.count[i] + bikes <= places.target[i]
        assert bikes <= places.room[i]


def changed(places: Places, excesses: list[Excess]) -> tuple[Places, list[Excess]]:
    """A minute later: one place in fifty has a bike more or less, one episode in ten another excess."""
    r = np.random.default_rng(3)
    drift = np.where(r.random(len(places)) < 0.02, r.integers(-1, 2, len(places)), 0)
    count = np.clip(places.count + drift, 0, None).astype(np.int32)
    later = [e._replace(bikes=e.bikes + int(r.integers(-2, 3))) if r.random() < 0.1 else e for e in excesses]
    return Places(**{name: getattr(places, name) for name in Places.__slots__} | {"count": count}), later


def main(cells: int = 100_000, episodes: int = 1_000) -> None:
    places = town(cells)
    excesses = crowds(places, episodes)
    timed(lambda: plan(town(1_000), crowds(town(1_000), 10)))  # the solver is loaded
    first_s, first = timed(lambda: plan(places, excesses, NOTHING))
    check(places, excesses, first)
    again_s, again = timed(lambda: plan(places, excesses, first))
    assert again == first
    now, later = changed(places, excesses)
    next_s, following = timed(lambda: plan(now, later, first))
    check(now, later, following)
    kept = len(set(first.moves) & set(following.moves)) / len(first.moves)
    print(f"{cells:,} cells, {len(excesses):,} episodes, {sum(e.bikes for e in excesses):,} bikes, {len(first.moves):,} moves")
    print(f"  a new plan          {first_s:6.3f} s")
    print(f"  nothing changed     {again_s:6.3f} s, {again_s / first_s:.1f} of a new one; the same plan")
    print(f"  a minute later      {next_s:6.3f} s, {next_s / first_s:.1f} of a new one; {kept:.0%} of the moves stand")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
