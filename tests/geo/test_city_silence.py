"""An operator that falls silent, told tick by tick. A tick is 5 s; operators are silent after 60 s, unless a test says else."""

from __future__ import annotations

import numpy as np
import pytest

from geo.params import Epoch, Rule
from geo.silence import Silence
from tests.geo.town import START, TICK_MS, Town, at_most, bikes, epoch, taken


def watched(*rules: Rule, **terms: int) -> tuple[Epoch]:
    return (epoch(*rules, watched=None, **terms),)  # type: ignore[arg-type]


def without_the_usual_gap() -> Silence:
    silence = Silence(1, TICK_MS, first=0)
    silence.watch(0, [0], {})
    return silence


def test_an_operator_is_silent_when_it_was_not_heard_for_its_threshold() -> None:
    town = Town(watched())
    town.say(heard=("ant", "bee"))
    assert town.wait(11, heard=("bee",)) == []
    assert town.wait(1, heard=("bee",)) == ["ant feed raised"]
    assert town.last["rule"] == {
        "policy_id": "built-in",
        "rule_id": "feed_silent",
        "name": "Feed silent",
        "threshold": 60,
        "unit": "s",
        "per_hectare": None,
        "window": None,
    }
    assert (town.last["area"]["type"], town.last["count"], town.last["links"]) == ("city", None, None)
    assert town.wait(100, heard=("bee",)) == []
    assert town.say(heard=("ant", "bee")) == ["ant feed cleared returned"]


def test_an_operator_that_never_spoke_is_waited_for_from_the_citys_first_tick_on() -> None:
    town = Town(watched())
    town.say(heard=("bee",))
    assert town.wait(11, heard=("bee",)) == []
    assert town.wait(1, heard=("bee",)) == ["ant feed raised"]


def test_facts_without_a_newer_fix_are_no_speech() -> None:
    town = Town(watched())
    town.say(heard=("ant", "bee"))
    assert [word for i in range(12) for word in town.say(*bikes(1, ago=i + 1), heard=("bee",))] == ["ant feed raised"]


def test_an_alert_does_not_ripen_while_its_operator_is_silent() -> None:
    town = Town(watched(at_most(4)))
    town.say()
    town.wait(9, heard=("bee",))
    town.say(*bikes(5), heard=("bee",))
    assert town.wait(2, heard=("bee",)) == ["ant feed raised"]
    assert town.wait(100, heard=("bee",)) == []
    assert town.say() == ["ant feed cleared returned"]
    assert town.wait(9) == []
    assert town.wait(1) == ["raised ant"]


def test_an_alert_is_not_cleared_while_its_operator_is_silent() -> None:
    town = Town(watched(at_most(4)))
    town.say(*bikes(5))
    town.wait(12)
    town.wait(11, heard=("bee",))
    assert town.say(*taken(bikes(5)), heard=("bee",)) == ["ant feed raised"]
    assert town.wait(100, heard=("bee",)) == []
    assert town.say() == ["ant feed cleared returned", "updated ant"]
    assert town.wait(5) == []
    assert town.wait(1) == ["cleared ant ridden"]


def test_a_return_is_judged_by_the_counts_of_then() -> None:
    town = Town(watched(at_most(4, for_ms=0)))
    town.say()
    town.wait(12, heard=("bee",))
    assert town.say(*bikes(9), heard=("bee",)) == []
    assert town.say(*taken(bikes(3)), heard=("bee",)) == []
    assert town.say() == ["ant feed cleared returned", "raised ant"]
    assert town.last["count"] == 6


def test_the_cooldown_runs_on_in_silence() -> None:
    town = Town(watched(at_most(4, for_ms=0, keep_firing_for_ms=0)))
    town.say(*bikes(5))
    assert town.say(*taken(bikes(5))) == ["cleared ant ridden"]
    town.wait(12, heard=("bee",))
    town.say(*bikes(5), heard=("bee",))
    assert town.say() == ["ant feed cleared returned", "raised ant"]


def test_a_city_in_which_all_fall_silent_at_once_has_one_alert_for_all() -> None:
    town = Town(watched())
    town.say()
    assert town.nothing(11) == []
    assert town.nothing(1) == ["city feed raised"]
    assert town.told[-1].operator_body is None and town.last["operator"] == ""
    assert town.nothing(10_000) == []
    assert town.say(heard=("bee",)) == ["city feed cleared returned", "ant feed raised"]
    assert town.say() == ["ant feed cleared returned"]


def test_a_city_in_which_they_fall_silent_one_by_one_has_an_alert_for_each() -> None:
    town = Town(watched())
    town.say()
    town.say(heard=("bee",))
    assert town.nothing(12) == ["ant feed raised", "bee feed raised"]
    assert town.say() == ["ant feed cleared returned", "bee feed cleared returned"]


def test_a_city_with_one_operator_has_no_city_wide_silence() -> None:
    town = Town((epoch(operators=("ant",), watched=None),))
    town.say(heard=("ant",))
    assert town.nothing(12) == ["ant feed raised"]


def test_operators_that_are_not_watched_are_never_silent() -> None:
    town = Town((epoch(watched=("bee",)),))
    town.say()
    assert town.wait(10_000, heard=("bee",)) == []


def hear(silence: Silence, *ticks: int) -> None:
    for tick in ticks:
        assert silence.advance(tick, np.array([1])) == ([], [])


def test_before_there_are_32_gaps_the_usual_one_counts_as_ten_minutes() -> None:
    silence = without_the_usual_gap()
    hear(silence, *range(32))
    assert silence.deadline() == 31 + 8 * 600_000 // TICK_MS


@pytest.mark.parametrize(("gap", "threshold_ms"), [(1, 600_000), (15, 600_000), (16, 640_000)])
def test_the_usual_gap_is_the_sixteenth_smallest_of_the_last_32(gap: int, threshold_ms: int) -> None:
    silence = without_the_usual_gap()
    wide = range(0, 16 * 900, 900)
    close = range(wide[-1] + gap, wide[-1] + 17 * gap, gap)
    hear(silence, *wide, *close)
    assert silence.gap_count[0] == 31
    hear(silence, close[-1] + gap)
    assert silence.deadline() == close[-1] + gap + threshold_ms // TICK_MS


def test_the_gap_that_was_a_silence_is_not_usual() -> None:
    silence = without_the_usual_gap()
    silence.override({0: 60_000})
    hear(silence, 0)
    assert silence.advance(12, np.array([0])) == ([0], [])
    assert silence.advance(40, np.array([1])) == ([], [0])
    assert silence.gap_count[0] == 0
    hear(silence, 42)
    assert silence.gaps[0, 0] == 2


def test_the_tick_of_falling_silent_is_lost_and_that_of_the_return_is_not() -> None:
    silence = without_the_usual_gap()
    silence.override({0: 60_000})
    hear(silence, 0)
    silence.advance(12, np.array([0]))
    assert silence.spoken[0] == 12 * TICK_MS
    silence.advance(100, np.array([1]))
    assert silence.spoken[0] == 13 * TICK_MS


def test_deadlines_pass_in_empty_time_as_they_do_in_busy_time() -> None:
    towns = [Town(watched(at_most(4), ttl_ms=400_000)) for _ in range(2)]
    told = []
    for town, step in zip(towns, (1, 300), strict=True):
        town.say(*bikes(6))
        told.append([word for _ in range(300 // step) for word in town.nothing(step)])
    assert told[0] == told[1]
    assert towns[0].told == towns[1].told
    assert [event.tick - START for event in towns[0].told] == [12]
