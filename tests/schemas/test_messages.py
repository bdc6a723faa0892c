"""What the core says fits the published schemas, all of it, in every situation of the laws' worlds."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import orjson
import pytest
from jsonschema import Draft202012Validator

from geo.alert import POLICY_REFUSED, Event
from geo.density import Telling
from geo.frame import QUARANTINED
from geo.report import Reported
from geo.source import Source
from geo.states import STATES
from streams.batches import Batch
from streams.density import density_record
from streams.events import AlertTopics, alert_records, cloud_event_headers
from streams.pings import Feed, PingDecoder
from streams.pings_stage import PingPartition
from streams.report import report_record
from streams.source_stage import Refused, quarantine_record
from tests.geo.story import epoch, timeline
from tests.laws.harness import CitiesRun, interleaved, run_cities, run_sources
from tests.laws.worlds import world
from tests.oracle.decrees import Written
from tests.oracle.responses import Answer
from tests.schemas.validating import closed, published, schema, strange_words, wrong

WORLDS = 30


@cache
def told() -> list[CitiesRun]:
    found: list[CitiesRun] = []
    for seed in range(WORLDS):
        here = world(seed)
        logs = here.logs()
        runs = run_sources(here, logs)
        facts = {partition: interleaved(runs, partition, None) for partition in runs[0].told}
        found.append(run_cities(here, sorted(logs), facts))
    return found


def events() -> list[Event]:
    return [event for run in told() for of_city in run.events.values() for event in of_city]


def bodies() -> Iterator[tuple[dict[str, Any], bool]]:
    """(body, whether it is the city's copy)."""
    for event in events():
        yield orjson.loads(event.body), True
        if event.operator_body is not None:
            yield orjson.loads(event.operator_body), False


def test_every_alert_fits_the_schema_and_has_no_field_that_it_does_not_tell_of() -> None:
    kinds: Counter[tuple[str, str]] = Counter()
    for body, citys in bodies():
        assert wrong("alert", body, strict=True) == []
        assert "count_all_operators" in body if citys else body["rule"].get("scope") or "count_all_operators" not in body
        kinds[body["kind"], body["state"]] += body["kind"] != POLICY_REFUSED
    kinds += Counter()
    assert len(kinds) == 12
    assert min(kinds.values()) > 5, kinds


def test_every_word_of_an_alert_is_one_that_the_schema_lists() -> None:
    document = schema("alert")
    strange = {word for body, _ in bodies() for word in strange_words(document, body)}
    assert strange == set()


def test_a_word_that_is_not_listed_would_be_found_and_would_not_hurt_a_reader() -> None:
    body, _ = next(bodies())
    assert list(strange_words(schema("alert"), body | {"kind": "flooded"})) == ["$.kind: flooded"]
    assert wrong("alert", body | {"kind": "flooded", "new_field": 1}) == []
    assert wrong("alert", body | {"new_field": 1}, strict=True) != []


def full_alert() -> dict[str, Any]:
    return next(body for body, citys in bodies() if citys and body["bikes"] and body["respond_by"])


@pytest.mark.parametrize("path", ["", "area", "rule", "bikes.0", "area.hot_spot", "area.centroid", "links"])
def test_an_alert_that_lacks_any_field_is_refused(path: str) -> None:
    whole = full_alert()
    for name in list(inside(whole, path)):
        if name == "count_all_operators":
            continue
        lacking = copy.deepcopy(whole)
        del inside(lacking, path)[name]
        assert wrong("alert", lacking) != [], f"{path}.{name}"


def inside(body: dict[str, Any], path: str) -> Any:
    for step in path.split(".") if path else ():
        body = body[int(step)] if step.isdigit() else body[step]
    return body


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sequence", 0), ("sequence", "1"), ("count", -1), ("excess", 1.5), ("opened_at", "2026-01-01 00:00:00"),
        ("episode_id", "7"), ("bikes", None), ("schema", "urban-brain/alert/2"), ("kind", None), ("respond_by", "soon"),
    ],
)  # fmt: skip
def test_an_alert_with_a_wrong_value_is_refused(name: str, value: object) -> None:
    assert wrong("alert", full_alert() | {name: value}) != []


# --- cells --------------------------------------------------------------------------------------------------------------


def tellings() -> list[Telling]:
    return [telling for run in told() for of_city in run.density.values() for telling in of_city]


def test_all_that_is_told_of_cells_fits_its_schema_and_stands_under_its_key() -> None:
    kinds: Counter[str] = Counter()
    for telling in tellings():
        if telling.body is None:
            kinds["empty"] += 1
            continue
        body = orjson.loads(telling.body)
        kind = "density" if "h3" in body else "coverage"
        assert wrong(kind, body, strict=True) == []
        assert telling.key.decode() == (f"{body['city']}/{body['h3']}" if kind == "density" else body["city"])
        kinds[kind] += 1
        kinds[f"{kind} silent"] += bool(body["silent"])
    assert len(kinds) == 5
    assert min(kinds.values()) > 50, kinds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("counts", {"amber": 0}),
        ("counts", [3]),
        ("h3", "7"),
        ("observed_at", "soon"),
        ("silent", None),
        ("schema", "urban-brain/1"),
    ],
)
def test_a_cell_with_a_wrong_value_is_refused(name: str, value: object) -> None:
    body = next(orjson.loads(one.body) for one in tellings() if one.cell and one.body)
    assert wrong("density", body) == []
    assert wrong("density", body | {name: value}) != []


def test_every_record_on_cells_has_its_time_as_a_header() -> None:
    check = header_validator("DensityHeaders")
    for telling in tellings()[:100]:
        check.validate(text(density_record(telling, "cell.density", 0).headers))
    assert not check.is_valid({})


# --- days ---------------------------------------------------------------------------------------------------------------


def reports() -> list[Reported]:
    return [report for run in told() for of_city in run.reports.values() for report in of_city]


def test_all_that_is_told_of_days_fits_its_schema_and_stands_under_its_key() -> None:
    kinds: Counter[str] = Counter()
    for report in reports():
        body = orjson.loads(report.body)
        assert wrong("report", body, strict=True) == []
        assert report.key.decode() == f"{body['city']}/{body['operator']}/{body['date']}"
        assert body["complete"] is (body["total"]["open"] == 0)
        kinds["rules" if body["rules"] else "empty"] += 1
        kinds["complete" if body["complete"] else "incomplete"] += 1
    assert len(kinds) == 4
    assert min(kinds.values()) > 5, kinds


@pytest.mark.parametrize(
    ("name", "value"),
    [("date", "today"), ("complete", None), ("total", {}), ("rules", [{}]), ("schema", "urban-brain/1"), ("observed_at", 7)],
)
def test_a_day_with_a_wrong_value_is_refused(name: str, value: object) -> None:
    body = next(orjson.loads(one.body) for one in reports())
    assert wrong("report", body | {name: value}) != []


def test_every_record_on_days_has_its_time_as_a_header() -> None:
    for report in reports():
        header_validator("DensityHeaders").validate(text(report_record(report, "operator.report", 0).headers))


# --- headers ------------------------------------------------------------------------------------------------------------


def header_validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(closed(published("asyncapi.json")["components"]["schemas"][name]))


def text(headers: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in headers}


def test_headers_of_alerts_are_those_of_the_document() -> None:
    check = header_validator("CloudEventHeaders")
    event = events()[0]
    for late_ms in (None, 29_999, 30_000):
        check.validate(text(cloud_event_headers(event, late_ms)))
    topics = AlertTopics("alerts", "alerts.open", "alerts.shadow", "alerts.{}".format)
    newest = alert_records(event, topics, 0, None)[-1]
    header_validator("OpenAlertHeaders").validate(text(newest.headers))
    assert not check.is_valid(text(newest.headers)), "the sequence is a header of open alerts only"


# --- refused records ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", QUARANTINED)
@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe", b"x" * 70_000, b'{"a": 1}'])
@pytest.mark.parametrize("item", [-1, 7])
def test_every_refused_record_fits_the_schema(reason: str, value: bytes | None, item: int) -> None:
    times, feed = timeline(epoch()), Feed("bike.pings", None)
    state = PingPartition("bike.pings", 3, Source(0, times), PingDecoder(feed, times), 0, 10)
    record = quarantine_record("quarantine", state, Refused(0, 17, item, 0, reason, "why"), b"key", value)
    body = orjson.loads(record.value or b"")
    assert wrong("quarantine", body, strict=True) == []
    assert list(strange_words(schema("quarantine"), body)) == []


# --- pings --------------------------------------------------------------------------------------------------------------

UNSAID = (
    "lat, lng must not both be",
    "must be printable",
    "ts must be milliseconds or RFC 3339",
    "utf-8",
    "surrogate",
    "got `float`",
)
"""What the decoder refuses and a schema does not say: to JSON Schema, 1.7e12 is an integer."""


def pings() -> Iterator[tuple[str | None, bytes]]:
    """(whose feed, value) of everything that is not a clock record in the worlds of the laws, rubbish included."""
    for seed in range(WORLDS):
        here = world(seed)
        for (topic, _), log in here.logs().items():
            for record in log:
                if record.value is not None and topic in here.feeds:
                    yield here.feeds[topic].operator, record.value


def test_decoder_and_schema_agree_on_what_a_ping_is() -> None:
    times = timeline(epoch())
    verdicts: Counter[tuple[bool, bool]] = Counter()
    for operator, value in pings():
        decoder = PingDecoder(Feed("bike.pings", operator), times)
        _, reasons, _ = decoder.decode(Batch.of([value], np.array([1_700_000_000_000]), np.array([0])))
        try:
            body = orjson.loads(value)
        except orjson.JSONDecodeError:
            assert reasons, value
            continue
        if isinstance(body, list) and len(body) == 1:
            (body,) = body  # a record of one ping in an array
        found = wrong("ping", body)
        if operator is None and isinstance(body, dict) and "operator" not in body:
            assert reasons, "a gateway must name the operator"
            continue
        verdicts[not reasons, not found] += 1
        if not reasons:
            assert found == [], value
        elif not found:
            assert any(rule in reasons[0][1] for rule in UNSAID), (reasons, value)
    assert verdicts[True, True] > 3000
    assert verdicts[False, False] > 20


def test_the_ping_tells_of_every_state_that_mds_has() -> None:
    words = schema("ping")["properties"]["status"]["anyOf"][0]["enum"]
    assert sorted(words) == sorted(STATES[1:])


def test_policies_on_their_topic_fit_the_schema() -> None:
    """Sound and broken ones: the form of a record is one thing, the policy in it another."""
    records = [one for seed in range(1, 41, 2) for one in world(seed).written if isinstance(one, Written)]
    documents = [orjson.loads(one.value) for one in records]
    assert len(documents) > 30
    assert {tuple(sorted(body.keys() - {"schema", "city"})) for body in documents} == {("withdraw",), ("geographies", "policy")}
    for body in documents:
        assert wrong("policy", body, strict=True) == []


def test_a_response_fits_the_schema_unless_a_worker_refuses_it() -> None:
    """Of what a worker refuses, the schema knows all but which cities there are, and which fields go with which status."""
    records = [one for seed in range(40) for one in world(seed).written if isinstance(one, Answer)]
    verdicts: Counter[tuple[bool, bool]] = Counter()
    for one in records:
        if one.value == b"not JSON":
            continue
        body = orjson.loads(one.value)
        fits = not wrong("response", {key: value for key, value in body.items() if key != "note"}, strict=True)
        verdicts[fits, one.city is not None] += 1
        assert fits or one.city is None, body
    assert verdicts[True, True] > 300
    assert verdicts[False, False] > 10
