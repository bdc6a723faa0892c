"""Configuration versions: what becomes of bikes, alerts and silences when other rules come into force at tick TURN."""

from __future__ import annotations

from typing import Any

import pytest

from geo.params import Rule
from tests.geo.town import START, Town, at_most, bikes, epoch, taken

TURN = START + 100
QUIET = 10**9


def town(before: tuple[Rule, ...], after: tuple[Rule, ...], **terms: Any) -> Town:
    """terms are those of the second version."""
    return Town((epoch(*before), epoch(*after, from_tick=TURN, **terms)))


def test_a_lower_threshold_is_judged_at_its_own_tick_even_if_that_is_empty() -> None:
    it = town((at_most(9),), (at_most(4, for_ms=0),))
    it.say(*bikes(6))
    assert it.nothing(99) == []
    assert it.nothing(1) == ["raised ant"]
    assert it.told[-1].tick == TURN


def test_an_open_alert_goes_on_under_a_new_threshold_and_keeps_its_id() -> None:
    it = town((at_most(4),), (at_most(8),))
    it.say(*bikes(8))
    it.nothing(12)
    assert it.nothing(88) == ["updated ant"]
    assert (it.last["rule"]["threshold"], it.last["excess"], it.last["sequence"]) == (8, 4, 2)
    assert it.told[0].episode_id == it.told[1].episode_id


def test_a_higher_threshold_clears_in_its_own_time() -> None:
    it = town((at_most(4, update_interval_ms=QUIET),), (at_most(40, update_interval_ms=QUIET),))
    it.say(*bikes(8))
    it.nothing(12)
    assert it.nothing(88 + 5) == []
    assert it.nothing(1) == ["cleared ant moved"]


def test_a_pending_alert_ripens_by_the_rule_of_now() -> None:
    it = town((at_most(4, for_ms=QUIET),), (at_most(4, for_ms=520_000),))
    it.say(*bikes(8))
    assert it.nothing(103) == []
    assert it.nothing(1) == ["raised ant"]


def test_the_alerts_of_a_rule_that_is_gone_are_cleared_by_policy_with_its_own_texts() -> None:
    gone = (at_most(4, rule_id="first"), at_most(5, rule_id="second", for_ms=QUIET), at_most(2, rule_id="third"))
    it = town(gone, (at_most(3, rule_id="new", for_ms=0), at_most(5, rule_id="second", for_ms=0)))
    it.say(*bikes(8))
    it.nothing(99)
    assert it.nothing(1) == ["cleared ant policy", "cleared ant policy", "raised ant", "raised ant"]
    assert [event.rule[1] for event in it.told[-4:]] == ["first", "third", "new", "second"]
    assert b'"threshold":2' in it.told[-3].body and b'"count":8,' in it.told[-3].body
    assert b'"excess":0' in it.told[-3].body


def test_a_rule_that_comes_back_knows_nothing_of_its_cooldown() -> None:
    rule = at_most(4, for_ms=0, keep_firing_for_ms=0, cooldown_ms=QUIET)
    it = Town((epoch(rule), epoch(from_tick=TURN), epoch(rule, from_tick=TURN + 1)))
    it.say(*bikes(5))
    it.say(*taken(bikes(5)))
    assert it.say(*bikes(5)) == []
    assert it.nothing(97) == []
    assert it.nothing(1) == []
    assert it.nothing(1) == ["raised ant"]


def test_a_rule_that_stays_keeps_its_cooldown() -> None:
    rule = at_most(4, for_ms=0, keep_firing_for_ms=0, cooldown_ms=QUIET)
    it = town((rule,), (at_most(3, for_ms=0, cooldown_ms=QUIET),))
    it.say(*bikes(5))
    it.say(*taken(bikes(5)))
    it.say(*bikes(5))
    assert it.nothing(200) == []


def test_a_rule_with_other_cells_begins_anew() -> None:
    it = town((at_most(4),), (at_most(4, resolution=10, for_ms=0),))
    it.say(*bikes(40))
    it.nothing(99)
    assert it.nothing(1) == ["cleared ant policy", "raised ant"]
    assert it.last["area"]["resolution"] == 10


@pytest.mark.parametrize("crash", [False, True])
def test_an_operator_that_is_not_allowed_any_more_leaves_with_its_bikes_and_alerts(crash: bool) -> None:
    it = Town(
        (
            epoch(at_most(4), watched=("bee",)),
            epoch(at_most(4), from_tick=TURN, operators=("ant",), watched=None),
            epoch(at_most(4, for_ms=0), from_tick=TURN + 50, watched=None),
        )
    )
    it.say(*bikes(8), *bikes(7, operator="bee"))
    assert it.wait(12, heard=("ant",)) == ["bee feed raised", "raised ant"]
    it.wait(87, heard=("ant",))
    if crash:
        it.crash()
    events = it.wait(1, heard=("ant",))
    assert events == ["bee feed cleared policy"]
    assert (it.count("ant"), it.count("bee")) == (8, 0)
    assert it.wait(61, heard=("ant",)) == []
    assert it.wait(1, heard=("ant",)) == ["bee feed raised"]
    assert it.say(*bikes(5, operator="bee")) == ["bee feed cleared returned", "raised bee"]


def test_an_alert_of_an_operator_that_is_gone_is_cleared_in_its_place_with_nothing_left() -> None:
    it = town((at_most(4),), (at_most(4, for_ms=0),), operators=("bee",))
    it.say(*bikes(8), *bikes(2, operator="bee"))
    it.nothing(98)
    it.say(*bikes(3, first=2, operator="bee"))
    assert it.nothing(1) == ["cleared ant policy", "raised bee"]
    cleared = it.told[-2]
    assert b'"count":0' in cleared.body and b'"count_all_operators":5' in cleared.body


def test_an_operator_that_begins_to_be_watched_gets_its_whole_time_to_speak() -> None:
    it = town((), (), watched=("ant",))
    it.say(heard=())
    assert it.nothing(99 + 12) == []
    assert it.nothing(1) == ["ant feed raised"]


def test_an_operator_that_is_not_watched_any_more_is_not_silent() -> None:
    it = Town((epoch(at_most(4), watched=None), epoch(at_most(4), from_tick=TURN, watched=("bee",))))
    it.say()
    it.wait(11, heard=("bee",))
    assert it.say(*bikes(5), heard=("bee",)) == ["ant feed raised"]
    assert it.wait(87, heard=("bee",)) == []
    assert it.wait(1, heard=("bee",)) == ["ant feed cleared policy"]
    assert it.wait(11, heard=("bee",)) == []
    assert it.wait(1, heard=("bee",)) == ["raised ant"]


def test_an_open_alert_of_a_silent_operator_waits_under_new_rules_too() -> None:
    it = Town((epoch(at_most(4), watched=("ant",)), epoch(at_most(40), from_tick=TURN, watched=("ant",))))
    it.say(*bikes(5))
    it.wait(12)
    it.wait(12, heard=())
    assert it.wait(200, heard=()) == []
    assert it.say() == ["ant feed cleared returned", "updated ant"]
    assert it.wait(5) == []
    assert it.wait(1) == ["cleared ant moved"]


def test_a_city_that_is_gone_clears_what_it_had() -> None:
    bare = epoch(from_tick=TURN)
    without = type(bare)(bare.from_tick, bare.hash, bare.bike, bare.operators, (), ())
    it = Town((epoch(at_most(4)), without))
    it.say(*bikes(5))
    it.nothing(99)
    assert it.nothing(1) == ["cleared ant policy"]
    assert it.nothing(1000) == []
