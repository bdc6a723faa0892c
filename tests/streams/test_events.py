"""Where an alert goes: the city's copy, the operator's own, what is open; and a rule on trial to nobody but the city."""

from __future__ import annotations

from dataclasses import replace

from geo.alert import Event
from streams.events import AlertTopics, alert_records

TOPICS = AlertTopics("alerts", "alerts.open", "alerts.shadow", lambda operator: f"alerts.{operator}")
RAISED = Event(
    city="rivertown",
    operator="amber",
    tick=7,
    time_ms=40_000,
    kind="overcrowded",
    state="raised",
    episode_id="e",
    event_id="e/1",
    sequence=1,
    area="zone",
    rule=("p", "r"),
    body=b'{"count_all_operators":5}',
    operator_body=b"{}",
    opened_at_ms=40_000,
)


def told(event: Event) -> list[tuple[str, bytes | None]]:
    return [(record.topic, record.value) for record in alert_records(event, TOPICS, 0, None)]


def test_an_alert_goes_to_the_city_to_its_operator_and_to_what_is_open() -> None:
    assert told(RAISED) == [("alerts", RAISED.body), ("alerts.amber", b"{}"), ("alerts.open", RAISED.body)]
    assert told(replace(RAISED, state="cleared"))[-1] == ("alerts.open", None)


def test_what_nobody_owns_goes_to_the_city_only() -> None:
    assert [topic for topic, _ in told(replace(RAISED, operator="", operator_body=None))] == ["alerts", "alerts.open"]


def test_a_rule_on_trial_is_told_in_a_topic_of_its_own_and_nowhere_else() -> None:
    for state in ("raised", "updated", "escalated", "cleared"):
        assert told(replace(RAISED, state=state, shadow=True, operator_body=None)) == [("alerts.shadow", RAISED.body)]
