"""An operator's alerts are its own affair: what its rivals do changes no byte of them."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.backtest import Backtest
from geo.alert import OVERCROWDED, Event
from streams.feeds.records import FeedRecord
from tests.simulation.city import FEEDS, pings, timeline

OPERATORS = ("alpha", "beta")


def overcrowded(records: list[FeedRecord], operator: str) -> list[Event]:
    """Its own events on too many bikes, by rules on each operator alone.

    (What the rules on all operators together say of the one is a matter of all, and so is the silence of all at one moment.)
    """
    events = Backtest(timeline(), FEEDS).run(records)
    own = [event for event in events if event.operator == operator and event.kind == OVERCROWDED]
    return [event for event in own if "scope" not in orjson.loads(event.body)["rule"]]


def is_of(record: FeedRecord, operator: str) -> bool:
    return record.value != b"junk" and orjson.loads(record.value)["operator"] == operator


def without(record: FeedRecord, operator: str) -> FeedRecord:
    """A clock record in the place of a rival's ping: time goes on as it did."""
    return record if is_of(record, operator) else record._replace(value=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("operator", OPERATORS)
@given(seed=st.integers(0, 10_000))
def test_what_rivals_do_changes_no_byte_of_an_operators_alerts(operator: str, seed: int) -> None:
    """Bikes of both have the same ids."""
    records = pings(seed, 600)
    told = [event.operator_body for event in overcrowded(records, operator)]
    alone = [event.operator_body for event in overcrowded([without(record, operator) for record in records], operator)]
    assert alone == told


def test_the_worlds_of_this_law_have_alerts_and_rivals_beside_them() -> None:
    events = [event for seed in range(5) for operator in OPERATORS for event in overcrowded(pings(seed, 600), operator)]
    bodies = [orjson.loads(event.body) for event in events]
    assert len(bodies) > 50
    assert sum(body["count_all_operators"] > body["count"] for body in bodies) > 20
