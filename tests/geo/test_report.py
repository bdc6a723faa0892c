"""The city's three rates: what a day's record says, when it is told, and when again. docs/reports.md."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from geo.handling import Response
from geo.params import Epoch
from geo.report import Tally
from geo.windows import DAY_MS, Offsets, date_at
from tests.geo.town import START, TICK_MS, Fact, Town, at_most, bikes, epoch, left_town, taken

HOUR_MS = 3_600_000
MIDNIGHT = START + 60
"""The first tick that ends on the next day: at its end it is midnight."""

NIGHT = ((0, -(MIDNIGHT + 1) * TICK_MS % DAY_MS),)
QUICK: dict[str, Any] = {"for_ms": 0, "keep_firing_for_ms": 0, "resolve_within_ms": HOUR_MS}


def square(*, allows: int = 1, offsets: Offsets = NIGHT, **told: Any) -> Epoch:
    return epoch(at_most(allows, **(QUICK | told)), offsets=offsets)


def told(town: Town) -> list[dict[str, Any]]:
    return [orjson.loads(report.body) for report in town.state.reports.take()]


def of_ant(town: Town) -> dict[str, Any]:
    """What is told of the one day of ant's that is told of."""
    (body,) = (body for body in told(town) if body["operator"] == "ant")
    return body


def up_to(town: Town, tick: int) -> None:
    town.wait(tick - town.tick)


def answer(town: Town, operator: str = "ant") -> None:
    """An operator answers every alert that is open, at the tick that was worked last."""
    for watch in town.state.watches:
        for pair in watch.open_pairs():
            if watch.counts.operators[pair] == town.timeline.operators.index(operator):
                watch.answer(pair, Response("acknowledged"), town.tick)


# --- days ---------------------------------------------------------------------------------------------------------------


def test_a_day_is_told_of_at_the_first_tick_that_ends_at_its_end_or_later_for_each_operator() -> None:
    town = Town((square(),))
    town.say()
    up_to(town, MIDNIGHT - 1)
    assert told(town) == []
    up_to(town, MIDNIGHT)
    ant, bee = told(town)
    assert (ant["operator"], bee["operator"]) == ("ant", "bee")
    assert ant["date"] == "1970-02-27"
    assert ant["observed_at"] == "1970-02-27T20:58:25.000Z", "that is midnight here"
    assert ant["rules"] == []
    assert ant["complete"] is True
    assert (ant["total"]["opened"], ant["total"]["response_rate"], ant["total"]["median_response_s"]) == (0, None, None)


def test_a_day_ends_when_nobody_speaks() -> None:
    town = Town((square(),))
    town.say()
    town.nothing(3 * DAY_MS // TICK_MS)
    assert [body["date"][-2:] for body in told(town)] == ["27", "27", "28", "28", "01", "01"]


def test_an_episode_is_of_the_day_on_which_it_opened() -> None:
    """The tick that ends at midnight is the first one of the new day, as `opened_at` says."""
    town = Town((square(),))
    up_to(town, MIDNIGHT - 1)
    town.say(*bikes(2))
    assert town.told[-1].state == "raised"
    assert of_ant(town)["total"]["opened"] == 0
    town.nothing(DAY_MS // TICK_MS)
    assert of_ant(town)["total"] | {"opened": 1, "open": 1} == of_ant_total(opened=1, open=1)


def of_ant_total(**counts: int) -> dict[str, Any]:
    rates = {"response_rate": 0.0, "resolution_rate": 0.0, "on_time_rate": 0.0}
    return Tally(**counts).fields() | rates


@pytest.mark.parametrize(
    ("at_ms", "offsets", "date"),
    [
        (DAY_MS - 1, (), 0),
        (DAY_MS, (), 1),
        (DAY_MS - HOUR_MS, ((0, HOUR_MS),), 1),
        (DAY_MS - HOUR_MS - 1, ((0, HOUR_MS),), 0),
        (-1, ((0, -HOUR_MS),), -1),
        # At midnight the clocks go back by an hour: it is 23:00 again, and still the day before.
        (DAY_MS, ((0, 0), (DAY_MS, -HOUR_MS)), 0),
        (DAY_MS + HOUR_MS, ((0, 0), (DAY_MS, -HOUR_MS)), 1),
        # Half an hour later they do: the new day has begun, and does not end by that.
        (DAY_MS + HOUR_MS // 2, ((0, 0), (DAY_MS + HOUR_MS // 2, -HOUR_MS)), 1),
        # They leave out the whole of date 1.
        (DAY_MS - 1, ((0, 0), (DAY_MS, DAY_MS)), 0),
        (DAY_MS, ((0, 0), (DAY_MS, DAY_MS)), 2),
    ],
)
def test_the_date_of_a_moment_never_goes_back_when_the_clocks_do(at_ms: int, offsets: Offsets, date: int) -> None:
    assert date_at(at_ms, offsets) == date


def test_a_version_with_another_zone_does_not_bring_a_day_back() -> None:
    """An hour after midnight the city moves three hours west: it is yesterday there, and nothing ends when that day ends again."""
    moved = ((0, NIGHT[0][1] - 3 * HOUR_MS),)
    later = replace(square(offsets=moved), from_tick=MIDNIGHT + HOUR_MS // TICK_MS)
    town = Town((square(), later))
    town.say()
    town.nothing(60 + 6 * HOUR_MS // TICK_MS)
    assert {body["date"] for body in told(town)} == {"1970-02-27"}
    town.nothing(DAY_MS // TICK_MS)
    assert [(body["date"], body["observed_at"]) for body in told(town) if body["operator"] == "ant"] == [
        ("1970-02-28", "1970-02-28T23:58:25.000Z")
    ]


def test_what_is_open_in_a_city_that_is_no_more_is_told_of_once_its_day_is_over() -> None:
    gone = replace(epoch(from_tick=MIDNIGHT - 5), cities=())
    town = Town((square(), gone))
    town.say(*bikes(2))
    up_to(town, MIDNIGHT - 5)
    assert town.told[-1].state == "cleared"
    town.nothing(5 * DAY_MS // TICK_MS)
    (body,) = told(town)
    assert (body["operator"], body["total"]["opened"], body["total"]["withdrawn"], body["complete"]) == ("ant", 1, 1, True)


# --- what is counted ----------------------------------------------------------------------------------------------------


def days(town: Town) -> list[tuple[str, dict[str, int]]]:
    """(date, counts that are not 0) of ant's days that are told of."""
    names = Tally().counts
    bodies = [body for body in told(town) if body["operator"] == "ant"]
    return [(body["date"][-2:], {k: v for k, v in body["total"].items() if k in names and v}) for body in bodies]


def test_what_riders_and_crews_take_away_is_resolved_in_time_or_not() -> None:
    """Two places on one day: one cleared just in time, one a tick too late."""
    for ticks, in_time in ((6, 1), (7, 0)):
        town = Town((square(resolve_within_ms=6 * TICK_MS),))
        town.say(*bikes(2))
        town.wait(ticks - 1)
        assert town.say(*taken(bikes(2))) == ["cleared ant ridden"]
        up_to(town, MIDNIGHT)
        body = of_ant(town)
        assert (body["total"]["resolved"], body["total"]["resolved_in_time"]) == (1, in_time)
        assert (body["total"]["resolution_rate"], body["total"]["on_time_rate"]) == (1.0, float(in_time))
        assert body["total"]["median_resolution_s"] == ticks * 5
        assert body["complete"] is True
        assert body["rules"] == [{"policy_id": "policy", "rule_id": "rule"} | body["total"]]


def test_marking_bikes_as_removed_resolves_nothing() -> None:
    town = Town((square(),))
    town.say(*bikes(2))
    assert town.say(*taken(bikes(2), state=6)) == ["cleared ant status_only"]
    up_to(town, MIDNIGHT)
    body = of_ant(town)["total"]
    assert (body["opened"], body["resolved"], body["lapsed"], body["resolution_rate"]) == (1, 0, 1, 0.0)
    assert body["median_resolution_s"] is None


def test_what_a_policys_end_clears_counts_in_no_rate() -> None:
    town = Town((square(), epoch(at_most(1, rule_id="other", **QUICK), from_tick=START + 20, offsets=NIGHT)))
    town.say(*bikes(3))
    answer(town)
    up_to(town, START + 20)
    assert [event.state for event in town.told] == ["raised", "updated", "cleared", "raised"]
    up_to(town, MIDNIGHT)
    body = of_ant(town)
    other, rule = body["rules"]
    assert (other["rule_id"], other["opened"], other["open"], other["response_rate"]) == ("other", 1, 1, 0.0)
    assert (rule["rule_id"], rule["opened"], rule["withdrawn"], rule["responded"], rule["response_rate"]) == (
        "rule",
        1,
        1,
        0,
        None,
    )
    assert body["total"]["opened"] == 2
    assert body["total"]["resolution_rate"] == 0.0


def test_a_shadow_rule_counts_for_nobody() -> None:
    town = Town((square(shadow=True),))
    town.say(*bikes(2))
    assert town.told[-1].shadow
    town.say(*taken(bikes(2)))
    up_to(town, MIDNIGHT)
    assert days(town) == [("27", {})]


def test_a_response_counts_once_and_is_in_time_up_to_respond_by() -> None:
    for ticks, in_time in ((6, 1), (7, 0)):
        town = Town((square(respond_within_ms=6 * TICK_MS),))
        town.say(*bikes(2))
        town.wait(ticks)
        answer(town)
        town.wait(3)
        town.say(*taken(bikes(2)))
        town.say(*bikes(2))  # the next episode was not answered
        up_to(town, MIDNIGHT)
        body = of_ant(town)["total"]
        assert (body["responded"], body["responded_in_time"], body["median_response_s"]) == (1, in_time, ticks * 5)


# --- told again ---------------------------------------------------------------------------------------------------------


def test_a_day_is_told_again_at_midnight_if_it_changed_until_none_of_its_episodes_is_open() -> None:
    day = DAY_MS // TICK_MS
    town = Town((square(),))
    town.say(*bikes(2))
    up_to(town, MIDNIGHT)
    assert days(town) == [("27", {"opened": 1, "open": 1})]
    town.nothing(day)
    assert days(town) == [("28", {})], "nothing has changed of the day before"
    town.nothing(10)
    answer(town)
    town.nothing(day)
    assert days(town) == [("27", {"opened": 1, "responded": 1, "open": 1}), ("01", {})]
    town.say(*left_town(bikes(2)))
    town.nothing(day)
    assert days(town) == [("27", {"opened": 1, "responded": 1, "resolved": 1}), ("02", {})]
    assert list(town.state.reports.newest()) == []
    town.nothing(day)
    assert days(town) == [("03", {})], "what is complete is never told again"


def test_another_operators_day_is_not_told_again_with_it() -> None:
    town = Town((square(),))
    town.say(*bikes(2), *(replace(fact, operator="bee") for fact in bikes(2)))
    town.nothing(80)
    assert len(told(town)) == 2
    town.say(*taken(bikes(2)))
    town.nothing(DAY_MS // TICK_MS)
    assert [(body["operator"], body["date"][-2:]) for body in told(town)] == [("ant", "27"), ("ant", "28"), ("bee", "28")]


def story(*, crashes: bool) -> list[dict[str, Any]]:
    """Four days of two operators, with or without a crash after everything that is said."""
    town = Town((square(),))
    bodies: list[dict[str, Any]] = []

    def then(*facts: Fact) -> None:
        town.say(*facts)
        if crashes:
            town.crash()

    then(*bikes(2), *(replace(fact, operator="bee") for fact in bikes(2)))
    answer(town, "bee")
    then(*taken(bikes(2)))
    then(*bikes(2))
    for day in range(4):
        town.nothing(DAY_MS // TICK_MS)
        bodies += told(town)
        then(*(left_town(bikes(2)) if day == 1 else bikes(day)))
    return bodies


def test_a_crash_forgets_no_day() -> None:
    bodies = story(crashes=False)
    assert story(crashes=True) == bodies
    assert len(bodies) > len({(body["operator"], body["date"]) for body in bodies})


# --- figures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "median"),
    [([], None), ([5_999], 5), ([1_000, 2_999], 1), ([1_000, 3_000], 2), ([3_000, 1_000, 9_000], 3), ([0, 0, 1_999, 0], 0)],
)
def test_a_median_is_in_whole_seconds_of_the_two_in_the_middle(times: list[int], median: int | None) -> None:
    assert Tally(responses=times).medians["median_response_s"] == median


@pytest.mark.parametrize(
    ("opened", "resolved", "rate"), [(3, 1, 0.3333), (3, 2, 0.6666), (20_000, 19_999, 0.9999), (7, 7, 1.0)]
)
def test_a_rate_is_rounded_down_so_that_only_all_is_one(opened: int, resolved: int, rate: float) -> None:
    assert Tally(opened=opened, resolved=resolved).rates["resolution_rate"] == rate
    assert Tally(opened=opened + 5, withdrawn=5, resolved=resolved).rates["resolution_rate"] == rate
