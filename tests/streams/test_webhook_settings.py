"""The settings of the webhook bridge: with or without a whole configuration, all problems at once, no secret in a file."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from streams.errors import ConfigurationError
from streams.settings import BridgeSettings, load, load_bridge
from streams.settings.webhook import secret_bytes

ROOT = Path(__file__).parents[2]
SECRET = "a secret of twenty-four b"
TABLE = '[webhook]\nurl = "https://example.com/alerts"\ndead_letter_file = "dead.ndjson"\n'


@pytest.fixture(autouse=True)
def _the_secret_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URBAN_BRAIN_WEBHOOK_SECRET", SECRET)


def bridge(tmp_path: Path, text: str) -> BridgeSettings:
    (tmp_path / "bridge.toml").write_text(text)
    return load_bridge(tmp_path / "bridge.toml")


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        bridge(tmp_path, text)
    return [problem.removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def test_a_bridge_needs_no_network_and_no_city(tmp_path: Path) -> None:
    settings = bridge(tmp_path, '[deployment]\ntopic_prefix = "x."\n' + TABLE + 'operator = "amber"\n')
    assert (settings.topic, settings.group, settings.webhook.key()) == (
        "x.alerts.amber",
        "urban-brain-webhook",
        SECRET.encode(),
    )
    assert settings.webhook.longest_retry == timedelta(minutes=5)


@pytest.mark.parametrize(
    ("keys", "topic"),
    [("", "alerts"), ('operator = "jade"', "alerts.jade"), ('topic = "alerts.dead"\ngroup = "again"', "alerts.dead")],
)
def test_which_topic_is_read(tmp_path: Path, keys: str, topic: str) -> None:
    assert bridge(tmp_path, TABLE + keys).topic == topic


def test_a_worker_takes_a_configuration_that_has_a_bridge_too(tmp_path: Path) -> None:
    (tmp_path / "bridge.toml").write_text(TABLE)
    both = (ROOT / "examples" / "city.toml", tmp_path / "bridge.toml")
    assert load(*both).timeline == load(both[0]).timeline
    assert load_bridge(*both).topic == "alerts"


def test_the_environment_wins_and_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("URBAN_BRAIN_WEBHOOK_URL", "http://other/")
    monkeypatch.setenv("URBAN_BRAIN_WEBHOOK_ATTEMPTS", "3")
    assert bridge(tmp_path, TABLE).webhook.url == "http://other/"
    monkeypatch.setenv("URBAN_BRAIN_WEBHOOK_DEAD_LETTER_TOPIC", "dead")
    settings = bridge(tmp_path, "")
    assert (settings.webhook.attempts, settings.webhook.dead_letter_topic) == (3, "dead")


def test_all_problems_are_told_at_once_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URBAN_BRAIN_WEBHOOK_PARALLEL", "0")
    text = '[webhook]\nurl = "https://me:pw@example.com/"\nsecret = "hush"\ntimout = "1s"\nfirst_retry = 5\noperator = "A b"\n'
    assert problems(tmp_path, text) == [
        "bridge.toml: webhook.secret: is a secret and must not stand in a file. Set URBAN_BRAIN_WEBHOOK_SECRET.",
        "bridge.toml: webhook.url: must be an http or https address without name and password. "
        "Write it like https://dispatch.example.com/alerts; requests are signed, no password is needed.",
        'bridge.toml: webhook.operator: must be a name of 1 to 64 of a-z 0-9 . _ - that begins with a letter or digit, got "A b". '
        "It becomes part of topic names; rename it, for example to river-bikes.",
        'bridge.toml: webhook.first_retry: must be a duration with a unit, got 5. Write it like "60s", "5m", "1h30m" or "250ms", in quotes.',
        'environment: URBAN_BRAIN_WEBHOOK_PARALLEL: should be greater than or equal to 1, got "0". '
        "Requests at the same time, at most.",
        "bridge.toml: webhook.timout: is not a known key. Did you mean timeout? "
        "Known here: attempts, dead_letter_file, dead_letter_topic, first_retry, group, longest_retry, operator, parallel, timeout, "
        "topic, url, window.",
    ]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ('dead_letter_topic = "x"', "must have either dead_letter_topic or dead_letter_file"),
        ('operator = "a"\ntopic = "b"', "must not have both operator and topic"),
        ('first_retry = "2m"\nlongest_retry = "1m"', "must not be shorter than first_retry"),
        ('topic = "a/b"', "must be the name of a topic"),
    ],
)
def test_keys_that_do_not_go_together(tmp_path: Path, keys: str, told: str) -> None:
    (problem,) = problems(tmp_path, TABLE + keys)
    assert told in problem


@pytest.mark.parametrize(
    "url",
    [
        "example.com/alerts",
        "ftp://example.com",
        "https://",
        "https://x y",
        "https://exa\u0301mple.com",
        "http://[::1",
        "http://a:0/",
    ],
)
def test_an_address_that_is_none(tmp_path: Path, url: str) -> None:
    (problem,) = problems(tmp_path, TABLE.replace("https://example.com/alerts", url))
    assert "must be an http or https address" in problem


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        (None, "is missing"),
        ("short", "must be at least 24 bytes long, got 5"),
        ("whsec_%%%", "is not base64"),
        ("whsec_aGk=", "got 2"),
    ],
)
def test_a_secret_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str | None, told: str) -> None:
    monkeypatch.delenv("URBAN_BRAIN_WEBHOOK_SECRET")
    if secret is not None:
        monkeypatch.setenv("URBAN_BRAIN_WEBHOOK_SECRET", secret)
    (problem,) = problems(tmp_path, TABLE)
    assert problem.startswith("environment: URBAN_BRAIN_WEBHOOK_SECRET: ")
    assert told in problem
    assert secret is None or secret not in problem


def test_a_variable_that_looks_like_a_setting_of_the_bridge_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URBAN_BRAIN_WEBHOOK_ATEMPTS", "3")
    (problem,) = problems(tmp_path, TABLE)
    assert "Did you mean URBAN_BRAIN_WEBHOOK_ATTEMPTS?" in problem


def test_a_secret_is_text_or_base64() -> None:
    assert secret_bytes("plain text") == b"plain text"
    assert secret_bytes("whsec_aGVsbG8=") == b"hello"


def test_the_secret_is_in_no_text_of_the_settings(tmp_path: Path) -> None:
    assert SECRET not in repr(bridge(tmp_path, TABLE))
