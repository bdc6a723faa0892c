"""A feed that says of most of a fleet at once that it is gone. docs/semantics.md, section 10. A tick is 5 s, half an hour 360 ticks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest

from geo.params import Epoch, Rule, Timeline
from geo.states import ELSEWHERE, MISSING, ON_TRIP, REMOVED
from tests.geo.town import START, THERE, TICK_MS, Fact, Town, at_most, bikes, epoch, taken

HALF_AN_HOUR = 360
FLEET = bikes(40)
LIMIT = at_most(20, update_interval_ms=10**9)


def holding(*rules: Rule, hold_ms: int = 1_800_000, fewest: int = 20, **terms: object) -> Epoch:
    one = epoch(*rules, **terms)  # type: ignore[arg-type]
    cities = tuple(replace(city, degraded_hold_ms=hold_ms, degraded_fewest=fewest) for city in one.cities)
    return replace(one, cities=cities)


def removed(facts: list[Fact]) -> list[Fact]:
    return taken(facts, REMOVED)


def crowded(*epochs: Epoch) -> Town:
    """Forty bikes where twenty may be, for so long that it was told."""
    town = Town(epochs or (holding(LIMIT),))
    town.say(*FLEET)
    assert town.wait(12) == ["raised ant"]
    return town


def lost(*epochs: Epoch) -> Town:
    """And now its operator's feed says that there are none."""
    town = crowded(*epochs)
    assert town.say(*removed(FLEET)) == ["ant degraded raised"]
    return town


def test_a_feed_that_returns_no_bikes_and_then_all_of_them_clears_nothing() -> None:
    town = lost()
    assert town.count() == 40 and town.wait(100) == []
    assert town.say(*FLEET) == ["ant degraded cleared recovered"]
    assert town.count() == 40 and town.wait(HALF_AN_HOUR) == []


def test_what_is_still_said_after_half_an_hour_is_believed() -> None:
    town = lost()
    assert town.wait(HALF_AN_HOUR - 1) == [] and town.count() == 40
    assert town.wait(1) == ["ant degraded cleared accepted"] and town.count() == 0
    assert town.wait(5) == []
    assert town.wait(1) == ["cleared ant status_only"]


def test_half_an_hour_passes_in_empty_ticks_too() -> None:
    town = lost()
    assert town.nothing(HALF_AN_HOUR - 1) == []
    assert town.nothing(1) == ["ant degraded cleared accepted"]
    assert town.nothing(6) == ["cleared ant status_only"]


def test_bikes_marked_as_removed_to_dodge_an_alert_are_told_of_all_the_same() -> None:
    town = Town((holding(LIMIT),))
    town.say(*FLEET)
    town.wait(10)
    assert town.say(*removed(FLEET)) == ["ant degraded raised"]
    assert town.wait(1) == ["raised ant"]
    assert town.last["count"] == 40


def test_the_alert_says_how_many_bikes_were_lost_and_the_operator_reads_it_too() -> None:
    town = crowded()
    town.say(*removed(FLEET[:30]), *bikes(2, first=40))
    body, copy = town.last, orjson.loads(town.told[-1].operator_body or b"")
    assert body["kind"] == "feed_degraded" and body["lost"] == {"before": 40, "after": 12}
    assert body["rule"] == {
        "policy_id": "built-in",
        "rule_id": "feed_degraded",
        "name": "Feed degraded",
        "threshold": 50,
        "unit": "%",
        "per_hectare": None,
        "window": None,
    }
    assert (body["severity"], body["area"]["type"], body["count"], body["respond_by"]) == ("major", "city", None, None)
    assert body.pop("count_all_operators") is None and body == copy
    assert [event.body for event in town.state.open_events().values() if event.kind == "feed_degraded"] == [town.told[-1].body]
    town.say(*FLEET)
    assert town.last["lost"] == {"before": 40, "after": 12}


@pytest.mark.parametrize(
    ("fleet", "gone", "is_lost"),
    [(40, 20, False), (40, 21, True), (39, 20, True), (38, 19, False), (30, 30, True), (19, 19, False), (20, 20, True)],
)
def test_lost_are_more_than_half_of_the_bikes_that_stand_and_at_least_twenty(fleet: int, gone: int, is_lost: bool) -> None:
    town = Town((holding(),))
    town.say(*bikes(fleet), *taken(bikes(30, first=fleet)))
    assert town.say(*removed(bikes(gone))) == ["ant degraded raised"] * is_lost
    assert town.count() == fleet - gone * (not is_lost)


@pytest.mark.parametrize("state", [REMOVED, MISSING, ELSEWHERE, ON_TRIP])
def test_whatever_the_feed_says_of_them_they_do_not_go_all_at_once(state: int) -> None:
    town = crowded()
    assert town.say(*taken(FLEET, state)) == ["ant degraded raised"]


def test_a_loss_over_many_ticks_is_none() -> None:
    town = crowded()
    assert [word for i in range(0, 40, 10) for word in town.say(*removed(FLEET[i : i + 10]))] == []
    assert town.count() == 0


def test_a_city_may_believe_everything() -> None:
    town = crowded(holding(LIMIT, hold_ms=0))
    assert town.say(*removed(FLEET)) == [] and town.count() == 0


def test_a_city_may_look_closer() -> None:
    town = Town((holding(fewest=3),))
    town.say(*bikes(5))
    assert town.say(*removed(bikes(3))) == ["ant degraded raised"]


def test_three_quarters_of_the_fleet_end_it_and_the_rest_is_gone_then() -> None:
    town = lost()
    assert town.say(*FLEET[:29]) == [] and town.count() == 40
    assert town.say(FLEET[29]) == ["ant degraded cleared recovered"] and town.count() == 30


def test_what_stands_while_others_are_held_counts_at_once() -> None:
    town = lost()
    assert town.say(*[replace(fact, at=THERE) for fact in FLEET[:10]], *bikes(3, first=40)) == []
    assert town.count() == 33


def test_other_bikes_than_those_that_are_held_are_held_too() -> None:
    town = crowded()
    assert town.say(*removed(FLEET[:30])) == ["ant degraded raised"]
    assert town.say(*taken(FLEET[30:])) == [] and town.count() == 40
    assert town.wait(HALF_AN_HOUR - 1) == ["ant degraded cleared accepted"] and town.count() == 0


def test_a_fleet_with_new_names_is_not_lost() -> None:
    town = crowded()
    assert town.say(*removed(FLEET), *bikes(40, first=50)) == []
    assert town.count() == 40


def test_a_fleet_that_gets_new_names_a_tick_later_is_there_again() -> None:
    town = lost()
    assert town.say(*bikes(40, first=50)) == ["ant degraded cleared recovered"]
    assert town.count() == 40


def test_after_the_end_a_loss_is_judged_anew() -> None:
    town = lost()
    town.say(*FLEET)
    assert town.say(*removed(FLEET)) == ["ant degraded raised"]
    assert town.wait(HALF_AN_HOUR) == ["ant degraded cleared accepted"]
    assert town.wait(HALF_AN_HOUR) == ["cleared ant status_only"]


def test_a_ride_that_was_held_is_why_the_bike_is_gone() -> None:
    town = crowded()
    assert town.say(*taken(FLEET, ON_TRIP)) == ["ant degraded raised"]
    assert town.say(*removed(FLEET[:20])) == []
    assert town.say(*[replace(fact, at=THERE) for fact in FLEET[20:35]]) == []
    assert town.wait(HALF_AN_HOUR - 2) == ["ant degraded cleared accepted"]
    assert town.wait(6) == ["cleared ant ridden"]


def test_what_is_older_than_what_is_held_does_not_act() -> None:
    """Of two feeds, one is late."""
    town = crowded()
    late = [replace(fact, source=1, ago=8_000, at=THERE) for fact in FLEET]
    assert town.say(*removed(FLEET)) == ["ant degraded raised"]
    assert town.say(*late) == [] and town.count() == 40
    assert town.say(*[replace(fact, ago=6_000, source=1) for fact in FLEET]) == ["ant degraded cleared recovered"], (
        "as late, from the later source"
    )


def test_a_fact_told_twice_is_held_once() -> None:
    town = crowded()
    assert town.say(*removed(FLEET), *[replace(fact, source=1) for fact in removed(FLEET)]) == ["ant degraded raised"]
    assert town.say(*[replace(fact, ago=6_000, source=1) for fact in removed(FLEET)]) == []
    assert town.say(*FLEET[:30]) == ["ant degraded cleared recovered"] and town.count() == 30


def test_all_operators_that_lose_their_fleets_at_once_are_told_each() -> None:
    town = Town((holding(),))
    town.say(*FLEET, *bikes(30, operator="bee"))
    assert town.say(*removed(FLEET), *removed(bikes(30, operator="bee"))) == ["ant degraded raised", "bee degraded raised"]
    assert town.say(*FLEET) == ["ant degraded cleared recovered"]
    assert town.count("bee") == 30


def test_nobody_else_is_held() -> None:
    town = lost()
    town.say(*bikes(25, operator="bee"))
    town.say(*removed(bikes(10, operator="bee")))
    assert (town.count("ant"), town.count("bee")) == (40, 15)


# -- silence, expiry ------------------------------------------------------------------------------------------------------


def test_a_feed_that_is_switched_off_does_not_make_it_last_longer() -> None:
    town = lost(holding(LIMIT, watched=None))
    assert town.wait(HALF_AN_HOUR - 1, heard=("bee",)) == ["ant feed raised"]
    assert town.wait(1, heard=("bee",)) == ["ant degraded cleared accepted"]
    assert town.wait(1_000, heard=("bee",)) == [], "its alert waits for it to speak"
    assert town.say() == ["ant feed cleared returned"]
    assert town.wait(6) == ["cleared ant status_only"]


def test_in_a_tick_of_both_silence_is_told_first() -> None:
    town = Town((holding(watched=None),))
    town.say(*FLEET)
    town.wait(11, heard=("bee",))
    assert town.say(*removed(FLEET), heard=("bee",)) == ["ant feed raised", "ant degraded raised"]


def test_a_bike_of_which_something_is_held_was_heard() -> None:
    town = lost(holding(LIMIT, ttl_ms=100_000))  # twenty ticks, of which thirteen are over
    assert town.wait(19) == [] and town.count() == 40
    assert town.wait(1) == [] and town.count() == 0, "now nothing was heard of it for too long"
    assert town.wait(6) == ["cleared ant expired"]
    assert town.say(*FLEET) == ["ant degraded cleared recovered"]


def test_of_a_bike_that_is_gone_nothing_is_held_any_more() -> None:
    town = lost(holding(LIMIT, ttl_ms=100_000))
    town.wait(20)
    town.say(*[replace(fact, ago=50_000) for fact in FLEET[:5]])
    assert town.count() == 5, "older than what was held"


def test_what_is_held_is_found_again_when_the_roster_moves_together() -> None:
    town = Town((holding(ttl_ms=100_000),))
    town.say(*bikes(6_000, operator="bee", at=THERE))
    town.wait(10)
    town.say(*FLEET)
    assert town.say(*removed(FLEET[:30])) == ["ant degraded raised"]
    town.wait(7)
    assert len(town.state.ground.roster) == 6_040
    town.wait(1)
    assert len(town.state.ground.roster) == 40 == len(town.state.ground.roster.rows), "bee's are gone, and so are their places"
    assert town.say(*FLEET[:20]) == ["ant degraded cleared recovered"] and town.count() == 30


# -- new epochs -----------------------------------------------------------------------------------------------------------


def test_a_version_that_believes_everything_ends_it() -> None:
    town = lost(holding(LIMIT), holding(LIMIT, hold_ms=0, from_tick=START + 30))
    assert town.nothing(17) == ["ant degraded cleared policy"] and town.count() == 0
    assert town.nothing(100) == ["cleared ant status_only"]


def test_a_shorter_hold_counts_from_the_loss() -> None:
    town = lost(holding(LIMIT), holding(LIMIT, hold_ms=20 * TICK_MS, from_tick=START + 20))
    assert town.nothing(19) == []
    assert town.nothing(1) == ["ant degraded cleared accepted"]


def test_an_operator_that_is_no_longer_allowed_has_nothing_that_is_held() -> None:
    banned = holding(LIMIT, operators=("bee",), from_tick=START + 20)
    town = lost(holding(LIMIT), banned, holding(LIMIT, from_tick=START + 30))
    assert town.nothing(7) == ["ant degraded cleared policy", "cleared ant policy"]
    town.nothing(20)
    assert town.count() == 0 and town.say(*FLEET) == [] and town.count() == 40


# -- what is written down -------------------------------------------------------------------------------------------------


def returns(town: Town) -> None:
    town.say(*FLEET)


def is_believed(town: Town) -> None:
    town.wait(HALF_AN_HOUR)


def comes_and_goes(town: Town) -> None:
    town.say(*FLEET[:20])
    town.say(*taken(FLEET[:10]))
    town.say(*FLEET)


@pytest.mark.parametrize("ending", [returns, is_believed, comes_and_goes])
def test_another_process_goes_on_with_what_is_held(ending: Callable[[Town], None]) -> None:
    towns = [crowded(), crowded()]
    for town, crashes in zip(towns, (False, True), strict=True):
        town.say(*taken(FLEET[:35], ON_TRIP))
        if crashes:
            town.crash()
        town.say(*removed(FLEET[:10]))
        ending(town)
        if crashes:
            town.crash()
        town.wait(50)
    assert towns[0].told == towns[1].told and towns[0].count() == towns[1].count()


def test_a_state_with_held_facts_is_read_by_a_configuration_that_knows_more_operators() -> None:
    before = holding(LIMIT)
    more = holding(LIMIT, operators=("aaa", "ant", "bee"), from_tick=START + 2_000)
    town = lost(before)
    town.crash(Timeline(TICK_MS, (before, more)))
    assert town.wait(HALF_AN_HOUR) == ["ant degraded cleared accepted"] and town.count() == 0


# -- what readers of cells are told ---------------------------------------------------------------------------------------


def cells(town: Town) -> list[str]:
    """Records of cells and of the city that were told since, by what they say of degraded feeds."""
    bodies = [orjson.loads(telling.body or b"{}") for telling in town.state.density.take()]
    return [f"{body.get('counts', 'town')} {body.get('degraded')}" for body in bodies]


def test_who_reads_cells_is_told_that_a_count_is_not_believed_any_more() -> None:
    town = crowded()
    town.wait(12)
    assert cells(town)[-1] == "{'ant': 40} None"
    town.say(*removed(FLEET))
    town.wait(12)
    assert cells(town) == ["town ['ant']", "{'ant': 40} ['ant']"]
    town.wait(24)
    assert cells(town) == []
    town.say(*FLEET)
    town.wait(12)
    assert cells(town) == ["town None", "{'ant': 40} None"]
