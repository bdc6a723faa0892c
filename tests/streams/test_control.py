"""Control topics at the edge: what is a document for whom, what is none, and that one bad record stops nothing."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from geo.handling import Response
from geo.params import Timeline
from geo.responses import from_body
from streams.batches import Batch
from streams.control import DocumentRefused, PolicyDecoder, ResponseDecoder
from streams.control_stage import ControlReader
from streams.settings import ControlSettings
from tests.geo.story import timeline

CITIES = ("east", "west")
POLICY = {"schema": "urban-brain/policy/1", "policy": {"policy_id": "quiet-square"}}


def test_a_policy_is_for_the_city_that_it_names_or_for_all() -> None:
    decoder = PolicyDecoder(CITIES)
    everywhere, here = orjson.dumps(POLICY), orjson.dumps(POLICY | {"city": "west"})
    assert decoder.decode(everywhere) == {"east": everywhere, "west": everywhere}
    assert decoder.decode(here) == {"west": here}
    gone = orjson.dumps({"schema": "urban-brain/policy/1", "withdraw": "quiet-square"})
    assert decoder.decode(gone).keys() == {"east", "west"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"{", "must be JSON; "),
        (b"7", 'must be an object with "schema": "urban-brain/policy/1"; got 7'),
        (orjson.dumps(POLICY | {"schema": "other"}), 'got "other"'),
        (orjson.dumps(POLICY | {"policy": {"policy_id": "../etc"}}), 'must be an id of 1 to 64 .*; got "../etc"'),
        (orjson.dumps(POLICY | {"policy": 3}), "must be an id of 1 to 64 .*; got None"),
        (orjson.dumps(POLICY | {"city": "wset"}), 'must be a configured city; got "wset"; Did you mean west'),
        (orjson.dumps(POLICY | {"city": 5}), "must be a configured city; got 5; Known here: east, west"),
    ],
)
def test_what_nobody_can_be_told_of_is_refused_with_the_reason(value: bytes, text: str) -> None:
    with pytest.raises(DocumentRefused, match=text):
        PolicyDecoder(CITIES).decode(value)


def test_a_reader_gives_documents_by_record_with_the_sender_and_place_and_goes_on_behind_a_bad_one() -> None:
    times: Timeline = timeline()
    reader = ControlReader(ControlSettings("policies.bravo", "policy", "bravo"), times)
    good = orjson.dumps(POLICY | {"city": "east"})
    values = [good, None, b"junk", good]
    documents, refused = reader.read(Batch.of(values, np.zeros(4, np.int64), np.arange(40, 44)))
    assert documents.keys() == {0, 3}
    told = documents[3]["east"]
    assert (told.kind, told.sender, told.body, told.place) == ("policy", times.operators.index("bravo"), good, 43)
    assert [(one.index, one.offset, one.reason) for one in refused] == [(2, 42, "malformed")]


# --- responses -----------------------------------------------------------------------------------------------------------

EPISODE = "0b7f4e0c-6c1e-5f0a-9d55-3a1f2f4c8a10"
SEEN = {"schema": "urban-brain/response/1", "city": "east", "episode_id": EPISODE, "status": "acknowledged"}


@pytest.mark.parametrize(
    ("more", "response"),
    [
        ({}, Response("acknowledged")),
        ({"status": "done", "eta": None, "reason": None, "note": ["whatever", {"else": 1}]}, Response("done")),
        ({"status": "dispatched"}, Response("dispatched")),
        ({"status": "dispatched", "eta": "1970-01-01T01:00:00.0015+01:00"}, Response("dispatched", 1)),
        ({"status": "rejected", "reason": "桥下没有车 <b>"}, Response("rejected", None, "桥下没有车 <b>")),
    ],
)
def test_a_response_is_for_the_city_that_it_names_and_nothing_but_what_counts_is_handed_on(
    more: dict[str, object], response: Response
) -> None:
    told = ResponseDecoder(CITIES).decode(orjson.dumps(SEEN | more))
    assert {city: from_body(body) for city, body in told.items()} == {"east": (EPISODE, response)}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"schema": "urban-brain/response/2"}, 'must be an object with "schema": "urban-brain/response/1"; got "urban'),
        ({"city": None}, "city must be a configured city; got None; Known here: east, west"),
        ({"city": "wset"}, 'got "wset"; Did you mean west'),
        (
            {"episode_id": EPISODE.upper()},
            'episode_id must be that of an alert, .*; got "0B7F.*; copy `episode_id` from the alert',
        ),
        ({"episode_id": EPISODE + "/1"}, "episode_id must be that of an alert"),
        ({"status": "ignored"}, 'status must be one of acknowledged, .*; got "ignored"; Known here'),
        ({"status": "rejectd"}, "Did you mean rejected"),
        ({"status": ["done"]}, "status must be one of .*got .'done'.; Known: acknowledged"),
        ({"status": "rejected"}, "reason must be text of 1 to 500 printable characters with status rejected; got None; say in"),
        ({"status": "rejected", "reason": "x" * 501}, "reason must be text of 1 to 500"),
        ({"status": "rejected", "reason": "\x1b[2J"}, "reason must be text of 1 to 500 printable"),
        ({"reason": "why not"}, 'reason goes with status rejected only; got "why not" with acknowledged; leave it out'),
        ({"eta": "2026-03-01T08:40:00Z"}, 'eta goes with status dispatched only; got "2026.*; leave it out'),
        (
            {"status": "dispatched", "eta": "2026-03-01T08:40:00"},
            "eta must be an RFC 3339 time with its offset.*; write it like",
        ),
        ({"status": "dispatched", "eta": "2100-01-01T00:00:00Z"}, "before 2100"),
        ({"status": "dispatched", "eta": "1970-01-01T00:00:00Z"}, "eta must be"),
        ({"status": "dispatched", "eta": 1_700_000_000_000}, "eta must be an RFC 3339 time"),
    ],
)
def test_a_response_that_breaks_a_rule_is_refused_with_what_was_found_and_what_to_do(
    more: dict[str, object], text: str
) -> None:
    with pytest.raises(DocumentRefused, match=text):
        ResponseDecoder(CITIES).decode(orjson.dumps(SEEN | more))


def test_who_answers_is_whose_topic_it_is_whatever_the_record_says() -> None:
    times: Timeline = timeline()
    reader = ControlReader(ControlSettings("alert.responses.bravo", "response", "bravo"), times)
    value = orjson.dumps(SEEN | {"operator": "alfa", "sender": 0})
    documents, _ = reader.read(Batch.of([value], np.zeros(1, np.int64), np.arange(1)))
    assert documents[0]["east"].sender == times.operators.index("bravo")
