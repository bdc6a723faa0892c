"""Control topics at the edge: what is a document for whom, what is none, and that one bad record stops nothing."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from geo.params import Timeline
from streams.batches import Batch
from streams.control import DocumentRefused, PolicyDecoder
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
