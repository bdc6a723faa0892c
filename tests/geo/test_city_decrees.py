"""Policies that come by their topic while a city runs: when they act, what they replace, and what a broken one does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from geo.decrees import Reading
from geo.policy import Policy
from tests.geo.test_city_policies import EAST, GEOGRAPHIES, SQUARE, START_MS, TURN, at, policy, rule, town
from tests.geo.town import START, TICK_MS, Town, at_most, bikes, epoch


def say(name: str, maximum: int, *, tick: int | None = None, **terms: Any) -> Reading:
    """A policy on the square. tick: its start."""
    rules = () if maximum < 0 else (rule("rule", "square", maximum=maximum, **terms.pop("rule", {})),)
    start = None if tick is None else tick * TICK_MS
    return Reading(name, policy(*rules, name=name, zones=(SQUARE,), from_ms=start, **terms))


def withdraw(name: str) -> Reading:
    return Reading(name)


def broken(name: str) -> Reading:
    return Reading(name, problems=("rules[1].maximum: must be a number, got x. Write 5.",))


def in_force(it: Town) -> list[str]:
    return [str(watch.key) for watch in it.state.watches]


def test_a_policy_acts_from_the_tick_after_its_own() -> None:
    it = town()
    it.say(*bikes(3))
    assert it.decree(say("p", 1)) == []
    assert it.nothing(1) == ["raised ant"]
    assert it.told[-1].tick == START + 2
    assert it.last["area"]["name"] == "The square", "it knows places that the configuration does not"


def test_a_policy_with_a_later_start_acts_from_there_and_what_it_replaces_until_there() -> None:
    it = town(policy(rule(maximum=1), name="p"))
    assert it.say(*bikes(3)) == ["raised ant"]
    it.decree(say("p", 2, tick=START + 10))
    assert it.nothing(8) == []
    assert it.nothing(1) == ["cleared ant policy", "raised ant"], "its area is another one"
    assert [event.tick for event in it.told] == [START, START + 10, START + 10]


def test_one_of_the_same_id_takes_the_place_of_the_configured_one_and_alerts_go_on() -> None:
    configured = replace(policy(rule("rule", "square", maximum=1), name="p"))
    it = town(configured)
    assert it.say(*bikes(5)) == ["raised ant"]
    it.decree(say("p", 3, rule={"update_interval_ms": 0}))
    assert it.nothing(1) == ["updated ant"]
    assert (it.last["rule"]["threshold"], it.last["sequence"]) == (3, 2)
    it.decree(say("p", 9))
    assert it.nothing(1) == ["cleared ant moved"], "judged as it is now: none left, there may be more"


def test_a_withdrawn_policy_is_cleared_by_policy_and_a_configured_one_may_be_withdrawn() -> None:
    it = town(policy(rule(maximum=1), name="p"), then=[policy(rule(maximum=1), name="p")])
    assert it.say(*bikes(3)) == ["raised ant"]
    assert it.decree(withdraw("p")) == []
    assert it.nothing(1) == ["cleared ant policy"]
    assert it.nothing(TURN - START) == [], "a later version of the configuration does not bring it back"
    it.decree(say("p", 1))
    assert it.nothing(1) == ["raised ant"], "its topic does"


def test_what_is_withdrawn_before_its_start_never_was_and_ends_nothing() -> None:
    it = town(policy(rule(maximum=1), name="old"))
    it.say(*bikes(3))
    it.decree(say("new", 0, tick=START + 10, replaces=("old",)))
    it.decree(withdraw("new"))
    assert it.nothing(30) == []
    assert in_force(it) == ["old"]


def test_what_was_replaced_stays_so_when_the_newer_one_is_withdrawn() -> None:
    it = town(policy(rule(maximum=1), name="old"))
    it.say(*bikes(3))
    it.decree(say("new", 1, replaces=("old",)))
    assert it.nothing(1) == ["cleared ant policy", "raised ant"]
    it.decree(withdraw("new"))
    it.nothing(1)
    assert in_force(it) == []
    it.decree(say("old", 1))
    it.nothing(1)
    assert in_force(it) == ["old"], "but for a document that is written later"


def test_the_newest_that_has_begun_counts_whatever_was_written_for_later() -> None:
    it = town()
    it.say(*bikes(3))
    it.decree(say("p", 1, tick=START + 50))
    it.decree(say("p", 2, tick=START + 20))
    it.nothing(60)
    assert [(event.state, event.tick) for event in it.told] == [("raised", START + 20)]
    assert it.last["rule"]["threshold"] == 2, "the one for later was written before, and never begins"


def test_two_in_one_tick_act_in_the_order_of_the_log() -> None:
    it = town()
    it.say(*bikes(3))
    it.decree(say("p", 1), say("p", 2))
    it.nothing(1)
    assert it.last["rule"]["threshold"] == 2
    it.decree(withdraw("p"), say("p", 1))
    assert it.nothing(1) == [], "an update is not due"
    assert in_force(it) == ["p"]


def test_after_its_end_date_nothing_of_the_id_is_in_force() -> None:
    it = town(policy(rule(maximum=1), name="p"))
    it.say(*bikes(3))
    it.decree(say("p", 1, until_ms=START_MS + 10 * TICK_MS))
    it.nothing(20)
    assert in_force(it) == []


def test_windows_open_and_close_for_what_came_by_the_topic() -> None:
    it = town()
    it.say(*bikes(3))
    it.decree(say("p", 1, rule={"window": at(100, 100)}))
    assert it.nothing(18) == []
    assert it.nothing(1) == ["raised ant"]
    assert it.nothing(20) == ["cleared ant policy"]


def test_a_broken_policy_changes_nothing_and_is_told_to_the_city_until_a_good_one_comes() -> None:
    it = town()
    it.say(*bikes(3))
    it.decree(say("p", 1))
    assert it.nothing(1) == ["raised ant"]
    assert it.decree(broken("p")) == ["raised refusal of p"]
    refusal = it.told[-1]
    assert (refusal.operator, refusal.operator_body, refusal.area) == ("", None, "p")
    assert it.last["refused"]["problems"] == ["rules[1].maximum: must be a number, got x. Write 5."]
    assert in_force(it) == ["p"]
    assert it.decree(broken("p")) == ["updated refusal of p"]
    assert refusal.episode_id in it.state.open_events()
    assert it.decree(say("p", 1)) == ["cleared refusal of p replaced"]
    assert refusal.episode_id not in it.state.open_events()
    it.decree(broken("q"))
    assert it.decree(withdraw("q")) == ["cleared refusal of q withdrawn"]
    assert in_force(it) == ["p"]


@pytest.mark.parametrize(
    ("reading", "text"),
    [
        (Reading("policy", policy(rule(maximum=1), zones=())), "policy_id: must not be that of the city's own rules"),
        (
            Reading("p", policy(rule(maximum=1), name="p", operators=("dog",), zones=())),
            "provider_ids: must be names of allowed",
        ),
    ],
)
def test_a_policy_that_does_not_fit_the_city_is_refused(reading: Reading, text: str) -> None:
    it = Town((epoch(at_most(2), geographies=GEOGRAPHIES),))
    it.say(*bikes(1))
    assert it.decree(reading) == [f"raised refusal of {reading.policy_id}"]
    assert it.last["refused"]["problems"][0].startswith(text)


def test_what_comes_before_the_first_ping_is_in_force_when_the_city_begins_and_does_not_begin_it() -> None:
    it = Town(town().epochs, tick=START - 100_000)
    assert it.decree(broken("q")) == ["raised refusal of q"]
    it.decree(say("p", 1))
    it.crash()
    it.tick = START - 1
    assert it.say(*bikes(3)) == ["raised ant"]
    assert it.state.silence.now == START, "nobody was silent before"


@pytest.mark.parametrize("crash_after", range(7))
def test_a_restored_city_goes_on_with_what_was_written(crash_after: int) -> None:
    def told(*, crash: bool) -> list[tuple[int, str, bytes]]:
        it = town(policy(rule(maximum=1), name="old"), then=[policy(rule(maximum=2), name="old")])
        steps = [
            lambda: it.say(*bikes(4)),
            lambda: it.decree(say("new", 1, tick=START + 20, replaces=("old",)), broken("q")),
            lambda: it.decree(say("p", 2, rule={"update_interval_ms": 0})),
            lambda: it.nothing(30),
            lambda: it.decree(say("p", 1), withdraw("new"), withdraw("q")),
            lambda: it.nothing(5),
            lambda: it.say(*bikes(5, first=4)),
        ]
        for number, step in enumerate(steps):
            step()
            if crash and number == crash_after:
                it.crash()
        it.nothing(200)
        return [(event.tick, event.event_id, event.body) for event in it.told]

    assert told(crash=True) == told(crash=False)


def test_documents_that_are_over_are_forgotten() -> None:
    it = town()
    it.say(*bikes(3))
    for maximum in range(1, 30):
        it.decree(say("p", maximum, replaces=("other",)))
        it.nothing(1)
    assert len(it.state.decrees.decrees) <= 2
    it.decree(withdraw("p"))
    it.decree(say("q", 1))
    it.nothing(1)
    it.decree(withdraw("q"))
    assert [decree.policy_id for decree in it.state.decrees.decrees] == ["q", "q"]
    assert it.state.decrees.settled == {"p", "other", "q"}


def test_a_state_with_a_policy_that_cannot_be_read_any_more_is_an_error_with_a_remedy() -> None:
    it = town()
    it.say(*bikes(3))
    it.decree(say("p", 1))
    it.readings |= dict.fromkeys(it.readings, broken("p"))
    with pytest.raises(ValueError, match=r"the policy p, which this version .* Withdraw it with the version that could"):
        it.crash()


def test_a_zone_of_a_document_is_its_own_though_the_configuration_has_one_of_that_name() -> None:
    elsewhere = replace(EAST, geography_id="square")
    it = town(policy(rule("rule", "square", maximum=0), name="c"))
    it.decree(Reading("p", Policy("p", "P", (replace(rule("rule", "square", maximum=0), policy_id="p"),), zones=(elsewhere,))))
    it.say(*bikes(1, at=(EAST.polygons[0][0][0][0] + 100, EAST.polygons[0][0][0][1] - 5_000)))
    assert [event.rule[0] for event in it.told] == ["c"]
