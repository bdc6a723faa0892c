"""Policies in the configuration: MDS documents as they are, our words in them, and everything that is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from geo.policy import Policy
from geo.windows import Window
from streams.errors import ConfigurationError
from streams.settings import Settings, load, loads

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
STATION, MORNING = "3f2c7a0e-5d0b-4c57-9a41-6a8a0c1f7d10", "3f2c7a0e-5d0b-4c57-9a41-6a8a0c1f7d20"
MARKED, GATES = "8c1d4b7a-2f63-4a0e-9b5d-7e2f1a3c4d01", "8c1d4b7a-2f63-4a0e-9b5d-7e2f1a3c4d02"
Document = dict[str, Any]
Change = Callable[[Document, Document], None]

TOML = """
[network]
operators = ["amber", "cobalt"]
providers = { amber = "2411d395-04f2-47c9-ab66-d09e9e3c3251" }
[[network.feeds]]
topic = "pings"
gateway = true
partitions = 1
[city]
name = "rivertown"
time_zone = "Asia/Shanghai"
boundary = { south = 39, west = 116, north = 40, east = 117 }
policies = ["policies.json"]
geographies = ["geographies.json"]
"""


def rules() -> tuple[Document, Document]:
    """The fixtures as they are: policies and geographies."""
    policies, geographies = (json.loads((FIXTURES / f"{name}.json").read_text()) for name in ("policies", "geographies"))
    return policies, geographies


def configured(folder: Path, change: Change = lambda policies, geographies: None, text: str = TOML) -> Settings:
    """The configuration with fixtures that were changed."""
    policies, geographies = rules()
    change(policies, geographies)
    (folder / "policies.json").write_text(json.dumps(policies))
    (folder / "geographies.json").write_text(json.dumps(geographies))
    return loads(text, folder=folder)


def refused(folder: Path, change: Change, text: str = TOML) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        configured(folder, change, text)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def policies_of(settings: Settings) -> tuple[Policy, ...]:
    return settings.timeline.epochs[-1].cities[0].policies


def test_documents_in_the_form_of_mds_are_read_as_they_are(tmp_path: Path) -> None:
    station, morning = policies_of(configured(tmp_path))
    gates, marked = station.rules
    assert (station.policy_id, station.from_ms, station.until_ms) == (STATION, 1_767_225_600_000, None)
    assert (gates.area, gates.geographies, gates.maximum) == ("zone", (GATES,), 0)
    assert (gates.states, gates.vehicles) == ((1, 2, 3), (1,))
    assert gates.window == Window((0, 1, 2, 3, 4), 7 * 3600, 34_200)
    assert (marked.area, marked.capacity, marked.all_operators, marked.for_ms) == ("each_zone", Fraction(6, 5), True, 120_000)
    assert marked.states == () and marked.window is None
    assert morning.operators == ("amber",), "by its provider id"
    assert (morning.rules[0].minimum, morning.rules[0].maximum) == (20, 300)
    assert morning.rules[0].shadow and morning.rules[0].prepare_ms == 7_200_000


def test_geographies_have_latitude_first_inside_and_only_those_named_are_kept(tmp_path: Path) -> None:
    city = configured(tmp_path).timeline.epochs[0].cities[0]
    assert [geography.name for geography in city.geographies] == [
        "Station, marked places",
        "Station, gates",
        "Station district",
    ]
    assert city.geographies[0].polygons[1][0][0] == (399_020_000, 1_164_210_000)
    assert [geography.capacity for geography in city.geographies] == [40, 5, None]
    assert len(city.geographies[2].polygons[0]) == 2, "with its hole"


def test_local_time_comes_with_every_city_for_its_days_end_by_it(tmp_path: Path) -> None:
    alone = TOML.replace("[[network.feeds]]", "control = { policies = false }\n[[network.feeds]]", 1)

    def always(policies: Document, geographies: Document) -> None:
        for policy in policies["policies"]:
            for rule in policy["rules"]:
                rule |= {"days": None, "start_time": "00:00:00", "end_time": "23:59:59"}
                rule.get("urban_brain", {}).pop("prepare", None)

    for found in (configured(tmp_path, text=alone), configured(tmp_path, always, alone), configured(tmp_path, always)):
        assert found.timeline.epochs[0].cities[0].offsets == ((946_684_800_000, 28_800_000),)


def test_an_exclusive_bound_is_one_less_or_one_more(tmp_path: Path) -> None:
    def exclusive(policies: Document, geographies: Document) -> None:
        policies["policies"][1]["rules"][0] |= {"inclusive_maximum": False, "inclusive_minimum": False}

    rule = policies_of(configured(tmp_path, exclusive))[1].rules[0]
    assert (rule.minimum, rule.maximum) == (21, 299)


def test_what_is_in_the_files_is_part_of_the_hash(tmp_path: Path) -> None:
    def moved(policies: Document, geographies: Document) -> None:
        geographies["geographies"][2]["geography_json"]["coordinates"][0][0][1][0] = 116.45

    def renamed(policies: Document, geographies: Document) -> None:
        policies["policies"][0]["rules"][0]["name"] = "Otherwise"

    def described(policies: Document, geographies: Document) -> None:
        policies["policies"][0]["description"] = "Otherwise"

    hashes = [configured(tmp_path, *change).timeline.epochs[0].hash for change in ((), (moved,), (renamed,), (described,))]
    assert len({*hashes}) == 3 and hashes[0] == hashes[3], "what decides nothing is no part of it"


def test_a_version_replaces_the_lists_of_files(tmp_path: Path) -> None:
    version = "[[city.versions]]\neffective_from = 2026-06-01T00:00:00Z\npolicies = []\n"
    first, second = configured(tmp_path, text=TOML + version).timeline.epochs
    assert len(first.cities[0].policies) == 2
    assert second.cities[0].policies == () and second.cities[0].geographies == ()


def test_a_policy_that_another_replaces_ends_when_that_begins(tmp_path: Path) -> None:
    def replaced(policies: Document, geographies: Document) -> None:
        policies["policies"][1] |= {"prev_policies": [STATION], "start_date": 1_800_000_000_000}

    station, morning = policies_of(configured(tmp_path, replaced))
    assert (station.until_ms, morning.from_ms) == (1_800_000_000_000, 1_800_000_000_000)


def test_everything_wrong_is_told_at_once_with_place_rule_value_and_remedy(tmp_path: Path) -> None:
    def wrong(policies: Document, geographies: Document) -> None:
        gates, marked = policies["policies"][0]["rules"]
        gates |= {"maximum": -1, "start_time": "7:00"}
        marked["urban_brain"] |= {"cooldwn": "10m", "for": 120}
        policies["policies"][1] |= {"provider_ids": ["ambr"], "prev_policies": ["unknown"]}
        policies["policies"][1]["rules"][0]["geographies"] = ["nowhere"]
        geographies["geographies"][0]["urban_brain"] = {"capacity": "many"}

    assert [problem.split(". ")[0] for problem in refused(tmp_path, wrong)] == [
        "policies.json: policies[1].rules[1].maximum: should be greater than or equal to 0, got -1",
        'policies.json: policies[1].rules[1].start_time: must be a time of the day hh:mm:ss, got "7:00"',
        "policies.json: policies[1].rules[2].urban_brain.for: must be a duration with a unit, got 120",
        "policies.json: policies[1].rules[2].urban_brain.cooldwn: is not a known key",
        'geographies.json: geographies[1].urban_brain.capacity: should be a valid integer, got "many"',
        'policies.json: policies[2].provider_ids: must be an operator or its provider id, got "ambr"',
        'policies.json: policies[2].rules[1].geographies: must be a geography of the city, got "nowhere"',
        'policies.json: policies[2].prev_policies: must name other policies of the city rivertown, got "unknown"',
    ]


def rule(**terms: Any) -> Change:
    """Changes the second policy's only rule; `urban_brain` is added to."""

    def change(policies: Document, geographies: Document) -> None:
        one = policies["policies"][1]["rules"][0]
        words = one["urban_brain"] | terms.pop("urban_brain", {})
        one |= terms | {"urban_brain": words}

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rule(rule_type="time"), 'must be "count": any other needs the trips of each vehicle, got "time"'),
        (rule(rule_type="speed"), 'must be "count": any other needs the trips of each vehicle, got "speed"'),
        (rule(rule_type="user"), 'must be "count": any other cannot be counted, got "user"'),
        (rule(states={"available": ["trip_end"]}), "must have no events for available: a count does not know which event"),
        (rule(states={"parked": []}), 'must name MDS vehicle states, not "parked"'),
        (rule(vehicle_types=["bike"]), 'must name MDS vehicle types, not "bike"'),
        (rule(propulsion_types=["human"]), "propulsion is not evaluated: pings do not tell it"),
        (rule(accessibility_options=["wheelchair_accessible"]), "accessibility is not evaluated: pings do not tell it"),
        (rule(rule_units="minutes"), "rule_units: should be 'devices'"),
        (rule(days=["monday"]), "must be a list of days"),
        (rule(end_time="24:00:00"), "must be a time of the day hh:mm:ss"),
        (rule(urban_brain={"per_hectare": 2.5}), "must state its maximum once"),
        (rule(maximum=0, minimum=None, inclusive_maximum=False), "must not have an exclusive maximum of 0: fewer than none"),
        (rule(minimum=301), "must have a minimum of at most the maximum"),
        (rule(urban_brain={"area": "cell"}), "must not have a minimum for cells"),
        (rule(urban_brain={"scope": "all_operators"}), "must not have a minimum for all operators together"),
        (
            rule(maximum=None, minimum=None, urban_brain={"capacity": 1, "area": "cell"}),
            "must not have a capacity without zones",
        ),
        (rule(maximum=None, minimum=None, urban_brain={"capacity": 1}), "must be a geography with a capacity"),
        (rule(geographies=["8c1d4b7a-2f63-4a0e-9b5d-7e2f1a3c4d04"]), "must be a geography with an area"),
        (rule(geographies=[GATES, GATES]), "must not name one twice"),
        (rule(urban_brain={"target_ratio": 0.9}), "must have target_ratio at most clear_ratio"),
        (rule(urban_brain={"prepare": "25h"}), "should be less than or equal to 86400000"),
        (rule(start_time=None, end_time=None), "must have a window to prepare for"),
        (rule(urban_brain={"mode": "off"}), "mode: should be 'active' or 'shadow'"),
        (rule(urban_brain={"merge": True}), "must not merge areas that are no cells, got area zone"),
        (rule(maximum=None, minimum=None, urban_brain={"merge": True, "area": "cell"}), "must have a maximum to merge"),
        (
            rule(minimum=None, urban_brain={"merge": True, "area": "cell", "scope": "all_operators"}),
            "must not merge under scope all_operators: an incident is one operator's",
        ),
        (rule(minimum=None, urban_brain={"merge": "yes", "area": "cell"}), "merge: should be a valid boolean"),
        (rule(urban_brain={"share_of_fleet": 1.5}), "must be greater than 0 and at most 1"),
        (lambda p, g: p["policies"][0].update(mode_id="passenger_services"), 'must be "micromobility"'),
        (lambda p, g: p["policies"][0].update(policy_id="built-in"), 'must not have the policy_id "built-in"'),
        (lambda p, g: p["policies"][0].update(end_date=5), "must have an end_date after its start_date"),
        (lambda p, g: p["policies"][0].update(policy_id=MORNING), "must be one of its own in the city"),
        (lambda p, g: p["policies"][0]["rules"][1].update(rule_id=p["policies"][0]["rules"][0]["rule_id"]), "a rule_id twice"),
        (lambda p, g: g["geographies"][0].update(geography_id=GATES), "must be one of its own in the city"),
        (lambda p, g: g["geographies"][2].update(geography_json={"x": 1}), "must be GeoJSON"),
        (lambda p, g: p.pop("policies"), "holds neither policies nor geographies"),
    ],
)
def test_what_cannot_be_meant_or_is_not_evaluated_is_refused(tmp_path: Path, change: Change, says: str) -> None:
    told = refused(tmp_path, change)
    assert any(says in problem for problem in told), told
    assert all(problem.endswith((".", "…")) for problem in told), "each with a remedy"


def test_a_file_that_is_not_there_or_is_not_json_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigurationError) as caught:
        loads(TOML.replace('"policies.json"', '"gone.json", "broken.json"'), folder=tmp_path)
    told = "\n".join(caught.value.problems)
    assert "gone.json: cannot be read (No such file or directory)" in told and "broken.json: is not JSON" in told


def test_a_provider_must_be_of_an_allowed_operator(tmp_path: Path) -> None:
    told = refused(tmp_path, lambda p, g: None, TOML.replace("{ amber =", "{ ambr ="))
    assert 'configuration: network.providers: must be an allowed operator, got "ambr"' in told[0]


def test_a_policy_on_trial_is_in_force_from_the_start_in_place_of_its_namesake(tmp_path: Path) -> None:
    configured(tmp_path)
    (tmp_path / "city.toml").write_text(TOML)
    policies, _ = rules()
    tried = policies["policies"][0] | {"start_date": 4_000_000_000_000, "prev_policies": [MORNING]}
    tried["rules"] = tried["rules"][:1]
    (tmp_path / "tried.json").write_text(json.dumps({"policies": [tried]}))
    (policy,) = policies_of(load(tmp_path / "city.toml", trial=[tmp_path / "tried.json"]))
    assert (policy.policy_id, policy.from_ms, len(policy.rules)) == (STATION, None, 1)
