"""What operators answer, what becomes of an episode that nobody answers or puts right, and how grave that makes it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import orjson
import pytest

from geo.alert import rfc3339
from geo.handling import Response
from geo.policy import Policy
from tests.geo.test_city_policies import GEOGRAPHIES, WEST_SIDE, rule
from tests.geo.town import TICK_MS, Town, at_most, bikes, epoch, taken

MINUTE = 12
"""Ticks."""


def crowded(n: int = 6, *, responses: bool = True, watched: tuple[str, ...] = (), **terms: object) -> Town:
    """An alert on n bikes, of which four may stand there, was just raised. It is to be answered within five minutes, and put
    right within half an hour."""
    deadlines: dict[str, Any] = {"respond_within_ms": 300_000, "resolve_within_ms": 1_800_000, "update_interval_ms": 10**9}
    it = Town((epoch(at_most(4, for_ms=0, **(deadlines | terms)), watched=watched),), responses=responses)
    assert it.say(*bikes(n)) == ["raised ant"]
    return it


def end_ms(it: Town) -> int:
    return (it.tick + 1) * TICK_MS


def causes(it: Town) -> list[str]:
    return [one["cause"] for one in it.last["escalations"]]


# --- responses -----------------------------------------------------------------------------------------------------------


def test_a_response_is_told_at_the_tick_after_its_own_however_long_updates_wait() -> None:
    it = crowded()
    assert "response" not in it.last, "a body without one is what it was before there were any"
    assert it.answer("acknowledged") == []
    at = end_ms(it)
    assert it.nothing(1) == ["updated ant"]
    assert it.last["response"] == {"status": "acknowledged", "at": rfc3339(at), "eta": None, "reason": None}
    assert it.told[-1].tick == it.tick
    own = it.told[-1].operator_body
    assert own is not None
    assert orjson.loads(own)["response"] == it.last["response"]


def test_a_dispatched_crew_is_told_with_its_time_and_again_only_if_that_changes() -> None:
    it = crowded()
    it.answer("dispatched", eta_ms=end_ms(it) + 600_000)
    assert it.nothing(1) == ["updated ant"]
    said = it.last["response"]
    assert said["eta"] == rfc3339(end_ms(it) - 2 * TICK_MS + 600_000)
    it.answer("dispatched", eta_ms=end_ms(it) - 2 * TICK_MS + 600_000)
    assert it.nothing(1) == [], "said already"
    it.answer("dispatched", eta_ms=end_ms(it) + 900_000)
    assert it.nothing(1) == ["updated ant"]
    assert it.last["response"]["at"] != said["at"]


def test_of_several_in_one_tick_the_last_one_counts_and_is_told_once() -> None:
    it = crowded()
    episode = it.told[-1].episode_id
    it.answers(*(("ant", episode, Response(status)) for status in ("acknowledged", "dispatched", "done")))
    assert it.nothing(1) == ["updated ant"]
    assert it.last["response"]["status"] == "done"


def test_a_response_for_an_episode_of_another_operator_or_of_none_joins_nothing() -> None:
    it = crowded()
    it.state.responses.counted()
    assert it.answer("acknowledged", operator="bee") == []
    assert it.answer("acknowledged", episode="00000000-0000-0000-0000-000000000000") == []
    assert it.nothing(2 * MINUTE) == []
    assert it.state.responses.counted() == Counter({("bee", "not_yours"): 1, ("ant", "unknown_episode"): 1})
    assert it.nothing(3 * MINUTE) == ["escalated ant"], "it was never answered"


def test_a_response_that_comes_when_the_episode_is_cleared_is_refused_and_one_at_its_last_tick_is_told_with_the_end() -> None:
    it = crowded()
    it.say(*taken(bikes(6)))
    it.nothing(4)
    it.answer("done")
    assert it.nothing(1) == ["cleared ant ridden"], "half a minute below"
    assert it.last["response"]["status"] == "done"
    it.answer("done")
    assert it.state.responses.counted()["ant", "unknown_episode"] == 1
    assert it.nothing(MINUTE) == []


def test_whoever_is_silent_can_still_answer() -> None:
    it = crowded(watched=("ant", "bee"))
    assert it.wait(MINUTE, heard=["bee"]) == ["ant feed raised"]
    it.answer("acknowledged", episode=it.told[0].episode_id)
    assert it.say(heard=["bee"]) == ["updated ant"]
    assert it.last["count"] == 6


@pytest.mark.parametrize("kind", ["silence", "shadow"])
def test_what_no_operator_was_asked_to_answer_takes_no_response(kind: str) -> None:
    it = crowded(watched=("ant", "bee"), shadow=kind == "shadow")
    if kind == "silence":
        assert it.wait(MINUTE, heard=["bee"]) == ["ant feed raised"]
    it.state.responses.counted()
    it.answer("acknowledged")
    assert it.state.responses.counted() == Counter({("ant", "unknown_episode"): 1})


def test_bikes_that_are_marked_as_removed_and_stand_where_they_stood_are_seen_behind_done() -> None:
    it = crowded()
    it.say(*taken(bikes(6), state=6))
    it.answer("done")
    assert it.nothing(1) == ["updated ant"]
    assert it.nothing(4) == ["cleared ant status_only"]
    assert (it.last["response"]["status"], it.last["cleared_by"]) == ("done", "status_only")


# --- deadlines -----------------------------------------------------------------------------------------------------------


def test_an_alert_that_nobody_answers_escalates_once_when_that_was_due() -> None:
    it = crowded()
    respond_by, severity = it.last["respond_by"], it.last["severity"]
    assert respond_by == rfc3339(end_ms(it) + 300_000)
    assert it.nothing(5 * MINUTE) == [], "what is said in the last tick before it is said in time"
    assert it.nothing(1) == ["escalated ant"]
    assert it.last["escalations"] == [{"cause": "respond_by", "at": rfc3339(end_ms(it))}]
    assert (severity, it.last["severity"]) == ("major", "critical")
    it.answer("acknowledged")
    assert it.nothing(1) == ["updated ant"]
    assert it.last["severity"] == "critical", "late is late"
    assert it.nothing(20 * MINUTE) == []


def test_an_answer_in_the_last_tick_is_in_time() -> None:
    it = crowded()
    it.nothing(5 * MINUTE - 1)
    assert it.answer("acknowledged") == []
    assert it.nothing(1) == ["updated ant"]
    assert "escalations" not in it.last


def test_an_answer_does_not_put_it_right() -> None:
    it = crowded(n=5)
    it.answer("acknowledged")
    assert it.nothing(30 * MINUTE - 1) == ["updated ant"]
    assert it.nothing(1) == ["escalated ant"]
    assert (causes(it), it.last["severity"]) == (["resolve_by"], "major"), "a step above minor"


def test_both_deadlines_raise_the_severity_by_two_steps_and_no_further() -> None:
    for n, grave in ((5, ["minor", "major", "critical"]), (6, ["major", "critical", "critical"])):
        it = crowded(n)
        assert it.nothing(60 * MINUTE) == ["escalated ant", "escalated ant"]
        assert [orjson.loads(event.body)["severity"] for event in it.told] == grave
        assert causes(it) == ["respond_by", "resolve_by"]


def test_a_rejection_escalates_at_once_and_only_the_first_one() -> None:
    it = crowded()
    it.answer("rejected", reason="Our truck has broken down.")
    assert it.nothing(1) == ["escalated ant"]
    assert (causes(it), it.last["severity"]) == (["rejected"], "critical")
    assert it.last["response"]["reason"] == "Our truck has broken down."
    it.answer("dispatched")
    assert it.nothing(1) == ["updated ant"]
    it.answer("rejected", reason="It broke down again.")
    assert it.nothing(1) == ["updated ant"]
    assert it.nothing(10 * MINUTE) == [], "it was answered"


def test_a_rejection_that_was_taken_back_in_its_tick_is_none() -> None:
    it = crowded()
    episode = it.told[-1].episode_id
    it.answers(("ant", episode, Response("rejected", None, "No.")), ("ant", episode, Response("acknowledged")))
    assert it.nothing(1) == ["updated ant"]


def test_a_short_dip_does_not_reset_a_deadline() -> None:
    it = crowded()
    it.nothing(4 * MINUTE)
    it.say(*taken(bikes(6)))
    it.nothing(3)
    assert it.say(*bikes(6)) == []
    assert it.nothing(MINUTE - 5) == []
    assert it.nothing(1) == ["escalated ant"]
    assert it.told[-1].tick == it.told[0].tick + 5 * MINUTE + 1


def test_to_switch_a_feed_off_does_not_stop_the_clock() -> None:
    it = crowded(watched=("ant", "bee"))
    told = it.wait(40 * MINUTE, heard=["bee"])
    assert told == ["ant feed raised", "escalated ant", "escalated ant"]
    assert [event.tick - it.told[0].tick for event in it.told[2:]] == [5 * MINUTE + 1, 30 * MINUTE + 1]
    assert it.say() == ["ant feed cleared returned"]
    it.say(*taken(bikes(6)))
    assert it.nothing(6) == ["cleared ant ridden"], "in a silence nothing of it ripened"
    assert it.last["severity"] == "critical"


def test_where_nobody_can_answer_only_what_is_not_put_right_escalates() -> None:
    for it in (crowded(responses=False), crowded(shadow=True)):
        assert it.nothing(30 * MINUTE) == []
        assert it.nothing(1) == ["escalated ant"]
        assert causes(it) == ["resolve_by"]


def test_two_deadlines_at_one_tick_are_one_event() -> None:
    it = crowded(resolve_within_ms=300_000)
    assert it.nothing(60 * MINUTE) == ["escalated ant"]
    assert causes(it) == ["respond_by", "resolve_by"]


def test_a_rule_with_other_deadlines_under_its_id_moves_those_of_its_open_episodes() -> None:
    first = at_most(4, for_ms=0, respond_within_ms=300_000)
    turn = 1_000_000 + 4 * MINUTE
    it = Town((epoch(first), epoch(replace(first, respond_within_ms=600_000), from_tick=turn)), responses=True)
    assert it.say(*bikes(6)) == ["raised ant"]
    assert it.nothing(10 * MINUTE) == []
    assert it.nothing(1) == ["escalated ant"]
    assert it.last["respond_by"] == rfc3339(end_ms(it) - TICK_MS)


def test_an_escalated_episode_is_cleared_like_any_other_and_says_what_it_went_through() -> None:
    it = crowded()
    it.nothing(6 * MINUTE)
    it.say(*taken(bikes(6)))
    assert it.nothing(6) == ["cleared ant ridden"]
    assert causes(it) == ["respond_by"]
    it.nothing(12)
    assert it.say(*bikes(6)) == ["raised ant"]
    assert "escalations" not in it.last, "the next episode begins anew"


def test_too_few_bikes_have_deadlines_and_take_responses_too() -> None:
    few = rule("few", "west", minimum=4, respond_within_ms=300_000)
    policy = Policy("p", "P", (replace(few, policy_id="p"),), operators=("ant",))
    it = Town((epoch(policies=[policy], geographies=GEOGRAPHIES),), responses=True)
    assert it.say(*bikes(3, at=WEST_SIDE)) == ["raised ant deficit"]
    assert it.last["severity"] == "minor"
    it.answer("dispatched")
    assert it.nothing(1) == ["updated ant deficit"]
    it.answer("rejected", reason="No bikes left.")
    assert it.nothing(1) == ["escalated ant deficit"]
    assert it.last["severity"] == "major"


def test_what_is_cleared_by_policy_says_what_was_answered() -> None:
    gone = epoch(from_tick=1_000_000 + 2)
    it = Town((epoch(at_most(4, for_ms=0)), gone), responses=True)
    assert it.say(*bikes(6)) == ["raised ant"]
    it.answer("acknowledged")
    assert it.nothing(1) == ["cleared ant policy"]
    assert it.last["response"]["status"] == "acknowledged"


# --- severity ------------------------------------------------------------------------------------------------------------


def test_another_severity_is_told_even_if_hardly_a_bike_more_is_there() -> None:
    """Of 19 bikes in excess one more is no news by itself."""
    it = Town((epoch(at_most(20, for_ms=0, update_interval_ms=60_000)),))
    assert it.say(*bikes(29)) == ["raised ant"]
    assert it.last["severity"] == "minor"
    assert it.say(*bikes(1, first=29)) == []
    assert it.nothing(MINUTE) == ["updated ant"]
    assert (it.last["excess"], it.last["severity"]) == (20, "major")
    it.say(*taken(bikes(1, first=29)))
    assert it.nothing(MINUTE) == ["updated ant"]
    assert it.last["severity"] == "minor"


# --- crashes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crash_after", range(8))
def test_a_restored_city_goes_on_with_answers_and_deadlines(crash_after: int) -> None:
    def told(*, crash: bool) -> list[tuple[int, str, str, bytes]]:
        it = crowded(watched=("ant", "bee"))
        steps = [
            lambda: it.answer("dispatched", eta_ms=end_ms(it) + 5),
            lambda: it.nothing(MINUTE // 2),
            lambda: it.answer("rejected", episode=it.told[0].episode_id, reason="Nein, der Weg ist zu weit."),
            lambda: it.nothing(1),
            lambda: it.answer("done", episode=it.told[0].episode_id),
            lambda: it.wait(20 * MINUTE, heard=["bee"]),
            lambda: it.wait(20 * MINUTE, heard=["bee"]),
            lambda: it.say(*taken(bikes(6))),
        ]
        for number, step in enumerate(steps):
            step()
            if crash and number == crash_after:
                before = it.state.open_events()
                it.crash()
                assert it.state.open_events() == before
        it.nothing(200)
        return [(event.tick, event.event_id, event.state, event.body) for event in it.told]

    assert told(crash=True) == told(crash=False)
