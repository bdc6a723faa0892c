"""A plan is right, is the best there is, and stands until it is wrong or could be clearly better."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bench_plan import check, crowds, town
from geo.flow import solve
from geo.plan import (
    DEPOT,
    NO_LIMIT,
    NOTHING,
    Excess,
    Move,
    Places,
    Plan,
    Worth,
    _Desk,
    clearly_better,
    plan,
)
from geo.prices import Prices
from tests.oracle import plan as oracle

LAT, LNG = 399_000_000, 1_164_000_000
STEP = 90_000  # 1e-7 degrees, about a kilometre of latitude
HAUL_M = 3_000


def places(*rows: tuple[Any, ...]) -> Places:
    """Rows of (cell, steps north, count, minimum, target, room)."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    cell, north, count, minimum, target, room = (np.array(column, np.int64) for column in columns)
    n = len(cell)
    thirds = [column.astype(np.int32) for column in (LAT + north * STEP, np.full(n, LNG), count, minimum, target)]
    return Places(cell, *thirds, maximum=np.full(n, NO_LIMIT, np.int32), room=room.astype(np.int32))


def row(cell: int, north: int, free: int, *, short: int = 0, room: int = NO_LIMIT) -> tuple[int, ...]:
    """A place that may be filled by `free` bikes, the first `short` of which it lacks."""
    return cell, north, 10, 10 + short if short else 0, 10 + free, room


def excess(name: str, north: int, bikes: int, *cells: int) -> Excess:
    return Excess(name, LAT + north * STEP, LNG, bikes, cells)


# --- stories ------------------------------------------------------------------------------------------------------------


def test_bikes_go_to_the_nearest_place_with_room_and_the_rest_further() -> None:
    made = plan(places(row(11, 1, 4), row(12, 2, 9)), [excess("a", 0, 6, 10)])
    assert [(m.to, m.bikes, m.distance_m) for m in made.moves] == [(11, 4, 1001), (12, 2, 2002)]


def test_a_shortage_comes_first_however_far_it_is() -> None:
    made = plan(places(row(11, 0, 9), row(12, 2, 9, short=5)), [excess("a", 0, 6, 10)])
    assert [(m.to, m.bikes) for m in made.moves] == [(11, 1), (12, 5)]


def test_a_shortage_that_only_one_can_reach_is_left_to_that_one() -> None:
    """b can reach the near one only; a must go further, or a bike would go to the depot."""
    made = plan(places(row(11, 0, 5), row(12, -3, 9)), [excess("a", 0, 5, 1), excess("b", 3, 5, 2)], max_haul_m=3_100)
    assert made.moves == (Move("a", 12, 5, 3002), Move("b", 11, 5, 3002))


def test_what_no_place_within_reach_has_room_for_goes_to_the_depot() -> None:
    made = plan(places(row(11, 1, 2), row(12, 4, 9)), [excess("a", 0, 6, 10)])
    assert made.moves == (Move("a", DEPOT, 4, 0), Move("a", 11, 2, 1001))


def test_nothing_is_brought_into_the_area_of_an_open_episode_whatever_room_it_has() -> None:
    made = plan(places(row(10, 0, 9), row(11, 1, 9)), [excess("a", 0, 3, 10), excess("b", 1, 0, 11)])
    assert made.moves == (Move("a", DEPOT, 3, 0),)


def test_what_all_operators_together_may_have_is_kept() -> None:
    made = plan(places(row(11, 1, 9, room=2)), [excess("a", 0, 6, 10)])
    assert made.moves == (Move("a", DEPOT, 4, 0), Move("a", 11, 2, 1001))


def test_without_places_or_without_episodes() -> None:
    assert plan(places(), [excess("a", 0, 3)]).moves == (Move("a", DEPOT, 3, 0),)
    assert plan(places(row(1, 0, 3)), []) == NOTHING
    assert plan(places(row(1, 0, 3)), [excess("a", 0, 0)]) == NOTHING


def test_across_the_date_line() -> None:
    there = replace(places(row(11, 0, 4)), lng=np.array([-1_799_900_000], np.int32))
    made = plan(there, [Excess("a", LAT, 1_799_900_000, 3, ())])
    assert [(m.to, m.bikes, m.distance_m) for m in made.moves] == [(11, 3, 1706)]


# --- a plan stands ------------------------------------------------------------------------------------------------------


def test_a_move_that_became_wrong_is_made_smaller_and_what_is_left_over_goes_elsewhere() -> None:
    before = plan(places(row(11, 1, 6), row(12, 2, 9)), [excess("a", 0, 6, 10)])
    assert before.moves == (Move("a", 11, 6, 1001),)
    now = plan(places(row(11, 1, 4), row(12, 2, 9)), [excess("a", 0, 6, 10)], before)
    assert now.moves == (Move("a", 11, 4, 1001), Move("a", 12, 2, 2002))


def test_of_two_that_bring_to_a_place_with_less_room_now_the_further_one_gives_way() -> None:
    crowd = [excess("a", 0, 3, 10), excess("b", 3, 3, 13)]
    before = plan(places(row(11, 1, 6)), crowd)
    assert before.moves == (Move("a", 11, 3, 1001), Move("b", 11, 3, 2002))
    now = plan(places(row(11, 1, 4)), crowd, before)
    assert now.moves == (Move("a", 11, 3, 1001), Move("b", DEPOT, 2, 0), Move("b", 11, 1, 2002))


def test_fewer_bikes_to_take_shorten_the_furthest_haul() -> None:
    ground = places(row(12, 1, 4), row(11, 2, 9))
    before = plan(ground, [excess("a", 0, 6, 10)])
    assert plan(ground, [excess("a", 0, 5, 10)], before).moves == (Move("a", 11, 1, 2002), Move("a", 12, 4, 1001))


def test_an_episode_that_is_over_leaves_the_plan_and_the_others_stay() -> None:
    ground = places(row(11, 1, 4), row(12, 2, 9))
    before = plan(ground, [excess("a", 0, 4, 10), excess("b", 0, 4, 13)])
    now = plan(ground, [excess("b", 0, 4, 13)], before)
    kept = tuple(move for move in before.moves if move.episode == "b")
    assert now.moves in (kept, (Move("b", 11, 4, 1001),))


def test_a_plan_that_is_a_little_worse_than_the_best_stands_and_a_clearly_worse_one_does_not() -> None:
    """Only 12 had room, at 20 km; then there is room at 18 km, which is a tenth less, and at 16 km, which is a fifth."""
    before = plan(places(row(12, 20, 9)), [excess("a", 0, 6, 10)], max_haul_m=30_000)
    little = plan(places(row(11, 18, 9), row(12, 20, 9)), [excess("a", 0, 6, 10)], before, max_haul_m=30_000)
    assert little == before
    much = plan(places(row(11, 16, 9), row(12, 20, 9)), [excess("a", 0, 6, 10)], before, max_haul_m=30_000)
    assert [m.to for m in much.moves] == [11]


@pytest.mark.parametrize(
    ("new", "old", "better"),
    [
        ((0, 0, 85), (0, 0, 100), True), ((0, 0, 86), (0, 0, 100), False), ((0, 0, 100), (0, 0, 100), False),
        ((1, 0, 0), (0, 0, 100), False), ((0, 1, 0), (0, 0, 100), False), ((85, 9, 999), (100, 0, 0), True),
        ((99, 0, 85), (100, 0, 100), True), ((99, 1, 0), (100, 0, 100), False), ((0, 0, 0), (0, 0, 0), False),
    ],
)  # fmt: skip
def test_what_clearly_better_means(new: tuple[int, int, int], old: tuple[int, int, int], better: bool) -> None:
    assert clearly_better(Worth(*new), Worth(*old)) is better


# --- laws ---------------------------------------------------------------------------------------------------------------


@st.composite
def grounds(draw: st.DrawFn, most: int = 4, free: int = 4) -> Places:
    """A few places within a few kilometres, some out of reach of each other."""
    n = draw(st.integers(0, most))
    rows = [
        (
            100 + i,
            draw(st.integers(-4, 4)),
            count := draw(st.integers(0, 5)),
            minimum := draw(st.integers(0, 6)),
            max(minimum, count + draw(st.integers(-2, free))),
            draw(st.sampled_from([0, 1, 2, 3, NO_LIMIT])),
        )
        for i in range(n)
    ]
    ground = places(*rows)
    east = np.array([draw(st.integers(-2, 2)) * STEP for _ in range(n)], np.int32)
    return replace(ground, lng=(ground.lng + east).astype(np.int32)) if n else ground


@st.composite
def crowd(draw: st.DrawFn, most: int = 3, bikes: int = 4) -> list[Excess]:
    """Episodes; some in one of the places, so that it gets nothing."""
    return [
        excess(
            f"e{i}", draw(st.integers(-4, 4)), draw(st.integers(0, bikes)), *draw(st.lists(st.integers(100, 103), max_size=1))
        )
        for i in range(draw(st.integers(0, most)))
    ]


@given(ground=grounds(), excesses=crowd())
def test_a_plan_can_be_done_breaks_no_rule_and_is_the_best_of_all(ground: Places, excesses: list[Excess]) -> None:
    made, plain = plan(ground, excesses), oracle.places_of(ground, excesses)
    assert oracle.can_be_done(made.moves, excesses, plain, HAUL_M), made
    assert oracle.worth_of(made.moves, excesses, plain) == oracle.best_worth(excesses, plain, HAUL_M)


@given(ground=grounds(), excesses=crowd(), order=st.randoms(use_true_random=False))
def test_the_order_of_what_it_is_given_changes_nothing(ground: Places, excesses: list[Excess], order: random.Random) -> None:
    shuffled = list(range(len(ground)))
    order.shuffle(shuffled)
    other = Places(**{name: getattr(ground, name)[shuffled] for name in Places.__slots__})
    made = plan(ground, excesses)
    moves = list(made.moves)
    order.shuffle(moves)
    mixed = order.sample(excesses, len(excesses))
    assert plan(other, mixed) == made
    assert plan(other, mixed, Plan(tuple(moves))) == made


@pytest.mark.parametrize("seed", range(5))
def test_of_equally_good_plans_the_order_does_not_choose(seed: int) -> None:
    """On a grid many distances are the same; the solver picks one of many best plans, always the same one."""
    r, ground = np.random.default_rng(seed), town(400)
    excesses = crowds(ground, 30, seed)
    shuffled = r.permutation(len(ground))
    other = Places(**{name: getattr(ground, name)[shuffled] for name in Places.__slots__})
    mixed = [excesses[i] for i in r.permutation(len(excesses)).tolist()]
    made = plan(ground, excesses)
    assert plan(other, excesses) == made
    assert plan(ground, mixed) == made
    assert plan(other, mixed, made) == made


@given(before=grounds(), were=crowd(), ground=grounds(), excesses=crowd())
def test_a_plan_that_follows_another_can_be_done_and_changes_only_for_a_reason(
    before: Places, were: list[Excess], ground: Places, excesses: list[Excess]
) -> None:
    """Whatever has changed meanwhile: places, rooms, episodes."""
    previous, plain = plan(before, were), oracle.places_of(ground, excesses)
    made = plan(ground, excesses, previous)
    assert oracle.can_be_done(made.moves, excesses, plain, HAUL_M)
    best = Worth(*oracle.best_worth(excesses, plain, HAUL_M))
    worth = Worth(*oracle.worth_of(made.moves, excesses, plain))
    assert not clearly_better(best, worth)
    if oracle.can_be_done(previous.moves, excesses, plain, HAUL_M) and made != previous:
        assert clearly_better(best, Worth(*oracle.worth_of(previous.moves, excesses, plain)))
        assert worth == best
    assert plan(ground, excesses, made) == made


@given(grounds(), crowd(), grounds(), crowd(), grounds())
def test_prices_that_are_remembered_change_no_plan(
    before: Places, were: list[Excess], ground: Places, excesses: list[Excess], later: Places
) -> None:
    prices = Prices()
    previous = plan(before, were, prices=prices)
    made = plan(ground, excesses, previous, prices=prices)
    assert made == plan(ground, excesses, previous)
    assert plan(later, excesses, made, prices=prices) == plan(later, excesses, made)


@given(grounds(), crowd(), grounds(), crowd())
def test_no_plan_has_fewer_metres_than_prices_of_another_question_say(
    before: Places, were: list[Excess], ground: Places, excesses: list[Excess]
) -> None:
    prices = Prices()
    plan(before, were, prices=prices)
    _, elsewhere, to_depot, bike_m, least_m = _bound(prices, ground, excesses)
    assert least_m <= bike_m, (elsewhere, to_depot)


@given(grounds(), crowd())
def test_the_prices_of_a_best_plan_say_exactly_how_good_it_is(ground: Places, excesses: list[Excess]) -> None:
    prices = Prices()
    plan(ground, excesses, prices=prices)
    asked, _, _, bike_m, least_m = _bound(prices, ground, excesses)
    assert not asked or least_m == bike_m


def _bound(prices: Prices, ground: Places, excesses: list[Excess]) -> tuple[int, int, int, int, int]:
    """Places with room, the worth of the best plan, and the metres that prices say are the least."""
    desk = _Desk.of(ground, excesses, HAUL_M, None)
    worth = desk.worth(desk.best(desk.nothing()))
    least_m = prices.least_m(desk.problem, desk.cell, elsewhere=worth.elsewhere, to_depot=worth.to_depot)
    return len(desk.cell), *worth, least_m


def test_a_plan_that_cannot_be_much_better_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ground, prices = town(2_000), Prices()
    excesses = crowds(ground, 50)
    made = plan(ground, excesses, prices=prices)
    fewer = [excess._replace(bikes=excess.bikes - (i == 7)) for i, excess in enumerate(excesses)]
    solved: list[int] = []
    monkeypatch.setattr("geo.plan.solve", lambda problem: solved.append(int(problem.supply.sum())) or solve(problem))
    again = plan(ground, fewer, made, prices=prices)
    assert again != made
    assert sum(solved) <= 1, "only what is not planned yet"


def test_a_large_city_is_planned_rightly_and_the_plan_stands() -> None:
    ground = town(5_000)
    excesses = crowds(ground, 100)
    made = plan(ground, excesses)
    check(ground, excesses, made)
    assert len(made.moves) > 300
    assert plan(ground, excesses, made) == made


# --- refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("count", [-1], "count must be at least 0, got -1 at place 0"),
        ("room", [-3], "room must be at least 0, got -3"),
        ("minimum", [-1], "minimum must be at least 0, got -1"),
        ("target", [2], "target must be at least minimum, got 2 at place 0"),
        ("maximum", [4], "maximum must be at least target, got 4"),
        ("lat", [1, 2], r"lat must have the shape \(1,\) of cell, got \(2,\)"),
    ],
)
def test_places_that_can_not_be_are_refused(column: str, value: list[int], text: str) -> None:
    good = places((11, 0, 1, 3, 5, 9))
    with pytest.raises(ValueError, match=text):
        replace(good, **{column: np.array(value, np.int32)})


def test_a_place_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="cell must name each place once"):
        places(row(11, 0, 1), row(11, 1, 1))


@pytest.mark.parametrize(
    ("excesses", "haul_m", "text"),
    [
        ([excess("a", 0, 1), excess("a", 1, 2)], 3000, "an episode must have one excess"),
        ([excess("a", 0, -1)], 3000, "an excess must not be negative"),
        ([], 0, "max_haul_m must be from 1 to 50000, got 0"),
        ([], 50_001, "got 50001"),
    ],
)
def test_questions_that_can_not_be_are_refused(excesses: list[Excess], haul_m: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        plan(places(), excesses, max_haul_m=haul_m)
