"""What a town tells of its cells: what changed, once an interval, and who is silent. docs/semantics.md, section 9."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest

from geo.alert import end_of, rfc3339
from geo.cells import name_of
from geo.counts import Counts
from geo.density import Density, Doubts
from geo.params import Epoch, Timeline
from geo.silence import Silence
from tests.geo.town import CELL, HERE, START, TICK_MS, Town, bikes, epoch, left_town, taken

MINUTE = 12
"""Ticks. START is the first tick of a minute no more than any other: the first end of an interval is where `FIRST` says."""

FIRST = next(tick for tick in range(START, START + MINUTE) if end_of(tick, TICK_MS) % 60_000 == 0)
NORTH = (HERE[0] + 100_000, HERE[1])
SQUARE = name_of(CELL)


def every(interval_ms: int, one: Epoch) -> Epoch:
    (city,) = one.cities
    return replace(one, cities=(replace(city, density_interval_ms=interval_ms),))


def told(town: Town) -> list[str]:
    """ "square ant 2 bee 1", a silent one with a question mark; "square -" is empty; "town silent bee"."""
    return [_words(telling.cell, telling.body) for telling in town.state.density.take()]


def _words(cell: str, body: bytes | None) -> str:
    name = {"": "town", SQUARE: "square"}.get(cell, "other")
    if body is None:
        return f"{name} -"
    says = orjson.loads(body)
    if name == "town":
        return " ".join(
            [name, *(f"silent {one['operator']}" for one in says["silent"]), *(f"unheard {o}" for o in says["unheard"])]
        )
    counts = (f"{operator} {count}" + "?" * (operator in says["silent"]) for operator, count in says["counts"].items())
    return " ".join([name, *counts])


def up_to(town: Town, tick: int) -> None:
    """All operators speak until then."""
    town.wait(tick - town.tick)


def test_a_cell_is_told_at_the_first_end_of_an_interval_after_it_changed() -> None:
    town = Town((epoch(),))
    town.say(*bikes(2))
    up_to(town, FIRST - 1)
    assert told(town) == []
    up_to(town, FIRST)
    assert told(town) == ["town", "square ant 2"]


def test_only_what_changed_is_told_and_only_how_it_is_in_the_end() -> None:
    town = Town((epoch(),))
    town.say(*bikes(2), *bikes(1, first=9, at=NORTH))
    up_to(town, FIRST)
    assert sorted(told(town)) == ["other ant 1", "square ant 2", "town"]
    town.say(*bikes(1, operator="bee"))
    town.say(*bikes(1, first=5))
    town.say(*taken(bikes(1, first=5)))
    up_to(town, FIRST + MINUTE)
    assert told(town) == ["square ant 2 bee 1"]
    town.say(*bikes(1, first=6))
    town.say(*taken(bikes(1, first=6)))
    up_to(town, FIRST + 2 * MINUTE)
    assert told(town) == [], "it is as it was"


def test_what_changes_in_the_tick_in_which_an_interval_ends_is_told_in_it() -> None:
    town = Town((epoch(),))
    up_to(town, FIRST - 1)
    town.say(*bikes(2))
    assert told(town) == ["town", "square ant 2"]
    (cell,) = [telling for telling in town.state.density.newest() if telling.cell]
    assert cell.at_ms == end_of(FIRST, TICK_MS)
    assert orjson.loads(cell.body or b"")["observed_at"] == rfc3339(cell.at_ms)


def test_an_interval_ends_without_a_record_too_and_nothing_is_told_of_a_quiet_one() -> None:
    town = Town((epoch(),))
    town.say(*bikes(2))
    town.nothing(FIRST - town.tick)
    assert told(town) == ["town", "square ant 2"]
    assert not town.state.density.pending
    town.nothing(100 * MINUTE)
    assert told(town) == []


def test_a_cell_that_became_empty_is_told_once_without_a_value() -> None:
    town = Town((epoch(),))
    town.say(*bikes(2))
    up_to(town, FIRST)
    told(town)
    town.say(*left_town(bikes(2)))
    up_to(town, FIRST + MINUTE)
    assert told(town) == ["square -"]
    up_to(town, FIRST + 3 * MINUTE)
    assert told(town) == []
    assert town.state.density.cells == 0


def test_a_cell_that_was_full_between_two_ends_only_is_never_told() -> None:
    town = Town((epoch(),))
    up_to(town, FIRST)
    told(town)
    town.say(*bikes(2))
    town.say(*left_town(bikes(2)))
    up_to(town, FIRST + MINUTE)
    assert told(town) == []


def test_a_silent_operator_is_marked_where_its_bikes_are_and_its_absence_elsewhere_is_no_emptiness() -> None:
    town = Town((epoch(watched=None),))
    town.say(*bikes(2), *bikes(1, operator="bee"), *bikes(1, first=7, at=NORTH))
    up_to(town, FIRST)
    told(town)
    heard_last = town.tick
    town.wait(MINUTE, heard=["ant"])
    assert told(town) == ["town silent bee", "square ant 2 bee 1?"], "the north has none of its bikes"
    (coverage,) = [orjson.loads(one.body or b"") for one in town.state.density.newest() if not one.cell]
    assert coverage["silent"] == [{"operator": "bee", "last_heard": rfc3339(end_of(heard_last, TICK_MS))}]
    town.wait(3 * MINUTE, heard=["ant"])
    assert told(town) == [], "it is as silent as it was"
    town.wait(MINUTE)
    assert told(town) == ["town", "square ant 2 bee 1"]


def test_who_was_never_heard_is_no_empty_feed_either() -> None:
    town = Town((epoch(watched=None, silent_after_ms=90_000),))
    town.say(*bikes(1), heard=["ant"])
    town.wait(FIRST - town.tick, heard=["ant"])
    assert told(town) == ["town unheard bee", "square ant 1"]
    town.wait(2 * MINUTE, heard=["ant"])
    assert told(town) == ["town silent bee"]
    (coverage,) = [orjson.loads(one.body or b"") for one in town.state.density.newest() if not one.cell]
    assert coverage["silent"] == [{"operator": "bee", "last_heard": None}]


def test_an_interval_that_does_not_fit_the_tick_ends_in_the_tick_that_holds_its_multiple() -> None:
    town = Town((every(7_000, epoch()),))
    ends = []
    for number in range(20):
        town.say(*bikes(1, first=number))
        ends += [town.tick] * bool(told(town))
    assert ends == [
        tick
        for tick in range(START, START + 20)
        if any(ms % 7_000 == 0 for ms in range(tick * 5_000 + 1, tick * 5_000 + 5_001))
    ]


def test_a_version_that_tells_nothing_takes_back_what_was_told_at_once() -> None:
    off, on = FIRST + 5, FIRST + 5 + MINUTE
    town = Town((epoch(), every(0, epoch(from_tick=off)), every(20_000, epoch(from_tick=on))))
    town.say(*bikes(2))
    up_to(town, FIRST)
    assert told(town) == ["town", "square ant 2"]
    up_to(town, off)
    assert told(town) == ["town -", "square -"]
    up_to(town, on - 1)
    assert told(town) == []
    up_to(town, on + 4)
    assert told(town) == ["town", "square ant 2"], "and it is told again once a version tells"


@pytest.mark.parametrize("ticks", range(4))
def test_a_restored_town_tells_what_the_other_would_have(ticks: int) -> None:
    """What was told last and whether anything waits to be told stand in the snapshot; operators are found by their names."""
    town = Town((epoch(),))
    town.say(*bikes(2, operator="bee"))
    up_to(town, FIRST)
    told(town)
    town.say(*bikes(1, first=4, at=NORTH))
    town.nothing(ticks)
    more = epoch(from_tick=10**9, operators=("aaa", "ant", "bee"))
    town.crash(Timeline(TICK_MS, (epoch(), more)))
    town.nothing(FIRST + MINUTE - town.tick)
    assert told(town) == ["other ant 1"]


def counts_of(cells: np.ndarray, operators: int, r: np.random.Generator) -> Counts:  # type: ignore[type-arg]
    counts = Counts()
    pairs = counts.pairs(np.tile(cells, operators), np.repeat(np.arange(operators, dtype=np.int16), len(cells)))
    counts.count[pairs] = r.integers(0, 3, len(pairs))
    return counts


def test_what_stands_in_the_topic_is_what_stands_in_the_table_whatever_changes() -> None:
    """Many cells and operators at random, over many intervals: whoever applies all records has the table of counts."""
    r = np.random.default_rng(7)
    (city,) = epoch().cities
    cells = CELL + (np.arange(300, dtype=np.int64) << 15)
    names = ("a", "b", "c", "d")
    density, shown = Density("town", names, TICK_MS), dict[str, bytes]()
    for tick in range(FIRST, FIRST + 20 * MINUTE, MINUTE):
        counts = counts_of(r.choice(cells, 120, replace=False), 4, r)
        silence = Silence(4, TICK_MS, tick)
        silence.silent[:] = r.random(4) < 0.3
        lost = r.random(4) < 0.2
        density.look(tick, city, counts, Doubts(silence, lost))
        for telling in density.take():
            assert shown.get(telling.cell) != telling.body
            shown[telling.cell] = telling.body or b""
        found = {cell: orjson.loads(body) for cell, body in shown.items() if cell and body}
        want: dict[str, dict[str, int]] = {}
        for code, operator, count in zip(counts.codes, counts.operators, counts.count, strict=True):
            if count:
                want.setdefault(name_of(int(code)), {})[names[operator]] = int(count)
        assert {cell: body["counts"] for cell, body in found.items()} == want
        quiet = {names[i] for i in np.flatnonzero(silence.silent)}
        assert all(set(body["silent"]) == quiet & body["counts"].keys() for body in found.values())
        degraded = {names[i] for i in np.flatnonzero(lost)}
        assert all(set(body.get("degraded", ())) == degraded & body["counts"].keys() for body in found.values())
