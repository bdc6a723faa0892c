"""An operator's alerts are its own affair: what its rivals do changes no byte of them."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.backtest import Backtest
from geo.alert import OVERCROWDED, Event
from geo.params import Planning, Timeline
from geo.policy import Policy
from streams.feeds.records import FeedRecord
from tests.simulation.city import FEEDS, TICK_MS, pings, timeline

OPERATORS = ("alpha", "beta")


def planned() -> Timeline:
    """Bikes are brought elsewhere, and no rule is on all operators together: the room that such a one leaves is a matter of all."""

    def alone(policy: Policy) -> Policy:
        return replace(policy, rules=tuple(rule for rule in policy.rules if not rule.all_operators))

    [one] = timeline().epochs
    planning = Planning(interval_ms=4 * TICK_MS)
    cities = (replace(city, planning=planning, policies=tuple(map(alone, city.policies))) for city in one.cities)
    return timeline(replace(one, cities=tuple(cities)))


TIMELINES = {"rules": timeline(), "moves": planned()}


def overcrowded(records: list[FeedRecord], what: str = "rules") -> list[Event]:
    """Events on too many bikes, by rules on each operator alone.

    (What the rules on all operators together say of the one is a matter of all, and so is the silence of all at one moment.)
    """
    crowded = [event for event in Backtest(TIMELINES[what], FEEDS).run(records) if event.kind == OVERCROWDED]
    return [event for event in crowded if "scope" not in orjson.loads(event.body)["rule"]]


def is_of(record: FeedRecord, operator: str) -> bool:
    return record.value != b"junk" and orjson.loads(record.value)["operator"] == operator


def without(record: FeedRecord, operator: str) -> FeedRecord:
    """A clock record in the place of a rival's ping: time goes on as it did."""
    return record if is_of(record, operator) else record._replace(value=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", TIMELINES)
@settings(max_examples=max(1, settings().max_examples // 2))
@given(seed=st.integers(0, 10_000))
def test_what_rivals_do_changes_no_byte_of_an_operators_alerts(what: str, seed: int) -> None:
    """Bikes of both have the same ids."""
    records = pings(seed, 600)
    events = overcrowded(records, what)
    for operator in OPERATORS:
        told = [event.operator_body for event in events if event.operator == operator]
        events_alone = overcrowded([without(record, operator) for record in records], what)
        assert [event.operator_body for event in events_alone if event.operator == operator] == told


def test_the_worlds_of_this_law_have_alerts_and_rivals_beside_them() -> None:
    events = [event for seed in range(5) for event in overcrowded(pings(seed, 600))]
    bodies = [orjson.loads(event.body) for event in events]
    assert len(bodies) > 50
    assert sum(body["count_all_operators"] > body["count"] for body in bodies) > 20
    moved = [event for seed in range(5) for event in overcrowded(pings(seed, 600), "moves")]
    assert sum(bool(orjson.loads(event.body)["moves"]) for event in moved) > 20
