"""Laws of a city: however its time is cut, and wherever it crashes, it tells the same to the byte."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.alert import Event
from geo.city import CityState
from geo.frame import Section
from geo.params import Epoch, Timeline
from tests.geo.town import HERE, START, TICK_MS, Fact, Town, at_most, bikes, epoch

LENGTH = 60
Tick = tuple[int, list[tuple[int, Section]]]


@dataclass(frozen=True)
class World:
    timeline: Timeline
    ticks: list[Tick]


def epochs() -> tuple[Epoch, ...]:
    """Short times, so that everything comes to pass within some minutes; the second version turns much around."""
    first = (
        at_most(3, for_ms=10_000, keep_firing_for_ms=10_000, cooldown_ms=20_000),
        at_most(2, rule_id="fine", resolution=10, for_ms=0, update_interval_ms=5_000),
        at_most(4, rule_id="gone", for_ms=5_000, clear_ratio=Fraction(1)),
    )
    second = (first[1], at_most(2, for_ms=0, keep_firing_for_ms=0, cooldown_ms=10_000))
    return (
        epoch(*first, operators=("ant", "bee", "cat"), watched=None, silent_after_ms=40_000, ttl_ms=120_000),
        epoch(*second, from_tick=START + 30, operators=("ant", "cat"), watched=None, silent_after_ms=25_000, ttl_ms=90_000),
    )


def world(seed: int) -> World:
    """Five minutes of a small town; some ticks are empty, and operators fall silent for a while."""
    random = np.random.default_rng(seed)
    town, ticks = Town(epochs()), []
    mute_until = dict.fromkeys(town.timeline.operators, 0)
    for tick in range(START, START + LENGTH):
        if random.random() < 0.3:
            continue
        town.tick = tick
        allowed = town.timeline.at(tick).operators
        facts = {}
        for _ in range(int(random.integers(9))):
            fact = Fact(
                bike=f"b{random.integers(12)}",
                operator=str(random.choice(allowed)),
                at=(HERE[0] + int(random.integers(3)) * 6_000, HERE[1]),
                stands=bool(random.random() < 0.8),
                rode=bool(random.random() < 0.3),
                since=int(random.integers(3)),
                ago=int(random.choice([1, 3_000, 6_000, 50_000])),
                source=int(random.integers(2)),
            )
            facts[fact.source, fact.operator, fact.bike] = fact
        for operator in allowed:
            if random.random() < 0.04:
                mute_until[operator] = tick + int(random.integers(30))
        heard = [operator for operator in allowed if mute_until[operator] <= tick and random.random() < 0.7]
        ticks.append((tick, town._sections(list(facts.values()), heard)))
    return World(town.timeline, ticks)


def run(world: World, cuts: list[int], crashes: frozenset[int] = frozenset()) -> tuple[list[Event], CityState]:
    """Advance to each of the cuts and to the end; after those named write the state down and go on from that."""
    state, events = CityState("town", world.timeline), []
    for through in [*sorted(set(cuts)), START + LENGTH + 30]:
        ticks = [(tick, sections) for tick, sections in world.ticks if state.done < tick <= through]
        events += state.advance(through, ticks)
        if through in crashes:
            told = state.open_events()
            state = CityState.restore("town", world.timeline, state.pack())
            assert state.open_events() == told
    return events, state


CUTS = st.lists(st.integers(START - 3, START + LENGTH + 20), max_size=20)


@given(seed=st.integers(0, 2**32), cuts=CUTS)
def test_cutting_the_advances_elsewhere_changes_nothing(seed: int, cuts: list[int]) -> None:
    told = world(seed)
    assert run(told, cuts)[0] == run(told, [])[0]


@given(seed=st.integers(0, 2**32), cuts=CUTS)
def test_crashing_at_any_tick_and_going_on_from_what_was_written_changes_nothing(seed: int, cuts: list[int]) -> None:
    told = world(seed)
    assert run(told, cuts, frozenset(cuts))[0] == run(told, [])[0]


@given(seed=st.integers(0, 2**32))
def test_an_episode_is_one_story_and_what_is_open_is_what_was_not_cleared(seed: int) -> None:
    events, state = run(world(seed), [])
    assert_stories(events)
    newest = {event.episode_id: event for event in events}
    assert state.open_events() == {key: event for key, event in newest.items() if event.state != "cleared"}
    assert len({event.event_id for event in events}) == len(events)


def assert_stories(events: list[Event]) -> None:
    """Every episode is raised once, first, counts its events, and says nothing after it was cleared."""
    by_episode: dict[str, list[Event]] = {}
    for event in events:
        by_episode.setdefault(event.episode_id, []).append(event)
    for told in by_episode.values():
        assert [event.sequence for event in told] == list(range(1, len(told) + 1))
        assert [event.state == "raised" for event in told] == [True] + [False] * (len(told) - 1)
        assert "cleared" not in [event.state for event in told[:-1]]


def test_the_laws_worlds_hold_every_kind_of_event() -> None:
    told = [event for seed in range(12) for event in run(world(seed), [])[0]]
    assert {(event.kind, event.state) for event in told} == {
        ("overcrowded", "raised"),
        ("overcrowded", "updated"),
        ("overcrowded", "cleared"),
        ("feed_silent", "raised"),
        ("feed_silent", "cleared"),
    }
    for cause in (b'"policy"', b'"returned"', b'"moved"', b'"ridden"', b'"expired"'):
        assert any(b'"cleared_by":' + cause in event.body for event in told)


def test_a_state_can_be_read_by_a_configuration_that_knows_more_operators() -> None:
    rule = at_most(4)
    before = epoch(rule, watched=None)
    more = epoch(rule, from_tick=START + 40, operators=("aaa", "ant", "bee", "zoo"), watched=None)
    told = []
    for crash in (False, True):
        town = Town((before,) if crash else (before, more))
        town.say(*bikes(6), *bikes(5, operator="bee"))
        town.wait(20, heard=("bee",))
        if crash:
            town.crash(Timeline(TICK_MS, (before, more)))
        town.wait(30, heard=("bee",))
        town.say(*bikes(6, operator="zoo"), heard=("ant", "zoo"))
        town.nothing(100)
        told.append(town.told)
    assert told[0] == told[1]
    assert {event.operator for event in told[0]} == {"aaa", "ant", "bee", "zoo"}


def test_a_state_is_not_read_by_a_configuration_that_lost_an_operator() -> None:
    town = Town((epoch(),))
    town.say(*bikes(1, operator="bee"))
    with pytest.raises(ValueError, match=r"operators that no configuration version allows: bee\. Keep the version"):
        town.crash(Timeline(TICK_MS, (epoch(operators=("ant",)),)))


def test_a_state_is_not_read_by_a_configuration_whose_rules_in_force_were_changed() -> None:
    town = Town((epoch(at_most(4)),))
    town.say(*bikes(1))
    with pytest.raises(ValueError, match="must not be changed: add one"):
        town.crash(Timeline(TICK_MS, (epoch(at_most(4, rule_id="other")),)))


@pytest.mark.parametrize(
    ("name", "tick_ms", "what"), [("village", TICK_MS, "city is town"), ("town", 1_000, "tick_ms is 5000")]
)
def test_the_state_of_another_log_is_refused(name: str, tick_ms: int, what: str) -> None:
    packed = Town((epoch(),)).state.pack()
    with pytest.raises(ValueError, match=f"the state is of another log: its {what}"):
        CityState.restore(name, Timeline(tick_ms, (epoch(),)), packed)


def test_a_city_that_never_began_can_be_written_down_too() -> None:
    town = Town((epoch(at_most(4, for_ms=0)),))
    town.nothing(5)
    town.crash()
    assert town.state.done == town.tick
    assert town.say(*bikes(5)) == ["raised ant"]
