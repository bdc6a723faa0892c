"""The life of an alert, told tick by tick. A tick is 5 s; the rule waits 60 s and clears after 30 s below half."""

from __future__ import annotations

import orjson
import pytest

from geo.alert import episode_id, operators_copy
from tests.geo.town import CELL, HERE, START, THERE, TICK_MS, Fact, Town, at_most, bikes, epoch, left_town, taken


def crowded(n: int = 6, **rule: object) -> Town:
    """A town in which the alert on n bikes, two too many of four, has just been raised."""
    town = Town((epoch(at_most(4, **rule)),))
    assert town.say(*bikes(n)) == []
    assert town.nothing(11) == []
    assert town.nothing(1) == ["raised ant"]
    return town


def test_too_many_bikes_are_told_of_after_a_minute_even_if_nobody_says_anything() -> None:
    town = crowded()
    assert town.told[0].tick == START + 12
    assert (town.last["count"], town.last["excess"], town.last["rule"]["threshold"]) == (6, 4, 4)


def test_as_many_bikes_as_are_allowed_are_not_too_many() -> None:
    town = Town((epoch(at_most(4)),))
    assert town.say(*bikes(4)) == town.nothing(1000) == []


def test_a_short_peak_is_not_told() -> None:
    town = Town((epoch(at_most(4)),))
    town.say(*bikes(6))
    town.nothing(10)
    assert town.say(*taken(bikes(2))) == []
    assert town.say(*bikes(2)) == []
    assert town.nothing(11) == []
    assert town.nothing(1) == ["raised ant"]


def test_a_count_between_clear_and_maximum_neither_raises_nor_clears() -> None:
    town = crowded(update_interval_ms=10**9)
    town.say(*taken(bikes(3)))
    assert town.count() == 3
    assert town.nothing(1000) == []


def test_an_alert_is_cleared_once_few_bikes_stood_there_for_long_enough() -> None:
    town = crowded(update_interval_ms=10**9)
    assert town.say(*taken(bikes(5))) == []
    assert town.nothing(5) == []
    assert town.nothing(1) == ["cleared ant ridden"]
    assert (town.last["count"], town.last["excess"], town.last["bikes"]) == (1, 0, [])
    assert town.state.open_events() == {}


def test_a_dip_that_is_over_before_it_counts_begins_anew_next_time() -> None:
    town = crowded(update_interval_ms=10**9)
    town.say(*taken(bikes(5)))
    town.nothing(4)
    town.say(*bikes(5))
    assert town.say(*taken(bikes(5))) == []
    assert town.nothing(5) == []
    assert town.nothing(1) == ["cleared ant ridden"]


def test_nothing_is_pending_during_the_cooldown() -> None:
    town = crowded(update_interval_ms=10**9)
    town.say(*taken(bikes(5)))
    town.nothing(6)
    town.say(*bikes(5))
    assert town.nothing(11 + 11) == []
    assert town.nothing(1) == ["raised ant"]
    assert town.told[-1].episode_id != town.told[0].episode_id
    assert town.told[-1].sequence == 1


def test_updates_keep_their_distance_and_tell_the_newest_excess() -> None:
    town = crowded()
    assert town.say(*bikes(2, first=6)) == []
    assert town.say(*bikes(2, first=8)) == []
    assert town.nothing(1) == []
    assert town.nothing(1) == ["updated ant"]
    assert (town.last["sequence"], town.last["count"], town.last["excess"]) == (2, 10, 8)
    assert town.nothing(1000) == []


@pytest.mark.parametrize(("more", "told"), [(1, []), (2, []), (3, ["updated ant"])])
def test_a_change_of_less_than_a_fifth_and_three_bikes_is_not_told(more: int, told: list[str]) -> None:
    town = crowded(n=18)
    assert town.last["excess"] == 16
    town.say(*bikes(more, first=18))
    assert town.nothing(20) == told


def test_a_change_that_was_undone_before_it_could_be_told_is_not_told() -> None:
    town = crowded()
    town.say(*bikes(4, first=6))
    town.say(*taken(bikes(4, first=6)))
    assert town.nothing(1000) == []


def test_each_operator_and_each_cell_has_its_own_alert() -> None:
    town = Town((epoch(at_most(4)),))
    town.say(*bikes(5), *bikes(4, operator="bee"), *bikes(5, first=50, at=THERE, operator="bee"))
    assert sorted(town.nothing(12)) == ["raised ant", "raised bee"]
    assert {(event.operator, event.area == f"{CELL:x}") for event in town.told} == {("ant", True), ("bee", False)}


def test_ids_say_what_and_when_and_nothing_else() -> None:
    town = crowded()
    event = town.told[0]
    assert event.episode_id == episode_id("town", ("policy", "rule"), f"{CELL:x}", "ant", START + 12)
    assert event.event_id == f"{event.episode_id}/1"
    assert event.time_ms == event.opened_at_ms == (START + 13) * TICK_MS


def test_an_alert_names_broken_bikes_first_then_those_longest_idle_and_never_reserved_ones() -> None:
    town = Town((epoch(at_most(4, bikes_cap=4)),))
    town.say(
        Fact("young", since=300),
        Fact("old", since=100),
        Fact("twin-b", since=200),
        Fact("twin-a", since=200),
        Fact("broken", since=900, state="non_operational"),
        Fact("taken", since=1, state="reserved"),
        Fact("rival", since=1, operator="bee"),
    )
    town.nothing(12)
    assert [bike["id"] for bike in town.last["bikes"]] == ["broken", "old", "twin-a", "twin-b"]
    assert town.last["bikes"][1] == {
        "id": "old",
        "lat": HERE[0] / 1e7,
        "lng": HERE[1] / 1e7,
        "parked_since": "1970-01-01T00:00:00.100Z",
        "last_heard": "1970-02-27T20:53:24.000Z",
        "state": "available",
        "vehicle_type": "bicycle",
    }
    assert town.last["area"]["hot_spot"]["bikes"] == 4


def test_an_operator_does_not_see_how_many_bikes_its_rivals_have() -> None:
    town = Town((epoch(at_most(4)),))
    rivals = [Fact('b",count_all_operators":7,"', operator="bee"), Fact("x", operator="bee")]
    town.say(*bikes(4), Fact('q",count_all_operators":1,"'), *rivals)
    town.nothing(12)
    whole, copy = town.told[-1].body, town.told[-1].operator_body
    assert orjson.loads(whole)["count_all_operators"] == 7
    assert copy is not None and orjson.loads(copy).keys() == orjson.loads(whole).keys() - {"count_all_operators"}
    assert copy == orjson.dumps(orjson.loads(copy), option=orjson.OPT_SORT_KEYS) == operators_copy(whole)


@pytest.mark.parametrize(("n", "severity"), [(5, "minor"), (6, "major"), (7, "major"), (8, "critical")])
def test_severity_is_the_ratio_to_what_is_allowed(n: int, severity: str) -> None:
    assert crowded(n).last["severity"] == severity


def test_a_cleared_alert_is_as_severe_as_it_was_when_last_told() -> None:
    town = crowded(9, update_interval_ms=10**9)
    town.say(*taken(bikes(9)))
    town.nothing(6)
    assert (town.last["state"], town.last["severity"]) == ("cleared", "critical")


NEAR_BY = (HERE[0] + 3_000, HERE[1])


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        (bikes(6, at=THERE), "moved"),
        (bikes(6, at=THERE, rode=True), "ridden"),
        (taken(bikes(6)), "ridden"),
        (left_town(bikes(6)), "moved"),
        (left_town(bikes(6), rode=True), "ridden"),
        (taken(bikes(6, at=NEAR_BY), 6), "status_only"),
        (taken(bikes(6, at=THERE), 6), "moved"),
        (taken(bikes(6, rode=True), 6), "ridden"),
        (bikes(3, at=THERE) + taken(bikes(3, first=3)), "moved"),
        (bikes(2, at=THERE) + taken(bikes(3, first=2)), "ridden"),
    ],
)
def test_a_cleared_alert_says_how_the_bikes_left(facts: list[Fact], cause: str) -> None:
    town = crowded(update_interval_ms=10**9)
    town.say(*facts)
    assert town.nothing(6) == [f"cleared ant {cause}"]


def test_bikes_that_left_before_or_when_it_was_raised_did_not_clear_it() -> None:
    town = Town((epoch(at_most(4, update_interval_ms=10**9)),))
    town.say(*bikes(20))
    town.nothing(10)
    town.say(*taken(bikes(7)))
    assert town.say(*taken(bikes(7, first=7))) == ["raised ant"]
    town.say(*bikes(5, first=14, at=THERE))
    assert town.nothing(6) == ["cleared ant moved"]


def test_a_move_within_the_cell_is_no_departure() -> None:
    town = crowded()
    town.say(*bikes(6, at=(HERE[0] + 100, HERE[1]), rode=True))
    assert town.nothing(1000) == []
    assert town.count() == 6


def test_a_rule_that_waits_for_nothing_raises_and_clears_at_once() -> None:
    town = Town((epoch(at_most(4, for_ms=0, keep_firing_for_ms=0, cooldown_ms=0)),))
    assert town.say(*bikes(5)) == ["raised ant"]
    assert town.say(*taken(bikes(5))) == ["cleared ant ridden"]
    assert town.say(*bikes(5)) == ["raised ant"]


def test_each_rule_is_judged_at_its_own_resolution_in_the_order_of_the_configuration() -> None:
    rules = (at_most(1, rule_id="fine", resolution=11, for_ms=0), at_most(4, rule_id="coarse", for_ms=0))
    town = Town((epoch(*rules),))
    town.say(*bikes(30))
    assert [event.rule[1] for event in town.told] == ["fine", "coarse"]
    assert town.last["area"]["resolution"] == 9
