"""The configuration: what it becomes, and what is said about it when it is wrong."""

from __future__ import annotations

import json
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from geo.params import BikeParams
from streams.errors import ConfigurationError
from streams.settings import Settings, load, loads

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "city.toml"

SMALL = """
[deployment]
clock = "replay"

[network]
operators = ["cobalt", "amber"]

[[network.feeds]]
topic = "pings.b"
operator = "cobalt"
partitions = 1

[[network.feeds]]
topic = "pings.a"
gateway = true
partitions = 2

[city]
name = "rivertown"
time_zone = "Europe/Berlin"
boundary = { south = 52, west = 9.9, north = 52.25, east = 10.2 }

[[city.rules]]
id = "crowded"
name = "Too many"
per_hectare = 2.50
"""


def problems(text: str, **options: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        loads(text, **options)
    return caught.value.problems


def changed(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new)


def test_the_example_is_a_whole_configuration() -> None:
    settings = load(EXAMPLE)
    assert settings.timeline.cities == ("rivertown",)
    assert settings.timeline.epochs[0].bike == BikeParams()
    assert len(settings.sources) == 16
    answers = [(f"alert.responses.{operator}", 0) for operator in ("amber", "cobalt", "jade")]
    assert settings.sources[-4:] == (*answers, ("policies", 0))


def test_every_key_that_the_example_shows_as_a_comment_is_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncommented, the example must still load: nothing in it is out of date."""
    monkeypatch.setenv("URBAN_BRAIN_SASL_PASSWORD", "hush")
    for name in ("ca.pem", "worker.pem", "worker.key"):
        (tmp_path / name).touch()
    lines = []
    for line in EXAMPLE.read_text().replace("/etc/kafka", str(tmp_path)).splitlines():
        bare = line.removeprefix("# ")
        key, sign, _ = bare.partition(" = ")
        commented = line.startswith("# ") and (bare.startswith("[[") or (sign and " " not in key))
        lines.append(bare if commented else line)
    settings = loads("\n".join(lines))
    assert len(settings.timeline.epochs) == 4
    assert settings.timeline.operators == ("amber", "cobalt", "jade", "ruby")


def test_files_may_hold_a_table_each(tmp_path: Path) -> None:
    network, city = SMALL.split("[city]")
    (tmp_path / "network.toml").write_text(network)
    (tmp_path / "city.toml").write_text("[city]" + city)
    both = load(tmp_path / "network.toml", tmp_path / "city.toml")
    assert both.timeline == loads(SMALL).timeline


def test_values_become_exact_integers_and_rationals() -> None:
    city = loads(SMALL).timeline.epochs[0].cities[0]
    assert city.rules[0].per_hectare == Fraction(5, 2)
    assert city.rules[0].per_hectare_text == "2.50"
    assert city.rules[0].policy_id == "rivertown"
    assert city.boundary == ((((520000000, 99000000), (520000000, 102000000), (522500000, 102000000), (522500000, 99000000)),),)


def test_sources_are_all_partitions_in_order_of_topic_and_number() -> None:
    settings = loads(SMALL)
    of_feeds = (("pings.a", 0), ("pings.a", 1), ("pings.b", 0))
    assert settings.sources == (*of_feeds, ("alert.responses.amber", 0), ("alert.responses.cobalt", 0), ("policies", 0))
    assert settings.feed_sources == 3
    assert [feed.topic for feed in settings.feeds] == ["pings.a", "pings.b"]
    assert [feed.operator for feed in settings.feeds] == [None, "cobalt"]


def controlled(words: str) -> Settings:
    return loads(SMALL.replace("[[network.feeds]]", f"[network.control]\n{words}\n[[network.feeds]]", 1))


def test_control_topics_are_sources_behind_those_of_feeds() -> None:
    """Wherever their names stand in the alphabet: the number of a feed's source is kept in rosters."""
    settings = loads(SMALL.replace('"pings.', '"z.pings.'))
    controls = ["alert.responses.amber", "alert.responses.cobalt", "policies"]
    assert [topic for topic, _ in settings.sources] == ["z.pings.a", "z.pings.a", "z.pings.b", *controls]
    assert [(c.kind, c.operator) for c in settings.controls] == [
        ("response", "amber"),
        ("response", "cobalt"),
        ("policy", None),
    ]
    assert [c.kind for c in controlled("policies = false").controls] == ["response", "response"]
    assert [c.kind for c in controlled("responses = false").controls] == ["policy"]
    assert controlled("policies = false\nresponses = false").controls == ()


def test_an_operator_of_a_later_version_has_its_topic_of_responses_from_the_start() -> None:
    version = '[[network.versions]]\neffective_from = "2030-01-01T00:00:00Z"\noperators = ["amber", "ruby"]\n[city]'
    settings = loads(changed("[city]", version))
    assert [c.operator for c in settings.controls] == ["amber", "cobalt", "ruby", None]
    assert settings.timeline.responses
    assert not controlled("responses = false").timeline.responses


def test_which_kinds_of_control_topics_there_are_is_part_of_the_hash_and_what_they_are_called_is_not() -> None:
    def digest(settings: Settings) -> str:
        return settings.timeline.epochs[0].hash

    assert len({digest(controlled(words)) for words in ("", "policies = false", "responses = false")}) == 3
    staged = loads(changed('clock = "replay"', 'clock = "replay"\ntopic_prefix = "test."'))
    assert [control.topic for control in staged.controls][1:] == ["test.alert.responses.cobalt", "test.policies"]
    assert digest(staged) == digest(loads(SMALL))


def test_who_the_providers_are_is_known_to_feeds_in_mds_and_decides_their_hash() -> None:
    feed = 'operator = "cobalt"\npartitions = 1'
    text = changed(feed, f'{feed}\nformat = "mds"')
    found = problems(text)
    assert found == [
        "configuration: network.feeds[1].format: is mds, whose pings name a provider id, and nobody says whose it is. "
        'Add cobalt to network.providers, like { cobalt = "2411d395-…" }.'
    ]
    operators = 'operators = ["cobalt", "amber"]'
    one = loads(text.replace(operators, f'{operators}\nproviders = {{ cobalt = "id-1", amber = "id-2" }}'))
    assert [feed.providers for feed in one.feeds] == [(), (("id-1", "cobalt"), ("id-2", "amber"))]
    other = loads(text.replace(operators, f'{operators}\nproviders = {{ cobalt = "id-3", amber = "id-2" }}'))
    assert one.timeline.epochs[0].hash != other.timeline.epochs[0].hash


def test_operators_are_sorted_and_watched_in_every_city() -> None:
    timeline = loads(SMALL).timeline
    assert timeline.operators == ("amber", "cobalt")
    assert timeline.epochs[0].cities[0].operators == ("amber", "cobalt")


def test_the_prefix_goes_before_output_topics_only() -> None:
    settings = loads(changed('clock = "replay"', 'clock = "replay"\ntopic_prefix = "test."'))
    names = settings.topics
    assert (names.facts, names.alerts_open, names.operator_topic("amber")) == (
        "test.city.facts",
        "test.alerts.open",
        "test.alerts.amber",
    )
    assert names.changelog("pings.a") == "test.urban-brain-pings.a-changelog"
    assert settings.feeds[0].topic == "pings.a"


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URBAN_BRAIN_BROKERS", "one:9092, two:9093")
    monkeypatch.setenv("URBAN_BRAIN_SESSION_TIMEOUT", "6s")
    monkeypatch.setenv("URBAN_BRAIN_SASL_MECHANISM", "SCRAM-SHA-256")
    monkeypatch.setenv("URBAN_BRAIN_SASL_USERNAME", "me")
    monkeypatch.setenv("URBAN_BRAIN_SASL_PASSWORD", "hush")
    deployment = loads(changed('clock = "replay"', 'brokers = ["file:1"]')).deployment
    assert deployment.brokers == ("one:9092", "two:9093")
    assert deployment.session_timeout == timedelta(seconds=6)
    assert deployment.security_protocol == "SASL_PLAINTEXT"
    assert deployment.librdkafka()["sasl.password"] == "hush"
    assert "hush" not in repr(deployment)


# Boundaries.

RING = [[9.9, 52.0], [10.2, 52.0], [10.2, 52.25], [9.9, 52.25], [9.9, 52.0]]


def boundary(value: str) -> str:
    return changed("{ south = 52, west = 9.9, north = 52.25, east = 10.2 }", value)


@pytest.mark.parametrize("wrap", ["geometry", "feature", "collection"])
def test_a_boundary_may_be_geojson_in_a_file_beside_the_toml(tmp_path: Path, wrap: str) -> None:
    geometry: dict[str, object] = {"type": "Polygon", "coordinates": [RING]}
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    value = {"geometry": geometry, "feature": feature, "collection": {"type": "FeatureCollection", "features": [feature]}}
    (tmp_path / "city.geojson").write_text(json.dumps(value[wrap]))
    (tmp_path / "all.toml").write_text(boundary('{ file = "city.geojson" }'))
    assert load(tmp_path / "all.toml").timeline == loads(SMALL).timeline


def test_geojson_has_longitude_first_and_repeats_its_first_position() -> None:
    text = boundary(f'{{ type = "Polygon", coordinates = [{RING}] }}')
    assert loads(text).timeline == loads(SMALL).timeline


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ('{ file = "none.geojson" }', "names a file that cannot be read (No such file or directory)"),
        ("{ south = 53, west = 9.9, north = 52.25, east = 10.2 }", "must have south < north and west < east"),
        ("{ south = 52, west = 9.9 }", "must be a box, a GeoJSON geometry or a file"),
        ('{ type = "Point", coordinates = [1, 2] }', 'must be a Polygon or MultiPolygon, not "Point"'),
        ('{ type = "Polygon", coordinates = [[[52.0, 190], [1, 1], [2, 1]]] }', "has the position lat 190, lng 52.0"),
        ('{ type = "Polygon", coordinates = [[[0, 0], [1, 1], [1, 0], [0, 1]]] }', "is not a valid area (Self-inter"),
        ('{ type = "Polygon", coordinates = [[[0, 0], [1, 1]]] }', "has a ring of fewer than three different points"),
        ('{ type = "Polygon", coordinates = 5 }', "is broken GeoJSON"),
        ('"berlin"', "must be a table"),
    ],
)
def test_a_boundary_that_is_none_is_refused(value: str, rule: str, tmp_path: Path) -> None:
    (text,) = problems(boundary(value), folder=tmp_path)
    assert text.startswith(f"configuration: city.boundary: {rule}")


# Problems.


def test_all_problems_are_told_at_once_each_with_rule_value_and_remedy() -> None:
    found = problems(
        """
[deployment]
brokrs = ["x:1"]
http_port = 99999
sasl_password = "hush"

[network]
tick = 5
operators = ["A b"]
feeds = []

[[city]]
name = "one"
time_zone = "Nowhere/City"
boundary = 1

[[city]]
name = "two"
time_zone = "UTC"
boundary = { south = 1, west = 1, north = 2, east = 2 }
[[city.rules]]
id = "a|b"
name = "x"
per_hectare = -1
for = 60
clear_ratio = 0.5

[citi]
"""
    )
    assert found == [
        "configuration: deployment.sasl_password: is a secret and must not stand in a file. Set URBAN_BRAIN_SASL_PASSWORD.",
        "configuration: deployment.http_port: should be less than or equal to 65535, got 99999. "
        "Port of /metrics, /ready and /live; 0: any free one.",
        "configuration: deployment.brokrs: is not a known key. Did you mean brokers? Known here: app_id, brokers, "
        "changelog_pattern, clock, http_host, http_port, instance_id, log_level, quarantine_cap, "
        "replication_factor, retention, sasl_mechanism, sasl_username, session_timeout, snapshot_interval, tls, tls_ca, "
        "tls_certificate, tls_key, topic_prefix.",
        "configuration: network.tick: must be a duration with a unit, got 5. "
        'Write it like "60s", "5m", "1h30m" or "250ms", in quotes.',
        "configuration: network.operators[1]: must be a name of 1 to 64 of a-z 0-9 . _ - that begins with a letter or "
        'digit, got "A b". It becomes part of topic names; rename it, for example to river-bikes.',
        "configuration: network.feeds: must not be empty. One [[network.feeds]] for each input topic.",
        'configuration: city[1].time_zone: must be a time zone of the IANA database, got "Nowhere/City". '
        "Write it like Asia/Shanghai or UTC.",
        "configuration: city[1].boundary: must be a table, got 1. Write { south = …, west = …, north = …, east = … } in "
        'degrees, a GeoJSON Polygon or MultiPolygon, or { file = "city.geojson" }.',
        "configuration: city[2].rules[1].for: must be a duration with a unit, got 60. "
        'Write it like "60s", "5m", "1h30m" or "250ms", in quotes.',
        "configuration: city[2].rules[1].id: must be an id of 1 to 64 of A-Z a-z 0-9 . _ - that begins with a letter or "
        'digit, got "a|b". It becomes part of the ids of alerts; rename it, for example to crowded-cell.',
        "configuration: city[2].rules[1].per_hectare: must be greater than zero, got -1. Write a positive number like 2.5.",
        "configuration: citi: is not a known table. Did you mean city? Known here: city, deployment, network, webhook.",
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("partitions = 1", "partitions = 1\ngateway = true", "must have either an operator or gateway = true"),
        ('operator = "cobalt"', 'operator = "colbat"', 'must be an allowed operator, got "colbat". Did you mean cobalt?'),
        ('topic = "pings.a"', 'topic = "pings.b"', 'must not have a topic twice, got "pings.b"'),
        ('topic = "pings.a"', 'topic = "pings_b"', 'has the topic name of the feed pings.b, got "pings_b"'),
        ('topic = "pings.a"', 'topic = "city.facts"', 'has the topic name of city.facts, got "city.facts"'),
        ('["cobalt", "amber"]', '["cobalt", "open"]', 'has the topic name of alerts.open, got "alerts.open"'),
        ('["cobalt", "amber"]', '["cobalt", "cobalt"]', "must not name one twice"),
        ('topic = "pings.a"', 'topic = "cell.density"', 'has the topic name of cell.density, got "cell.density"'),
        ('topic = "pings.a"', 'topic = "operator.report"', 'has the topic name of operator.report, got "operator.report"'),
        (
            'name = "rivertown"',
            'name = "rivertown"\ndensity_interval = "4s"',
            'city rivertown: density_interval: must not be shorter than network.tick, got 4000 ms. Write "5000ms" or more, or '
            '"0s" to tell nothing.',
        ),
        ('name = "rivertown"', 'name = "rivertown"\ndensity_interval = 60', "must be a duration with a unit, got 60"),
        ('name = "rivertown"', 'name = "elsewhere"', 'is reserved, got "elsewhere"'),
        (
            "[[city.rules]]",
            "[city.planning]\nmax_haul_m = 0\n[[city.rules]]",
            "planning.max_haul_m: should be greater than or equal",
        ),
        ("[[city.rules]]", "[city.planning]\ninterval = 60\n[[city.rules]]", "must be a duration with a unit, got 60"),
        ("[[city.rules]]", '[city.planning]\ninterval = "0s"\n[[city.rules]]', "must be longer than zero"),
        ("[[city.rules]]", "[city.planning]\nmax_haul = 1\n[[city.rules]]", "is not a known key. Did you mean max_haul_m?"),
        ("per_hectare = 2.50", "per_hectare = nan", "must be a finite number, got NaN"),
        ("per_hectare = 2.50", "per_hectare = 2\ntarget_ratio = 0.9", "must have target_ratio at most clear_ratio"),
        ("per_hectare = 2.50", "per_hectare = 2\nclear_ratio = 1.1", "must be greater than 0 and at most 1, got 1.1"),
        ("per_hectare = 2.50", 'per_hectare = 2\npolicy = "built-in"', 'must not use the policy "built-in"'),
        ('["cobalt", "amber"]', '["cobalt"]\nmax_speed_m_s = 0.0001', "must not be finer than 0.001, got 0.0001"),
        ('["cobalt", "amber"]', '["cobalt"]\nsilent_after = { amber = "1h" }', 'must be an allowed operator, got "amber"'),
        ('clock = "replay"', 'changelog_pattern = "x"', "must contain {topic} and may contain {prefix} and {app_id}"),
        ('clock = "replay"', 'tls_ca = "/nowhere/ca.pem"\ntls = true', "names a file that cannot be read"),
        ('clock = "replay"', 'sasl_mechanism = "PLAIN"', "needs sasl_username and sasl_password"),
        ('clock = "replay"', 'retention = "0s"', "must be longer than zero"),
    ],
)
def test_a_value_that_breaks_a_rule_is_told(old: str, new: str, told: str) -> None:
    assert any(told in text for text in problems(changed(old, new)))


def test_a_configuration_of_nothing_names_what_is_missing() -> None:
    found = problems("")
    assert [text.split(": ")[0] for text in found] == ["network", "city"]
    assert all("examples/city.toml" in text for text in found)


def test_a_file_that_is_no_toml_or_is_not_there_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[network")
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "bad.toml", tmp_path / "none.toml")
    assert f"{tmp_path / 'bad.toml'}: is not TOML" in caught.value.problems[0]
    assert f"{tmp_path / 'none.toml'}: cannot be read" in caught.value.problems[1]


def test_a_table_in_two_files_is_told(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text(SMALL.replace("rivertown", name[0]))
    with pytest.raises(ConfigurationError, match=r"b\.toml: network: is in .*a\.toml too"):
        load(tmp_path / "a.toml", tmp_path / "b.toml")


def test_a_variable_that_looks_like_a_setting_is_told_and_others_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URBAN_BRAIN_BROKER", "x:1")
    monkeypatch.setenv("URBAN_BRAIN_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("URBAN_BRAIN_PORT_6066_TCP", "tcp://10.0.0.1:6066")
    assert problems(SMALL) == ["environment: URBAN_BRAIN_BROKER: is not a known setting. Did you mean URBAN_BRAIN_BROKERS?"]


def test_a_wrong_value_from_the_environment_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URBAN_BRAIN_CLOCK", "solar")
    (text,) = problems(SMALL)
    assert text.startswith("environment: URBAN_BRAIN_CLOCK: should be 'live' or 'replay', got \"solar\"")
