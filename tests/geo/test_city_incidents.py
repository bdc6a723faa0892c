"""Crowded cells that touch each other, told of as one: a street of five cells, a to e, of which each touches only the next.

At most two bikes may stand in a cell. docs/policies.md, section 13, says what is expected and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import h3.api.basic_int as h3
import orjson
import pytest

from geo.alert import Event, episode_id
from geo.cells import area_e4, centroid, e7, merged_area, name_of, neighbours, outline
from geo.params import Planning
from geo.policy import Policy, Rule
from geo.states import ELSEWHERE
from geo.windows import Window
from tests.geo.town import CELL, OPERATORS, START, TICK_MS, Fact, Town, epoch, taken

STREET = dict(zip("abcde", h3.grid_path_cells(CELL, h3.grid_ring(CELL, 4)[0]), strict=True))
FAR = e7(centroid(h3.grid_ring(CELL, 30)[0]))
LETTERS = {name_of(cell): letter for letter, cell in STREET.items()}
TURN = START + 100


def rule(**terms: Any) -> Rule:
    """At once, without mercy, unless told otherwise."""
    soon: dict[str, Any] = {"for_ms": 0, "keep_firing_for_ms": 0, "cooldown_ms": 0, "update_interval_ms": 0}
    return Rule("policy", "rule", "Too many", **({"maximum": 2, "merge": True} | soon | terms))


def crowd(letter: str, n: int = 3, **told: Any) -> list[Fact]:
    """n bikes in a cell of the street, named by it."""
    here = e7(centroid(STREET[letter]))
    return [Fact(f"{letter}{i}", at=here, **told) for i in range(n)]


def left(facts: Sequence[Fact]) -> list[Fact]:
    """The same bikes were carried far away, none of them to where another one is: nothing is crowded there."""
    return taken(facts, ELSEWHERE, at=FAR)


def street(*rules: Rule, then: Rule | None = None, **terms: Any) -> Town:
    """then: the rule from TURN on. A cell here is a good part of a fleet, whose loss is believed at once (test_city_degraded.py)."""
    epochs = [epoch(*(rules or (rule(),)), **terms)]
    epochs += [epoch(then, from_tick=TURN, **terms)] if then else []
    return Town(tuple(replace(one, cities=tuple(replace(city, degraded_hold_ms=0) for city in one.cities)) for one in epochs))


def answerable(**terms: Any) -> Town:
    """A minute to respond, ten to resolve."""
    strict = rule(respond_within_ms=60_000, resolve_within_ms=600_000)
    return Town((epoch(strict, **terms),), responses=True)


def words(event: Event) -> str:
    """ "raised a: abc", "cleared a: ab moved": founding cell and cells."""
    body = orjson.loads(event.body)
    cells = "".join(sorted(LETTERS[cell] for cell in body["area"]["cells"]))
    founder = LETTERS[body["area"]["h3"]]
    return " ".join([event.state, f"{founder}:", cells, *([body["cleared_by"]] if body["cleared_by"] else [])])


def say(it: Town, *facts: Fact, **terms: Any) -> list[str]:
    before = len(it.told)
    it.say(*facts, **terms)
    return [words(event) for event in it.told[before:]]


def nothing(it: Town, ticks: int) -> list[str]:
    before = len(it.told)
    it.nothing(ticks)
    return [words(event) for event in it.told[before:]]


def body_of(event: Event) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(event.body)
    return body


def test_the_street_is_one() -> None:
    for one, other in ((x, y) for x in STREET for y in STREET):
        assert (STREET[other] in neighbours(STREET[one])) == (abs(ord(one) - ord(other)) == 1)


# --- what is told -------------------------------------------------------------------------------------------------------


def test_two_crowded_cells_that_touch_are_one_alert_and_two_apart_are_two() -> None:
    it = street()
    assert sorted(told[-2:].strip() for told in say(it, *crowd("a"), *crowd("b"), *crowd("d"))) == ["ab", "d"]
    bodies = sorted((body_of(event) for event in it.told), key=lambda body: len(body["area"]["cells"]))
    alone, both = bodies
    assert (both["count"], both["rule"]["threshold"], both["excess"], len(both["bikes"])) == (6, 4, 4, 4)
    assert (alone["count"], alone["rule"]["threshold"], alone["excess"]) == (3, 2, 2)
    assert both["area"]["name"] is None and both["area"]["resolution"] == 9
    assert both["area"]["area_ha"] == (area_e4(STREET["a"]) + area_e4(STREET["b"])) / 1e4
    assert both["area"]["cells"] == sorted(name_of(STREET[letter]) for letter in "ab")


def test_the_id_is_that_of_the_founding_cell_and_no_cells_own() -> None:
    it = street()
    say(it, *crowd("a"))
    area = name_of(STREET["a"])
    assert it.last["episode_id"] == episode_id("town", ("policy", "rule"), area, "ant", START, "incident")
    assert it.told[-1].area == area


def test_severity_is_that_of_the_sums() -> None:
    it = street()
    say(it, *crowd("a", 4), *crowd("b", 3))
    assert it.last["severity"] == "major", "7 of 4, while one cell alone is critical"


def test_the_bikes_of_all_cells_are_listed_in_one_order() -> None:
    it = street(rule(bikes_cap=3))
    broken = [replace(crowd("b", 1)[0], bike="z", state="non_operational", since=900)]
    say(it, *crowd("a", 3, since=50), *crowd("b", 3, since=20), *broken)
    assert [bike["id"] for bike in it.last["bikes"]] == ["z", "b0", "b1"], "broken first, then longest idle"


def test_the_city_is_told_of_all_bikes_in_the_cells_and_the_operator_is_not() -> None:
    it = street()
    say(it, *crowd("a"), *crowd("b"), *[replace(fact, operator="bee") for fact in crowd("b", 2)])
    [event] = it.told
    assert body_of(event)["count_all_operators"] == 8
    assert event.operator_body is not None and b"count_all_operators" not in event.operator_body


def test_a_shadow_is_told_to_the_city_only() -> None:
    it = street(rule(shadow=True))
    say(it, *crowd("a"), *crowd("b"))
    [event] = it.told
    assert event.shadow and event.operator_body is None and body_of(event)["mode"] == "shadow"


def test_what_rivals_have_there_is_no_part_of_it() -> None:
    """Cells of two operators lie side by side: two incidents."""
    it = street()
    say(it, *crowd("a"), *[replace(fact, operator="bee") for fact in crowd("b")])
    assert sorted((event.operator, words(event)) for event in it.told) == [("ant", "raised a: a"), ("bee", "raised b: b")]


# --- growing ------------------------------------------------------------------------------------------------------------


def test_an_incident_that_grows_and_shrinks_keeps_its_id_also_without_its_founding_cell() -> None:
    it = street()
    assert say(it, *crowd("a")) == ["raised a: a"]
    assert say(it, *crowd("b")) == ["updated a: ab"]
    assert say(it, *crowd("c")) == ["updated a: abc"]
    assert say(it, *taken(crowd("a"))) == ["updated a: bc"]
    assert len({event.episode_id for event in it.told}) == 1
    assert [event.sequence for event in it.told] == [1, 2, 3, 4]


def test_another_cell_is_told_of_no_sooner_than_the_update_interval_allows() -> None:
    it = street(rule(update_interval_ms=20_000))
    say(it, *crowd("a"))
    assert say(it, *crowd("b", 3)) == []
    assert nothing(it, 2) == []
    assert nothing(it, 1) == ["updated a: ab"]


def test_other_cells_are_news_even_if_the_excess_is_the_same() -> None:
    it = street(rule(clear_ratio=1, target_ratio=1))
    assert say(it, *crowd("a", 3), *crowd("b", 3)) in (["raised a: ab"], ["raised b: ab"])
    founder = words(it.told[-1])[7]
    one, other = ("a", "b") if founder == "b" else ("b", "a")
    excess = it.last["excess"]
    assert excess == 2
    assert say(it, *taken(crowd(one)), *crowd(other, 4)) == [f"updated {founder}: {other}"]
    assert it.last["excess"] == excess


def test_a_dip_of_a_cell_that_is_shorter_than_keep_firing_for_is_none() -> None:
    it = street(rule(keep_firing_for_ms=20_000, update_interval_ms=10**9))
    say(it, *crowd("a"), *crowd("b"), *crowd("c"))
    assert say(it, *taken(crowd("b"))) == []
    assert nothing(it, 3) == []
    assert say(it, *crowd("b")) == []
    assert nothing(it, 100) == [], "it never fell apart"


# --- merging ------------------------------------------------------------------------------------------------------------


def test_of_two_that_meet_the_older_one_goes_on() -> None:
    it = street()
    say(it, *crowd("c"))
    say(it, *crowd("a"))
    assert sorted(say(it, *crowd("b"))) == ["cleared a: a merged", "updated c: abc"]
    gone, kept = sorted((body_of(event) for event in it.told[-2:]), key=lambda body: body["state"])
    assert gone["merged_into"] == kept["episode_id"] == it.told[0].episode_id
    assert (gone["count"], gone["excess"], gone["bikes"], gone["moves"]) == (3, 0, [], [])
    assert kept["count"] == 9 and "merged_into" not in kept
    assert set(it.state.open_events()) == {kept["episode_id"]}


def test_the_one_that_goes_on_has_as_long_as_it_had() -> None:
    it = street()
    say(it, *crowd("c"))
    before = it.last["resolve_by"]
    say(it, *crowd("a"))
    later = it.last["resolve_by"]
    say(it, *crowd("b"))
    kept = next(body_of(event) for event in it.told[-2:] if event.state == "updated")
    assert kept["resolve_by"] == before < later


def test_what_a_merged_one_lost_counts_for_the_one_that_took_it_in() -> None:
    it = street()
    say(it, *crowd("e"))
    say(it, *crowd("a", 20), *crowd("b"))
    say(it, *taken(crowd("a", 20)))
    assert any(told.endswith("merged") for told in say(it, *crowd("c"), *crowd("d")))
    assert say(it, *left([fact for letter in "bcde" for fact in crowd(letter)])) == ["cleared e: bcde ridden"]


# --- splitting ----------------------------------------------------------------------------------------------------------


def split_street() -> Town:
    it = street()
    say(it, *crowd("a"))
    say(it, *crowd("b"), *crowd("c"))
    it.wait(10)
    assert sorted(say(it, *taken(crowd("b")))) == ["raised c: c", "updated a: a"]
    return it


def test_what_falls_apart_keeps_its_id_where_its_oldest_cell_is() -> None:
    it = split_street()
    old, new = sorted(it.told[-2:], key=lambda event: event.state != "updated")
    assert old.episode_id == it.told[0].episode_id != new.episode_id
    assert body_of(new)["split_from"] == old.episode_id
    assert "split_from" not in body_of(old)


def test_splitting_gives_nobody_more_time() -> None:
    it = split_street()
    old, new = sorted((body_of(event) for event in it.told[-2:]), key=lambda body: body["state"] != "updated")
    assert (new["respond_by"], new["resolve_by"]) == (old["respond_by"], old["resolve_by"])
    assert new["opened_at"] == new["observed_at"] > old["opened_at"]


def test_parts_that_meet_again_are_the_old_one_again() -> None:
    it = split_street()
    assert sorted(say(it, *crowd("b"))) == ["cleared c: c merged", "updated a: abc"]


def test_a_part_that_was_split_is_as_old_as_what_it_came_of() -> None:
    """It outlives one that was raised before it, but after what it came of: else its deadline would be put off."""
    it = street()
    say(it, *crowd("a"))
    say(it, *crowd("b"), *crowd("c"))
    due = it.told[0]
    say(it, *crowd("e"))
    say(it, *taken(crowd("b")))
    assert sorted(say(it, *crowd("d")))[0] == "cleared e: e merged"
    kept = next(body_of(event) for event in it.told[-2:] if event.state == "updated")
    assert kept["resolve_by"] == body_of(due)["resolve_by"]


def test_merging_and_splitting_at_one_tick() -> None:
    """The old one a-b-c loses b while d joins c to e: the part of a keeps the id, and c, not being its oldest, goes to e."""
    it = street()
    say(it, *crowd("a"))
    say(it, *crowd("b"), *crowd("c"))
    say(it, *crowd("e"))
    assert sorted(say(it, *taken(crowd("b")), *crowd("d"))) == ["updated a: a", "updated e: cde"]


# --- answers and deadlines ----------------------------------------------------------------------------------------------


def test_what_was_split_from_an_answered_incident_is_answered_too() -> None:
    it = answerable()
    say(it, *crowd("a"))
    say(it, *crowd("b"), *crowd("c"))
    it.answer("acknowledged")
    say(it, *taken(crowd("b")))
    new = next(body_of(event) for event in it.told[-2:] if event.state == "raised")
    assert new["response"]["status"] == "acknowledged"
    it.nothing(200)
    causes = [one["cause"] for event in it.told for one in body_of(event).get("escalations", ())]
    assert causes == ["resolve_by"] * 2, "both parts, at the same moment, and neither for want of an answer"
    assert len({event.tick for event in it.told if event.state == "escalated"}) == 1


def test_splitting_puts_no_escalation_off_and_repeats_none() -> None:
    it = answerable()
    say(it, *crowd("a"))
    say(it, *crowd("b"), *crowd("c"))
    assert nothing(it, 13)[-1].startswith("escalated a:")
    say(it, *taken(crowd("b")))
    new = next(body_of(event) for event in it.told[-2:] if event.state == "raised")
    assert [one["cause"] for one in new["escalations"]] == ["respond_by"]
    assert new["severity"] == "critical", "half too many, and nobody came"
    assert [told for told in nothing(it, 40) if told.startswith("escalated")] == []


def test_one_that_was_taken_in_cannot_be_answered_any_more() -> None:
    it = answerable()
    say(it, *crowd("c"))
    say(it, *crowd("a"))
    younger = it.told[-1].episode_id
    say(it, *crowd("b"))
    it.answer("done", episode=younger)
    it.nothing(1)
    assert it.state.responses.counted() == {("ant", "unknown_episode"): 1}


def test_a_cell_by_itself_cannot_be_answered() -> None:
    """Its id can be computed, but nobody was told of it."""
    it = answerable()
    say(it, *crowd("a"))
    hidden = episode_id("town", ("policy", "rule"), name_of(STREET["a"]), "ant", START)
    it.answer("done", episode=hidden)
    assert it.state.responses.counted() == {("ant", "unknown_episode"): 1}


def test_deadlines_pass_while_the_operator_is_silent() -> None:
    it = answerable(watched=OPERATORS, silent_after_ms=10_000)
    say(it, *crowd("a"), *crowd("b"))
    told = it.wait(200, heard=["bee"])
    assert told == ["ant feed raised", "escalated ant", "escalated ant"]
    assert body_of(it.told[-1])["area"]["cells"] == sorted(name_of(STREET[letter]) for letter in "ab")


# --- the end ------------------------------------------------------------------------------------------------------------


def test_the_last_cell_that_clears_ends_it() -> None:
    it = street()
    say(it, *crowd("a", 5), *crowd("b", 3))
    say(it, *taken(crowd("b")))
    assert say(it, *taken(crowd("a", 5))) in (["cleared a: a ridden"], ["cleared b: a ridden"])
    assert (it.last["count"], it.last["excess"], it.last["rule"]["threshold"]) == (0, 0, 2)
    assert it.state.open_events() == {}


def test_what_took_most_bikes_out_of_all_cells_ended_it() -> None:
    it = street()
    say(it, *crowd("a", 4), *crowd("b", 3))
    say(it, *taken(crowd("a", 4)))
    assert say(it, *left(crowd("b")))[0].endswith("b ridden"), "four were ridden before three were moved"


def test_a_policy_that_ends_clears_all_of_it_at_once() -> None:
    it = street(then=rule(merge=True, resolution=10))
    say(it, *crowd("a"), *crowd("b"))
    before = len(it.told)
    it.nothing(TURN - it.tick)
    told = it.told[before:]
    assert words(told[0]).endswith("ab policy") and told[0].tick == TURN
    assert (body_of(told[0])["count"], body_of(told[0])["excess"]) == (6, 0)


def test_to_stop_merging_is_another_rule() -> None:
    it = street(then=rule(merge=False))
    say(it, *crowd("a"), *crowd("b"))
    assert it.nothing(TURN - it.tick) == ["cleared ant policy", "raised ant", "raised ant"]
    assert [body_of(event)["area"]["type"] for event in it.told[-2:]] == ["cell", "cell"]


def test_to_begin_merging_is_another_rule() -> None:
    it = street(rule(merge=False), then=rule())
    it.say(*crowd("a"), *crowd("b"))
    assert it.nothing(TURN - it.tick) == ["cleared ant policy", "cleared ant policy", "raised ant"]


def test_other_numbers_under_the_same_id_let_it_go_on() -> None:
    it = street(then=rule(maximum=1))
    say(it, *crowd("a"), *crowd("b"))
    it.nothing(TURN - it.tick)
    assert it.told[-1].state == "updated" and it.told[-1].episode_id == it.told[0].episode_id
    assert it.last["rule"]["threshold"] == 2


def test_a_window_that_closes_clears_it_and_one_that_opens_begins_anew() -> None:
    start_s = START * TICK_MS // 1000 % 86_400
    window = Window(start_s=start_s, end_s=start_s + 300)
    policy = Policy("policy", "Policy", (rule(window=window),))
    it = Town((epoch(policies=(policy,)),))
    say(it, *crowd("a"), *crowd("b"))
    assert it.nothing(60) == ["cleared ant policy"]
    assert it.told[-1].tick == START + 60


def test_another_rule_of_the_policy_lets_it_go_on() -> None:
    """A rule that is put before it changes the numbers by which areas are known, and nothing else."""
    first = Policy("policy", "Policy", (rule(),))
    second = Policy("policy", "Policy", (Rule("policy", "few", "Few", maximum=100, states=(6,)), rule()))
    it = Town((epoch(policies=(first,)), epoch(policies=(second,), from_tick=TURN)))
    say(it, *crowd("a"), *crowd("b"))
    assert it.nothing(TURN - it.tick) == []
    assert [words(event)[:8] for event in it.told] == [words(it.told[0])[:8]]
    assert say(it, *crowd("c"))[0].startswith("updated")
    assert it.told[-1].episode_id == it.told[0].episode_id


def test_an_operator_that_is_not_allowed_any_more_has_no_incident() -> None:
    it = Town((epoch(rule()), epoch(rule(), from_tick=TURN, operators=("bee",))))
    say(it, *crowd("a"), *crowd("b"))
    assert it.nothing(TURN - it.tick) == ["cleared ant policy"]
    assert it.last["count"] == 0


# --- silence, restarts, moves -------------------------------------------------------------------------------------------


def test_a_silent_operators_incident_stands_still() -> None:
    """A cell that emptied just before goes on to be hot until its operator has spoken for 20 s."""
    it = street(rule(keep_firing_for_ms=20_000), watched=OPERATORS, silent_after_ms=10_000)
    say(it, *crowd("a"), *crowd("b"))
    assert say(it, *taken(crowd("b")))[0].endswith("ab"), "the excess is another one"
    assert it.wait(30, heard=["bee"]) == ["ant feed raised"]
    assert it.wait(2) == ["ant feed cleared returned"]
    assert it.wait(1) == ["updated ant"]
    assert words(it.told[-1]).endswith(": a")


@pytest.mark.parametrize("after", range(7))
def test_a_restart_at_any_moment_changes_nothing(after: int) -> None:
    ticks: list[list[Fact]] = [
        crowd("a"),
        crowd("b"),
        crowd("e"),
        [*crowd("c"), *crowd("d")],
        taken(crowd("c")),
        taken([*crowd("a"), *crowd("b")]),
        taken([*crowd("d"), *crowd("e")]),
    ]
    whole, torn = street(rule(update_interval_ms=10_000)), street(rule(update_interval_ms=10_000))
    for tick, facts in enumerate(ticks):
        whole.say(*facts)
        torn.say(*facts)
        if tick == after:
            torn.crash()
        assert torn.state.open_events() == whole.state.open_events()
    assert torn.nothing(50) == whole.nothing(50)
    assert torn.told == whole.told
    assert {event.state for event in whole.told} == {"raised", "updated", "cleared"}


def test_moves_to_one_place_are_one_move_of_the_incident() -> None:
    planned = Planning(max_haul_m=5_000, interval_ms=2 * TICK_MS)
    here = replace(epoch(rule(update_interval_ms=0)).cities[0], planning=planned)
    it = Town((replace(epoch(), cities=(here,)),))
    say(it, *crowd("a", 3), *crowd("b", 3), *crowd("e", 1))
    it.nothing(6)
    moves = it.last["moves"]
    assert sum(move["bikes"] for move in moves) == it.last["excess"] == 4
    by_place = {move["to"]: move for move in moves}
    assert len(by_place) == len(moves), "each place is told once"
    assert not by_place.keys() & {name_of(STREET["a"]), name_of(STREET["b"])}, "no cell of it has room"


# --- the area -----------------------------------------------------------------------------------------------------------


def test_a_single_cell_has_the_outline_and_centre_that_h3_gives_it() -> None:
    area = merged_area(CELL, [CELL])
    shape = [(round(lat, 7), round(lng, 7)) for lat, lng in h3.cell_to_boundary(CELL)]
    assert area.boundary is not None and area.centroid == centroid(CELL)
    first = shape.index(area.boundary[0])
    assert list(area.boundary) == shape[first:] + shape[:first]


@pytest.mark.parametrize("resolution", [5, 9, 12])
def test_the_outline_is_the_outer_ring_that_h3_finds(resolution: int) -> None:
    """Of a disk with a hole in it, which is not told."""
    middle = h3.latlng_to_cell(39.9, 116.4, resolution)
    disk = [cell for cell in h3.grid_disk(middle, 3) if cell != middle]
    found = outline(disk)
    shape = h3.cells_to_h3shape(disk)
    ring = [(round(lat, 7), round(lng, 7)) for lat, lng in shape.outer]
    assert found is not None and found[0] == min(ring)
    first = ring.index(found[0])
    assert list(found) == ring[first:] + ring[:first]
    assert len(shape.holes) == 1


def test_an_outline_of_a_thousand_positions_is_too_long_to_be_told() -> None:
    far = h3.grid_ring(CELL, 400)[0]
    assert outline(h3.grid_path_cells(CELL, far)) is None


def test_the_centre_is_the_mean_also_where_east_meets_west() -> None:
    cell = h3.latlng_to_cell(0.0, 179.9999, 9)
    area = merged_area(cell, h3.grid_disk(cell, 2))
    assert area.centroid[1] == pytest.approx(centroid(cell)[1], abs=1e-4)
    assert -180 <= area.centroid[1] < 180
