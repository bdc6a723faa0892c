"""Policies in a small town, told one by one: windows, the cascade, zones, all operators together, too few, changes while
alerts are open. docs/policies.md says what is expected and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import orjson
import pytest

from geo.policy import Geography, Policy, Rule
from geo.windows import DAY_S, Offsets, Window
from tests.geo.town import HERE, OPERATORS, START, TICK_MS, Fact, Town, bikes, epoch, taken

TURN = START + 100
START_MS = START * TICK_MS
MINUTE_TICKS = 12
CLOCK_S = START_MS // 1000 % DAY_S  # of the first tick, UTC
WEST_SIDE, EAST_SIDE = (HERE[0], HERE[1] - 5_000), (HERE[0], HERE[1] + 5_000)
SOON: dict[str, Any] = {
    "for_ms": 0,
    "keep_firing_for_ms": 0,
    "cooldown_ms": 0,
    "update_interval_ms": 10**9,
    "resolve_within_ms": 10**9,
}


def box(west: int, east: int) -> tuple[tuple[int, int], ...]:
    """A box of 200 m, from west to east of HERE in 1e-7 degrees."""
    lat, lng = HERE
    return ((lat - 9_000, lng + west), (lat - 9_000, lng + east), (lat + 9_000, lng + east), (lat + 9_000, lng + west))


WEST = Geography("west", "West side", ((box(-9_000, -1),),), capacity=2)
EAST = Geography("east", "East side", ((box(1, 9_000),),), capacity=4)
SQUARE = Geography("square", "The square", ((box(-9_000, 9_000),),))
GEOGRAPHIES = (WEST, EAST, SQUARE)


def rule(name: str = "rule", *geographies: str, **terms: Any) -> Rule:
    """A rule of a zone that acts at once, unless told otherwise."""
    return Rule("policy", name, name.title(), **({"area": "zone", "geographies": geographies} | SOON | terms))


def policy(*rules: Rule, name: str = "policy", **terms: Any) -> Policy:
    return Policy(name, name.title(), tuple(replace(one, policy_id=name) for one in rules), **terms)


def town(*policies: Policy, then: Sequence[Policy] | None = None, **terms: Any) -> Town:
    """then: the policies from TURN on."""
    terms = {"geographies": GEOGRAPHIES, "operators": (*OPERATORS, "cat")} | terms
    epochs = [epoch(policies=policies, **terms)]
    if then is not None:
        epochs.append(epoch(policies=then, from_tick=TURN, **terms))
    return Town(tuple(epochs))


def at(seconds: int, length: int = 600, **terms: Any) -> Window:
    """A window that opens so many seconds after the first tick, by the clock of UTC."""
    start = (CLOCK_S + seconds) % DAY_S
    return Window(start_s=start, end_s=(start + length) % DAY_S, **terms)


# --- windows ------------------------------------------------------------------------------------------------------------


def test_a_bike_parked_before_the_window_opened_counts_from_the_windows_start() -> None:
    it = town(policy(rule(maximum=1, for_ms=60_000, window=at(300))))
    it.say(*bikes(3))
    assert it.nothing(59) == []
    assert it.nothing(1 + MINUTE_TICKS - 1) == []
    assert it.nothing(1) == ["raised ant"]
    assert it.told[-1].tick == START + 60 + MINUTE_TICKS
    assert it.last["rule"]["window"]["time_zone"] == "UTC"


def test_a_window_that_closes_clears_by_policy_at_its_own_tick_even_if_that_is_empty() -> None:
    it = town(policy(rule(maximum=1, window=at(0, 300))))
    assert it.say(*bikes(3)) == ["raised ant"]
    assert it.nothing(59) == []
    assert it.nothing(1) == ["cleared ant policy"]
    assert it.told[-1].tick == START + 60
    assert (it.last["count"], it.last["excess"]) == (3, 0), "as it was just before"


def test_at_the_next_opening_all_begins_anew() -> None:
    it = town(policy(rule(maximum=1, for_ms=60_000, cooldown_ms=10**9, window=at(0, 300))))
    it.say(*bikes(3))
    assert it.nothing(DAY_S // 5 - 1) == ["raised ant", "cleared ant policy"]
    assert it.nothing(MINUTE_TICKS) == []
    assert it.nothing(1) == ["raised ant"]
    assert it.told[0].episode_id != it.told[-1].episode_id


def test_a_window_over_midnight_closes_on_the_next_day() -> None:
    """The log begins at 20:53:20 UTC on Friday, 1970-02-27; from 21:00 on Fridays until 03:00."""
    it = town(policy(rule(maximum=1, window=Window((4,), 21 * 3600, 3 * 3600))))
    it.say(*bikes(3))
    assert it.nothing(79) == []
    assert it.nothing(1) == ["raised ant"]
    assert it.nothing(6 * 720 - 1) == []
    assert it.nothing(1) == ["cleared ant policy"]
    assert it.last["observed_at"] == "1970-02-28T03:00:05.000Z"
    assert it.nothing(24 * 720) == [], "there is no Saturday's window"


def clocks(change_s: int, before_h: int, after_h: int) -> Offsets:
    """The clocks change so many seconds after the first tick."""
    return ((0, before_h * 3_600_000), (START_MS + change_s * 1000, after_h * 3_600_000))


def test_in_spring_a_window_at_an_hour_that_does_not_exist_opens_with_the_change() -> None:
    """At 02:00 the clocks go to 03:00, 600 s after the first tick; the window is from 02:30 to 03:10."""
    zero = 2 * 3600 - 600 - CLOCK_S  # local time of the first tick is 01:50
    offsets = ((0, zero * 1000), (START_MS + 600_000, zero * 1000 + 3_600_000))
    it = town(policy(rule(maximum=1, window=Window(start_s=9_000, end_s=11_400))), offsets=offsets)
    it.say(*bikes(3))
    assert it.nothing(119) == []
    assert it.nothing(1) == ["raised ant"]
    assert it.nothing(119) == []
    assert it.nothing(1) == ["cleared ant policy"], "at 03:10, ten minutes later"


def test_in_autumn_a_window_opens_at_the_first_of_two_like_hours_and_once() -> None:
    """At 03:00 the clocks go back to 02:00, 3,000 s after the first tick (02:10); the window is from 02:30 to 03:10."""
    zero = 2 * 3600 + 600 - CLOCK_S
    offsets = ((0, zero * 1000), (START_MS + 3_000_000, zero * 1000 - 3_600_000))
    it = town(policy(rule(maximum=1, window=Window(start_s=9_000, end_s=11_400))), offsets=offsets)
    it.say(*bikes(3))
    assert it.nothing(239) == []
    assert it.nothing(1) == ["raised ant"], "02:30 for the first time"
    assert it.nothing(1_200 - 1) == [], "open all the time: 100 minutes instead of 40"
    assert it.nothing(1) == ["cleared ant policy"]


def test_a_snapshot_between_two_edges_knows_which_windows_are_open() -> None:
    it = town(policy(rule(maximum=1, window=at(0, 300)), rule("later", maximum=0, window=at(150, 600))))
    assert it.say(*bikes(3)) == ["raised ant"]
    it.crash()
    assert it.nothing(29) == []
    it.crash()
    assert it.nothing(31) == ["cleared ant policy", "raised ant"], "the first rule had the bikes as long as it was open"
    it.crash()
    assert it.nothing(90) == ["cleared ant policy"]


# --- the cascade --------------------------------------------------------------------------------------------------------


def test_a_bike_is_of_the_first_rule_that_it_fits_and_of_no_later_one() -> None:
    allowance = rule("allowance", "west")  # no limit: bikes in the west are nobody's trouble
    it = town(policy(allowance, rule("rest", "square", maximum=1)))
    assert it.say(*bikes(3, at=WEST_SIDE)) == []
    assert it.say(*bikes(2, first=3, at=EAST_SIDE)) == ["raised ant"]
    assert (it.last["count"], it.last["rule"]["rule_id"]) == (2, "rest")


def test_a_bike_that_is_one_too_many_for_a_rule_is_still_that_rules() -> None:
    it = town(policy(rule("first", "west", maximum=1), rule("second", "square", maximum=0)))
    assert it.say(*bikes(3, at=WEST_SIDE)) == ["raised ant"]
    assert it.last["rule"]["rule_id"] == "first"


def test_policies_do_not_know_of_each_other() -> None:
    it = town(policy(rule("a", "west", maximum=1), name="one"), policy(rule("b", "square", maximum=1), name="two"))
    assert it.say(*bikes(3, at=WEST_SIDE)) == ["raised ant", "raised ant"]
    assert [event.rule for event in it.told] == [("one", "a"), ("two", "b")]


def test_bikes_that_a_rule_takes_when_its_window_opens_leave_the_later_rule_by_policy() -> None:
    early = rule("early", "square", window=at(300))
    it = town(policy(early, rule("late", "square", maximum=1, keep_firing_for_ms=30_000)))
    assert it.say(*bikes(3)) == ["raised ant"]
    assert it.nothing(60 + 5) == []
    assert it.nothing(1) == ["cleared ant policy"]
    assert it.last["count"] == 0


def test_states_and_types_decide_which_rule_a_bike_is_of() -> None:
    broken = rule("broken", "square", states=(3,), maximum=0)
    mopeds = rule("mopeds", "square", vehicles=(5,), maximum=0)
    it = town(policy(broken, mopeds, rule("bicycles", "square", vehicles=(1,), maximum=3, clear_ratio=Fraction(1))))
    assert it.say(*bikes(3), Fact("m", vehicle=5), Fact("untold", vehicle=0)) == ["raised ant", "raised ant"]
    assert [event.rule[1] for event in it.told] == ["mopeds", "bicycles"], "a bike that names no type is a bicycle"
    assert it.say(*bikes(2, state="non_operational", ago=500)) == ["raised ant", "cleared ant status_only"]
    assert [event.rule[1] for event in it.told[-2:]] == ["broken", "bicycles"]


def test_a_policy_looks_only_at_the_bikes_of_its_operators() -> None:
    it = town(policy(rule("all", "square", maximum=1), operators=("bee",)))
    assert it.say(*bikes(3), *bikes(2, operator="bee")) == ["raised bee"]
    assert it.last["count_all_operators"] == 2


# --- areas and maxima ---------------------------------------------------------------------------------------------------


def test_a_zone_of_several_geographies_is_one_area_and_each_zone_is_several() -> None:
    one = policy(rule("one", "west", "east", maximum=2), name="one")
    each = policy(rule("each", "west", "east", area="each_zone", maximum=1), name="each")
    it = town(one, each)
    assert it.say(*bikes(2, at=WEST_SIDE), *bikes(1, first=2, at=EAST_SIDE)) == ["raised ant", "raised ant"]
    together, west = (orjson.loads(event.body) for event in it.told)
    assert (together["area"]["name"], together["count"], it.told[0].area) == ("One", 3, "one")
    assert (west["area"]["name"], west["count"], it.told[1].area) == ("West side", 2, "west")
    assert west["area"]["type"] == "zone" and west["area"]["h3"] is None
    assert west["area"]["area_ha"] == pytest.approx(1.5, rel=0.1)


def test_cells_of_a_geography_count_only_the_bikes_inside() -> None:
    it = town(policy(rule("cells", "west", area="cell", maximum=1)))
    assert it.say(*bikes(5, at=EAST_SIDE)) == []
    assert it.say(*bikes(2, first=5, at=WEST_SIDE)) == ["raised ant"]
    assert it.last["count"] == 2 and it.last["area"]["type"] == "cell"


def test_capacity_is_so_many_bikes_a_place() -> None:
    it = town(policy(rule("racks", "west", "east", area="each_zone", capacity=Fraction(3, 2))))
    assert it.say(*bikes(3, at=WEST_SIDE), *bikes(6, first=3, at=EAST_SIDE)) == []
    assert it.say(Fact("b20", at=WEST_SIDE)) == ["raised ant"]
    assert it.last["rule"]["threshold"] == 3


def test_a_share_of_the_fleet_follows_the_fleet_and_bikes_on_trips_are_part_of_it() -> None:
    it = town(policy(rule("share", "west", share_of_fleet=Fraction(1, 2))))
    assert it.say(*bikes(2, at=WEST_SIDE), *bikes(2, first=2, at=EAST_SIDE)) == []
    assert it.say(*taken(bikes(2, first=2, at=EAST_SIDE), ago=500)) == [], "they ride: four is the fleet"
    assert it.say(*taken(bikes(1, first=2, at=EAST_SIDE), state=6, ago=400)) == ["raised ant"], "of three, half is one"
    assert it.last["rule"]["threshold"] == 1


def test_a_geography_that_is_the_whole_city_is_told_as_the_city() -> None:
    it = town(policy(rule("city", maximum=1)))
    assert it.say(*bikes(2)) == ["raised ant"]
    assert (it.told[-1].area, it.last["area"]["type"], it.last["area"]["name"]) == ("city", "city", "town")


# --- all operators ------------------------------------------------------------------------------------------------------


def test_an_excess_of_all_is_shared_out_in_proportion_by_the_largest_remainder() -> None:
    """Five are to go: of ten 6, 3 and 1, and of equal remainders the first by name wins; of nine 5, 3 and 1 four are to go."""
    it = town(policy(rule("all", "square", maximum=8, target_ratio=Fraction(5, 8), all_operators=True)))
    it.say(*bikes(5), *bikes(3, operator="bee"), *bikes(1, operator="cat"))
    assert [orjson.loads(event.body)["excess"] for event in it.told] == [2, 1, 1]
    it = town(policy(rule("all", "square", maximum=8, target_ratio=Fraction(5, 8), all_operators=True)))
    assert it.say(*bikes(6), *bikes(3, operator="bee"), *bikes(1, operator="cat")) == ["raised ant", "raised bee"]
    assert [orjson.loads(event.body)["excess"] for event in it.told] == [3, 2]


def test_an_operator_is_told_the_count_of_all_if_at_least_three_are_there() -> None:
    it = town(policy(rule("all", "square", maximum=2, all_operators=True)))
    it.say(*bikes(3), *bikes(1, operator="bee"))
    assert it.told[0].operator_body is not None and b"count_all_operators" not in it.told[0].operator_body
    assert it.last["rule"]["scope"] == "all_operators"
    it = town(policy(rule("all", "square", maximum=2, all_operators=True)))
    it.say(*bikes(3), *bikes(1, operator="bee"), *bikes(1, operator="cat"))
    assert it.told[0].operator_body == it.told[0].body


def test_an_operator_that_took_all_of_its_bikes_away_has_done_its_part() -> None:
    it = town(policy(rule("all", "square", maximum=2, all_operators=True)))
    it.say(*bikes(3), *bikes(3, operator="bee"))
    assert it.say(*taken(bikes(3, operator="bee"), ago=500)) == ["cleared bee ridden"]
    assert it.told[-1].operator_body is not None


def test_bikes_of_one_operator_raise_the_alert_of_another() -> None:
    it = town(policy(rule("all", "square", maximum=3, all_operators=True)))
    assert it.say(*bikes(3)) == []
    assert it.say(*bikes(2, operator="bee")) == ["raised ant", "raised bee"]


# --- too few ------------------------------------------------------------------------------------------------------------


def test_too_few_bikes_are_told_also_where_none_is() -> None:
    it = town(policy(rule("some", "west", minimum=2)), watched=("ant",))
    assert it.say(*bikes(5, at=EAST_SIDE)) == ["raised ant deficit"]
    assert (it.last["missing"], it.last["count"], it.last["excess"], it.last["bikes"]) == (2, 0, 0, [])
    assert it.last["severity"] == "critical"
    assert it.say(*bikes(2, at=WEST_SIDE, ago=500)) == ["cleared ant deficit restocked"]


def test_a_minimum_is_for_the_operators_that_the_policy_names() -> None:
    it = town(policy(rule("some", "west", minimum=1), operators=("bee",)), watched=("ant",))
    assert it.say() == ["raised bee deficit"]


def test_so_many_by_eight_is_told_two_hours_before() -> None:
    """The window opens 7,300 s after the first tick; from 100 s on it is prepared."""
    by_then = rule("by then", "west", minimum=2, window=at(7_300, 3_600), prepare_ms=7_200_000, resolve_within_ms=10**8)
    it = town(policy(by_then, operators=("ant",)))
    it.say(*bikes(1, at=WEST_SIDE))
    assert it.nothing(19) == []
    assert it.nothing(1) == ["raised ant deficit"]
    assert it.last["resolve_by"] == "1970-02-27T22:55:00.000Z", "when the window opens"
    assert it.last["respond_by"] == "1970-02-27T21:10:05.000Z"
    assert it.nothing(1_439) == []
    assert it.nothing(1) == ["escalated ant deficit"], "the window opens, and there are too few"
    assert it.nothing(719) == []
    assert it.nothing(1) == ["cleared ant deficit policy"]


def test_too_many_and_too_few_of_one_rule_are_two_episodes() -> None:
    both = rule("both", "west", minimum=2, maximum=3, keep_firing_for_ms=10**9)
    it = town(policy(both), operators=("ant",), watched=("ant",))
    assert it.say() == ["raised ant deficit"]
    assert it.say(*bikes(4, at=WEST_SIDE)) == ["raised ant"]
    assert it.told[0].episode_id != it.told[1].episode_id


# --- changes while alerts are open --------------------------------------------------------------------------------------


def test_a_policy_that_is_replaced_ends_when_the_newer_one_begins() -> None:
    old = policy(rule("old", "square", maximum=1), name="old")
    new = policy(rule("new", "square", maximum=1, for_ms=60_000), name="new", from_ms=START_MS + 300_000, replaces=("old",))
    it = town(old, new)
    assert it.say(*bikes(3)) == ["raised ant"]
    assert it.nothing(59) == []
    assert it.nothing(1) == ["cleared ant policy"]
    assert it.nothing(MINUTE_TICKS - 1) == []
    assert it.nothing(1) == ["raised ant"]
    assert it.told[-1].rule == ("new", "new")


def test_a_policy_that_was_replaced_does_not_come_back_when_the_newer_one_ends() -> None:
    old = policy(rule("old", "square", maximum=1), name="old")
    new = policy(rule("new", "square", maximum=9), name="new", from_ms=START_MS, until_ms=START_MS + 60_000, replaces=("old",))
    it = town(old, new)
    assert it.say(*bikes(3)) == []
    assert it.nothing(100) == []


def test_a_policy_without_rules_withdraws_another() -> None:
    old = policy(rule("old", "square", maximum=1), name="old")
    it = town(old, Policy("end", "End", (), from_ms=START_MS + 60_000, replaces=("old",)))
    assert it.say(*bikes(3)) == ["raised ant"]
    assert it.nothing(12) == ["cleared ant policy"]


def test_a_policy_begins_and_ends_by_its_dates() -> None:
    it = town(policy(rule(maximum=1), from_ms=START_MS + 7_000, until_ms=START_MS + 60_000))
    it.say(*bikes(3))
    assert it.nothing(1) == []
    assert it.nothing(1) == ["raised ant"], "in force from the first tick that starts at or after its date"
    assert it.nothing(9) == []
    assert it.nothing(1) == ["cleared ant policy"]


def test_a_version_without_the_policy_withdraws_it() -> None:
    it = town(policy(rule(maximum=1)), then=())
    assert it.say(*bikes(3)) == ["raised ant"]
    assert it.nothing(99) == []
    assert it.nothing(1) == ["cleared ant policy"]


def test_a_rule_with_other_numbers_goes_on_with_its_episodes() -> None:
    before = rule(maximum=1, update_interval_ms=0)
    it = town(policy(before), then=[policy(replace(before, maximum=5))])
    assert it.say(*bikes(6)) == ["raised ant"]
    assert it.nothing(99) == []
    assert it.nothing(1) == ["updated ant"]
    assert it.last["rule"]["threshold"] == 5
    assert it.told[0].episode_id == it.told[1].episode_id


def test_an_earlier_rule_that_is_put_in_leaves_open_episodes_alone() -> None:
    """Numbers of rules shift; the episode of the area does not."""
    it = town(policy(rule("b", "east", maximum=0)), then=[policy(rule("a", "west", maximum=0), rule("b", "east", maximum=0))])
    assert it.say(*bikes(1, at=EAST_SIDE)) == ["raised ant"]
    it.crash()
    assert it.nothing(100) == []
    assert it.say(*bikes(1, first=5, at=WEST_SIDE)) == ["raised ant"]
    assert it.say(*taken(bikes(1, at=EAST_SIDE), ago=500)) == ["cleared ant ridden"]
    assert it.told[-1].episode_id == it.told[0].episode_id


@pytest.mark.parametrize(
    "other",
    [{"area": "cell"}, {"all_operators": True}, {"shadow": True}, {"maximum": None}],
    ids=["area", "scope", "mode", "limit"],
)
def test_a_rule_of_another_kind_is_gone_and_a_new_one(other: dict[str, Any]) -> None:
    before = rule("rule", "square", maximum=1)
    it = town(policy(before), then=[policy(replace(before, **other))])
    it.say(*bikes(3))
    it.nothing(99)
    assert it.nothing(1) == ["cleared ant policy"] + (["raised ant"] if "maximum" not in other else [])


def test_a_zone_that_changes_keeps_its_episode_with_the_bikes_that_are_inside_now() -> None:
    """The zone shrinks to the west; the bikes in the east have left it, by policy."""
    one = rule("zone", "square", maximum=2, update_interval_ms=0, keep_firing_for_ms=10_000, clear_ratio=Fraction(1))
    smaller = (WEST, EAST, replace(SQUARE, polygons=WEST.polygons))
    it = Town(
        (
            epoch(policies=[policy(one)], geographies=GEOGRAPHIES),
            epoch(policies=[policy(one)], geographies=smaller, from_tick=TURN),
        )
    )
    assert it.say(*bikes(2, at=WEST_SIDE), *bikes(4, first=2, at=EAST_SIDE)) == ["raised ant"]
    assert it.say(*taken(bikes(1, at=WEST_SIDE), ago=500)) == ["updated ant"]
    assert it.nothing(98) == []
    assert it.nothing(1) == ["updated ant"]
    assert it.last["count"] == 1 and it.last["area"]["area_ha"] < 2
    assert it.nothing(2) == ["cleared ant policy"], "four left by policy, one was ridden away"


def test_an_area_that_the_rule_does_not_have_any_more_is_cleared_by_policy() -> None:
    both = rule("each", "west", "east", area="each_zone", maximum=0)
    it = town(policy(both), then=[policy(replace(both, geographies=("east",)))])
    assert it.say(*bikes(1, at=WEST_SIDE), *bikes(1, first=1, at=EAST_SIDE)) == ["raised ant", "raised ant"]
    it.nothing(99)
    assert it.nothing(1) == ["cleared ant policy"]
    assert it.told[-1].area == "west"
    assert it.say(*taken(bikes(1, first=1, at=EAST_SIDE), ago=500)) == ["cleared ant ridden"]


def test_an_operator_that_is_none_of_the_policys_any_more_is_cleared_by_policy() -> None:
    one = rule("zone", "square", maximum=0)
    it = town(policy(one), then=[policy(one, operators=("bee",))])
    assert it.say(*bikes(1), *bikes(1, operator="bee")) == ["raised ant", "raised bee"]
    assert it.nothing(100) == ["cleared ant policy"]


def test_a_state_that_other_policies_have_judged_is_refused_with_the_remedy() -> None:
    one = policy(rule("zone", "square", maximum=0), name="known")
    it = town(one)
    it.say(*bikes(1))
    unknown = town(policy(rule("zone", "square", maximum=0), name="unknown")).timeline
    with pytest.raises(ValueError, match=r"judged by the rules known/zone, .* then has unknown/zone.* add one"):
        it.crash(unknown)
    shortage = town(policy(rule("zone", "square", maximum=5, minimum=1), name="known")).timeline
    with pytest.raises(ValueError, match="or others of these names"):
        it.crash(shortage)


# --- shadow -------------------------------------------------------------------------------------------------------------


def test_a_shadow_rule_is_judged_and_told_to_no_operator() -> None:
    it = town(policy(rule("trial", "square", maximum=1, shadow=True), rule("rest", "square", maximum=0)))
    assert it.say(*bikes(3)) == ["raised ant"], "it takes its bikes in the cascade"
    assert it.told[-1].shadow and it.told[-1].operator_body is None
    assert it.last["mode"] == "shadow"
    assert [event.shadow for event in it.state.open_events().values()] == [True]
