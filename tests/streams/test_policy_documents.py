"""Policies as they stand on their topic: what files say comes out the same, and what is broken is refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from geo.policy import Policy
from streams.errors import ConfigurationError
from streams.policy_documents import drafts, read_policy, withdrawal
from streams.settings import load
from tests.streams.test_settings import SMALL

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
GEOGRAPHY = {
    "geography_id": "square",
    "name": "Square",
    "geography_json": {
        "type": "Polygon",
        "coordinates": [[[10.0, 52.1], [10.0000001, 52.1], [10.01, 52.1], [10.01, 52.11], [10.0, 52.1]]],
    },
    "urban_brain": {"capacity": 4},
}
RULE: dict[str, Any] = {"rule_id": "r", "name": "R", "rule_type": "count", "maximum": 3}


def document(**policy: Any) -> bytes:
    told = {"policy_id": "p", "name": "P", "rules": [RULE]} | policy
    return orjson.dumps({"schema": "urban-brain/policy/1", "policy": told, "geographies": [GEOGRAPHY]})


def configured(tmp_path: Path, words: str = "") -> Path:
    path = tmp_path / "all.toml"
    providers = 'providers = { amber = "2411d395-04f2-47c9-ab66-d09e9e3c3251" }\n'
    path.write_text(SMALL.replace("[[network.feeds]]", f"{providers}[[network.feeds]]", 1) + words)
    return path


def test_what_files_say_is_what_their_documents_say_to_the_digit(tmp_path: Path) -> None:
    """Also what is counted per hectare, as it is printed."""
    density = tmp_path / "density.json"
    words = '"urban_brain": {"per_hectare": 2.50, "clear_ratio": 0.70}'
    rule = '{"rule_id": "r", "name": "R", "rule_type": "count", "geographies": ["somewhere"], ' + words + "}"
    zone = '{"geography_id": "somewhere", "name": "Somewhere", "geography_json": {"type": "Polygon", "coordinates": '
    zone += "[[[10.00000010, 52.1], [10.01, 52.1], [10.01, 52.11], [10.0000001, 52.1]]]}}"
    text = '{"policies": [{"policy_id": "density", "name": "D", "rules": [RULE]}], "geographies": [{"geography": ZONE}]}'
    density.write_text(text.replace("RULE", rule).replace("ZONE", zone))
    files = [FIXTURES / "policies.json", FIXTURES / "geographies.json", density]
    settings = load(configured(tmp_path), trial=files)
    [city] = settings.timeline.epochs[-1].cities
    zones = {zone.geography_id: zone for zone in city.geographies}
    found = {draft.policy_id: read_policy(draft.value).policy for draft in drafts(settings.library, "rivertown")}
    assert len(found) == 3
    for policy in city.policies:
        named = sorted({name for rule in policy.rules for name in rule.geographies})
        own = found[policy.policy_id]
        assert own is not None
        dates = {"from_ms": None, "until_ms": None}  # of policies on trial
        assert replace(own, **dates) == replace(policy, zones=tuple(zones[name] for name in named), **dates)
    density_rule = found["density"].rules[0]  # type: ignore[union-attr]
    assert density_rule.per_hectare_text == "2.50"


def test_a_withdrawal_says_only_what_is_withdrawn() -> None:
    reading = read_policy(withdrawal("p", None).value)
    assert (reading.policy_id, reading.policy, reading.problems) == ("p", None, ())


def test_a_document_holds_the_geographies_that_its_rules_name_and_knows_no_others() -> None:
    rule = RULE | {"geographies": ["square"], "urban_brain": {"capacity": "1.5"}, "maximum": None}
    policy = read_policy(document(rules=[rule])).policy
    assert isinstance(policy, Policy)
    assert [zone.capacity for zone in policy.zones or ()] == [4]
    problems = read_policy(document(rules=[RULE | {"geographies": ["sqare"]}])).problems
    assert problems == (
        "document: policies[1].rules[1].geographies: must be a geography of the city, "
        'got "sqare". Did you mean square? Known here: square.',
    )


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ({"rules": [RULE | {"rule_type": "speed"}]}, 'rule_type: must be "count"'),
        ({"rules": [RULE | {"maximum": -1}]}, "maximum: should be greater than or equal to 0"),
        ({"rules": [RULE | {"urban_brain": {"fro": "5s"}}]}, "fro: is not a known key"),
        ({"start_date": 5, "end_date": 5}, "must have an end_date after its start_date"),
        ({"name": None}, "name: must be 1 to 200 printable characters"),
    ],
)
def test_a_broken_document_is_refused_by_the_rules_of_files(policy: dict[str, Any], text: str) -> None:
    reading = read_policy(document(**policy))
    assert reading.policy is None and reading.policy_id == "p"
    with pytest.raises(AssertionError, match=text):
        assert reading.problems == ()


@pytest.mark.parametrize("geographies", [{"a": 1}, [GEOGRAPHY, GEOGRAPHY], [5], "x"])
def test_broken_geographies_are_refused(geographies: Any) -> None:
    body = orjson.loads(document()) | {"geographies": geographies}
    assert read_policy(orjson.dumps(body)).problems


def test_different_geographies_of_one_name_in_two_cities_are_asked_about(tmp_path: Path) -> None:
    other = orjson.loads(orjson.dumps(GEOGRAPHY))
    other["geography_json"]["coordinates"][0][2][0] = 10.02
    for name, zone in (("one", GEOGRAPHY), ("two", other)):
        (tmp_path / f"{name}.json").write_bytes(orjson.dumps({"geographies": [zone]}))
    rules = [RULE | {"geographies": ["square"]}]
    (tmp_path / "policy.json").write_bytes(orjson.dumps({"policies": [{"policy_id": "p", "name": "P", "rules": rules}]}))
    second = (
        '[[city]]\nname = "hilltown"\ntime_zone = "UTC"\nboundary = { south = 53, west = 9.9, north = 53.25, east = 10.2 }\n'
    )
    text = configured(tmp_path).read_text().replace("[city]", "[[city]]").replace("[[city.rules]]", "[[city.rules]]")
    text = text.replace('name = "rivertown"', 'name = "rivertown"\ngeographies = ["one.json"]', 1)
    path = tmp_path / "both.toml"
    path.write_text(text + "\n" + second + 'geographies = ["two.json"]\n')
    with pytest.raises(ConfigurationError, match="square: are different geographies in different cities"):
        list(drafts(load(path, trial=[tmp_path / "policy.json"]).library, None))
