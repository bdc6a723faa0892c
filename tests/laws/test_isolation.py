"""An operator's alerts are its own affair: what its rivals do changes no byte of them."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
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


def overcrowded(records: list[FeedRecord], operator: str, what: str = "rules") -> list[Event]:
    """Its own events on too many bikes, by rules on each operator alone.

    (What the rules on all operators together say of the one is a matter of all, and so is the silence of all at one moment.)
    """
    events = Backtest(TIMELINES[what], FEEDS).run(records)
    own = [event for event in events if event.operator == operator and event.kind == OVERCROWDED]
    return [event for event in own if "scope" not in orjson.loads(event.body)["rule"]]


def is_of(record: FeedRecord, operator: str) -> bool:
    return record.value != b"junk" and orjson.loads(record.value)["operator"] == operator


def without(record: FeedRecord, operator: str) -> FeedRecord:
    """A clock record in the place of a rival's ping: time goes on as it did."""
    return record if is_of(record, operator) else record._replace(value=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", TIMELINES)
@pytest.mark.parametrize("operator", OPERATORS)
@given(seed=st.integers(0, 10_000))
def test_what_rivals_do_changes_no_byte_of_an_operators_alerts(operator: str, what: str, seed: int) -> None:
    """Bikes of both have the same ids."""
    records = pings(seed, 600)
    told = [event.operator_body for event in overcrowded(records, operator, what)]
    alone = [event.operator_body for event in overcrowded([without(record, operator) for record in records], operator, what)]
    assert alone == told


def test_the_worlds_of_this_law_have_alerts_and_rivals_beside_them() -> None:
    events = [event for seed in range(5) for operator in OPERATORS for event in overcrowded(pings(seed, 600), operator)]
    bodies = [orjson.loads(event.body) for event in events]
    assert len(bodies) > 50
    assert sum(body["count_all_operators"] > body["count"] for body in bodies) > 20
    moved = [event for seed in range(5) for operator in OPERATORS for event in overcrowded(pings(seed, 600), operator, "moves")]
    assert sum(bool(orjson.loads(event.body)["moves"]) for event in moved) > 20
