"""Who is held in the roster, for how long, and what of late, double and contradicting facts. A tick is 5 s, ttl 100 s."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from geo import counts, roster
from geo.params import FOR_EVER, Rule
from tests.geo.town import HERE, START, THERE, TICK_MS, Fact, Town, at_most, bikes, epoch, taken

TTL_MS = 100_000


def town(*rules: Rule) -> Town:
    return Town((epoch(*rules, ttl_ms=TTL_MS),))


def test_a_bike_expires_when_it_was_not_heard_for_its_time_to_live() -> None:
    it = town()
    it.say(Fact("old", ago=5_000), Fact("new", ago=4_999))
    it.nothing(19)
    assert it.count() == 1
    it.nothing(1)
    assert it.count() == 0


def test_a_fact_makes_a_bike_live_on() -> None:
    it = town()
    it.say(*bikes(2))
    it.nothing(18)
    it.say(Fact("b01"))
    it.nothing(19)
    assert it.count() == 1
    it.nothing(1)
    assert it.count() == 0


def test_a_fact_from_before_an_outage_does_not_shorten_a_life() -> None:
    it = Town((epoch(watched=("ant",), ttl_ms=TTL_MS),))
    it.say(*bikes(1, ago=1_000))
    it.nothing(999)
    assert it.say(*bikes(1, ago=1_000 * TICK_MS + 500), heard=("ant",)) == ["ant feed cleared returned"]
    it.wait(7, heard=("ant",))
    assert it.count() == 1
    it.wait(1, heard=("ant",))
    assert it.count() == 0


def test_an_alert_on_expired_bikes_says_so() -> None:
    it = town(at_most(4))
    it.say(*bikes(5))
    it.nothing(12)
    assert it.nothing(13) == ["updated ant"]
    assert it.nothing(1) == ["cleared ant expired"]


def test_time_in_which_its_operator_was_silent_does_not_age_a_bike() -> None:
    it = Town((epoch(watched=("ant",), ttl_ms=TTL_MS),))
    it.say(*bikes(2))
    it.wait(11, heard=())
    assert it.wait(1, heard=()) == ["ant feed raised"]
    it.nothing(100_000)
    assert it.count() == 2
    it.say(Fact("b01"), heard=("ant",))
    it.wait(7, heard=("ant",))
    assert it.count() == 2
    it.wait(1, heard=("ant",))
    assert it.count() == 1
    it.wait(11, heard=("ant",))
    assert it.count() == 1
    it.wait(1, heard=("ant",))
    assert it.count() == 0


def test_a_late_older_fact_does_not_revive_a_bike_that_left() -> None:
    it = town()
    it.say(*bikes(1))
    it.say(*taken(bikes(1), ago=1_000))
    it.say(Fact("b00", ago=8_000))
    assert it.count() == 0
    it.say(Fact("b00", ago=5_000))
    assert it.count() == 1


def test_a_bike_that_left_is_forgotten_after_its_time_to_live() -> None:
    it = town()
    it.say(*taken(bikes(1), ago=0))
    it.nothing(19)
    assert len(it.state.ground.roster) == 1
    it.nothing(1)
    assert len(it.state.ground.roster) == 0


def test_a_bike_heard_in_two_sources_is_one_bike() -> None:
    it = town()
    it.say(Fact("b00", ago=1_000, source=0), Fact("b00", ago=2_000, source=1, at=THERE))
    assert (it.count(), it.state.roster_count()) == (1, 1)
    it.say(Fact("b00", ago=5_999, source=0, at=THERE), Fact("b00", ago=5_998, source=1, at=HERE))
    assert (it.count(), it.state.roster_count()) == (1, 1)
    it.say(Fact("b00", ago=3_000, source=0, at=HERE), Fact("b00", ago=2_500, source=1, at=THERE))
    assert (it.count(), it.state.roster_count()) == (0, 1)


def test_of_equally_new_facts_the_greater_source_wins_and_a_lesser_one_does_not_act_later() -> None:
    it = town()
    it.say(Fact("b00", source=1), Fact("b00", source=0, at=THERE))
    assert it.count() == 1
    it.say(Fact("b00", ago=6_000, source=0, at=THERE))
    assert it.count() == 1
    it.say(Fact("b00", ago=11_000, source=1, at=THERE))
    assert it.count() == 0


def test_bikes_of_two_operators_with_one_id_are_two() -> None:
    it = town()
    it.say(*bikes(1), *bikes(1, operator="bee"))
    assert (it.count("ant"), it.count("bee"), it.state.roster_count("bee")) == (1, 1, 1)


def test_places_of_bikes_and_pairs_that_are_gone_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "_FEW", 16)
    monkeypatch.setattr(counts, "FEW_PAIRS", 16)
    it = town(at_most(4))
    it.say(*bikes(6, first=10_000, ago=0))
    for wave in range(40):
        places = [Fact(f"w{wave}-{i}", at=(THERE[0] + 40_000 * i, THERE[1] + 40_000 * wave)) for i in range(25)]
        it.say(*places, *bikes(6, first=10_000))
        it.wait(2)
        assert it.count() == 6
    assert len(it.state.ground.roster._ids) < 400
    assert it.state.ground.tables[9].size < 700
    it.crash()
    assert it.state.ground.tables[9].size < 200
    assert it.say(*taken(bikes(6, first=10_000))) == ["updated ant"]
    assert it.wait(6) == ["cleared ant ridden"]


def test_a_day_of_nothing_is_passed_in_a_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Town((epoch(at_most(4), ttl_ms=18_000_000),))
    it.say(*bikes(6))
    worked: list[int] = []
    work = it.state._work

    def watch(tick: int, sections: object) -> object:
        worked.append(tick)
        return work(tick, sections)  # type: ignore[arg-type]

    monkeypatch.setattr(it.state, "_work", watch)
    assert it.nothing(17_280) == ["raised ant", "updated ant", "cleared ant expired"]
    midnights = [tick for tick in worked if (tick + 1) * 5_000 % 86_400_000 == 0]  # a day's report is told then
    assert len(midnights) == 1
    assert len(worked) - len(midnights) < 10
    assert all(a < b for a, b in pairwise(worked))


def test_nothing_happens_before_the_first_tick_that_holds_a_record() -> None:
    it = Town((epoch(watched=None, ttl_ms=TTL_MS),))
    assert it.nothing(10_000) == []
    it.say()
    assert it.state.silence.first == START + 10_000
    assert it.nothing(11) == []


def test_a_city_begins_with_the_first_version_that_has_it() -> None:
    later = epoch(from_tick=START + 10, watched=None)
    before = replace(later, from_tick=FOR_EVER, cities=())
    it = Town((before, later))
    assert it.wait(14, heard=()) == []
    assert it.state.silence.first == START + 10
    assert it.wait(8, heard=()) == []
    assert it.wait(1, heard=()) == ["city feed raised"]


def test_the_roster_agrees_with_the_counts() -> None:
    it, random = town(at_most(4, resolution=10)), np.random.default_rng(3)
    for _ in range(60):
        facts = [
            Fact(f"b{i}", at=(HERE[0] + int(random.integers(40)) * 9_000, HERE[1]), stands=bool(random.random() < 0.7))
            for i in random.integers(60, size=15).tolist()
        ]
        it.say(*{fact.bike: fact for fact in facts}.values())
        for resolution in (9, 10):
            assert sum(n for _, _, n in it.state.counts(resolution)) == it.state.roster_count()
