"""The laws are worth what their worlds do: everything that can happen happens in them, and often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import orjson
import pytest

from tests.laws.worlds import world
from tests.oracle.bodies import TrueEvent
from tests.oracle.truth import whole_truth

WORLDS = 100
OUTCOMES = {
    "accepted": 3000,
    "malformed": 300,
    "unknown_operator": 300,
    "future": 100,
    "stale": 200,
    "inaccurate": 100,
    "superseded": 1000,
    "duplicate": 100,
    "out_of_order": 300,
    "teleport": 300,
}
EVENTS = {
    ("overcrowded", "raised", None): 200,
    ("overcrowded", "updated", None): 300,
    ("overcrowded", "cleared", "moved"): 15,
    ("overcrowded", "cleared", "ridden"): 10,
    ("overcrowded", "cleared", "status_only"): 3,
    ("overcrowded", "cleared", "expired"): 10,
    ("overcrowded", "cleared", "policy"): 10,
    ("operator silent", "raised", None): 200,
    ("operator silent", "cleared", "returned"): 200,
    ("operator silent", "cleared", "policy"): 5,
    ("city silent", "raised", None): 8,
    ("city silent", "cleared", "returned"): 8,
    ("feed_degraded", "raised", None): 50,
    ("feed_degraded", "cleared", "recovered"): 25,
    ("feed_degraded", "cleared", "accepted"): 20,
    ("feed_degraded", "cleared", "policy"): 1,
    ("policy overcrowded", "raised", None): 150,
    ("policy overcrowded", "updated", None): 200,
    ("policy overcrowded", "cleared", "moved"): 20,
    ("policy overcrowded", "cleared", "ridden"): 15,
    ("policy overcrowded", "cleared", "status_only"): 2,
    ("policy overcrowded", "cleared", "expired"): 20,
    ("policy overcrowded", "cleared", "policy"): 10,
    ("policy deficit", "raised", None): 100,
    ("policy deficit", "updated", None): 50,
    ("policy deficit", "cleared", "restocked"): 10,
    ("policy deficit", "cleared", "policy"): 30,
    ("policy shadow", "raised", None): 30,
    ("policy all operators", "raised", None): 30,
    ("policy all operators", "told to three", None): 10,
    ("policy window", "raised", None): 50,
    ("policy zone", "raised", None): 60,
    ("escalated", "respond_by", None): 100,
    ("escalated", "rejected", None): 30,
    ("escalated", "resolve_by", None): 150,
    ("escalated", "in a silence", None): 30,
    ("response", "acknowledged", None): 100,
    ("response", "dispatched", None): 100,
    ("response", "done", None): 30,
    ("response", "rejected", None): 40,
    ("response", "in a silence", None): 10,
    ("response", "to none", None): 100,
    ("incident", "raised", None): 400,
    ("incident", "updated", None): 800,
    ("incident", "cleared", "moved"): 50,
    ("incident", "cleared", "ridden"): 20,
    ("incident", "cleared", "status_only"): 10,
    ("incident", "cleared", "expired"): 50,
    ("incident", "cleared", "policy"): 20,
    ("incident", "cleared", "merged"): 20,
    ("incident of several", "updated", None): 300,
    ("incident of several", "cleared", "policy"): 3,
    ("incident without its founding cell", "updated", None): 100,
    ("incident split off", "raised", None): 15,
    ("incident with moves", "updated", None): 300,
    ("incident shadow", "raised", None): 10,
    ("incident", "escalated", None): 400,
    ("incident that was answered", "raised", None): 3,
    ("incident that was answered", "cleared", "merged"): 3,
}


def traits(event: TrueEvent) -> Iterator[tuple[str, str]]:
    """What is special about a policy's event, with its state."""
    body = orjson.loads(event.body)
    special = {
        "shadow": event.shadow,
        "all operators": "scope" in body["rule"],
        "window": body["rule"]["window"] is not None,
        "zone": body["area"]["type"] == "zone",
    }
    yield from ((word, event.state) for word, has in special.items() if has)
    if event.operator_body is not None and b"count_all_operators" in event.operator_body:
        yield "all operators", "told to three"


def of_incident(event: TrueEvent) -> Iterator[str]:
    """What is special about an incident's event."""
    body = orjson.loads(event.body)
    if (cells := body["area"].get("cells")) is None:
        return
    special = {
        " of several": len(cells) > 1,
        " without its founding cell": body["area"]["h3"] not in cells,
        " split off": "split_from" in body,
        " with moves": bool(body["moves"]),
        " shadow": event.shadow,
        " that was answered": "response" in body,
    }
    yield "incident"
    yield from (f"incident{word}" for word, has in special.items() if has)


def handled(events: list[TrueEvent]) -> Iterator[tuple[str, str]]:
    """What escalates and why, and what is told at once because it was answered."""
    silent: set[str] = set()
    answers: dict[str, object] = {}
    for event in events:
        if event.rule[1] == "feed_silent":
            (silent.add if event.state == "raised" else silent.discard)(event.operator)
            continue
        body = orjson.loads(event.body)
        still = bool(silent & {event.operator, ""})
        if event.state == "escalated":
            newest = [one["cause"] for one in body["escalations"] if one["at"] == body["observed_at"]]
            yield from (("escalated", cause) for cause in newest)
        if event.state == "escalated" and still:
            yield "escalated", "in a silence"
        response = body.get("response")
        if response is not None and response != answers.get(body["episode_id"]):
            answers[body["episode_id"]] = response
            yield "response", response["status"]
            if still and event.state == "updated":
                yield "response", "in a silence"


@pytest.mark.timeout(600)
def test_every_outcome_and_every_event_occurs_in_the_worlds_of_the_laws() -> None:
    outcomes: Counter[str] = Counter()
    events: Counter[tuple[str, str, str | None]] = Counter()
    for seed in range(WORLDS):
        here = world(seed)
        truth = whole_truth(here.feeds, here.timeline, here.logs(), here.written)
        for tick in (tick for source in truth.sources for tick in source.ticks):
            for (_, outcome), n in tick.outcomes.items():
                outcomes[outcome] += n
        for event in (event for told in truth.events.values() for event in told):
            events.update((word, event.state, event.cleared_by) for word in of_incident(event))
            kind = event.kind
            if kind == "feed_silent":
                kind = "operator silent" if event.operator else "city silent"
            if event.rule[0].startswith("policy-"):
                kind = f"policy {event.kind}"
                events.update((f"policy {word}", state, None) for word, state in traits(event))
            events[kind, event.state, event.cleared_by] += 1
        events["response", "to none", None] += sum(city.unheeded for city in truth.cities.values())
        for told in truth.events.values():
            events.update((*what, None) for what in handled(told))
    assert {name: n for name, n in OUTCOMES.items() if outcomes[name] < n} == {}, outcomes
    assert {name: n for name, n in EVENTS.items() if events[name] < n} == {}, events
