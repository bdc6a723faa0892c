"""urban-brain respond: what it writes, what it refuses, and what a backtest makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from geo.alert import rfc3339
from streams.control import ResponseDecoder
from streams.control_log import read_topic
from streams.embedded import EmbeddedBroker
from streams.settings import Settings, loads
from tests.agents.conftest import CONFIGURATION, Run

EPISODE = "0b7f4e0c-6c1e-5f0a-9d55-3a1f2f4c8a10"
HURRY = 'for = "10s"\nrespond_within = "60s"'


@pytest.fixture
def broker(config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    config.write_text(CONFIGURATION.replace('for = "10s"', HURRY))
    settings = loads(config.read_text())
    with EmbeddedBroker.of(settings) as embedded:
        monkeypatch.setenv("URBAN_BRAIN_BROKERS", embedded.bootstrap)
        yield loads(config.read_text())


def test_an_answer_is_written_to_the_topic_of_its_operator_as_a_worker_reads_it(
    run: Run, config: Path, broker: Settings
) -> None:
    say = ["respond", EPISODE, "--operator", "amber", "--config", config]
    at = ["--at", "2026-03-01T00:00:00Z"]
    code, out, _ = run(*say, "--status", "dispatched", "--eta", "2026-03-01T08:40:00+08:00", *at)
    assert (code, out) == (0, f"{EPISODE}: amber has answered dispatched; the alert's next event says so.\n")
    code, out, _ = run(*say, "--status", "rejected", "--reason", "Keine Zeit", "--for", "rivertown", "--json")
    assert (code, orjson.loads(out)) == (0, {"episode_id": EPISODE, "operator": "amber", "status": "rejected"})
    first, second = read_topic(broker, "alert.responses.amber")
    assert (first.key, rfc3339(first.time_ms)) == (EPISODE.encode(), "2026-03-01T00:00:00.000Z")
    assert second.time_ms == first.time_ms, "the newest time of the topic"
    for record in (first, second):
        assert record.value is not None
        assert ResponseDecoder(["rivertown"]).decode(record.value).keys() == {"rivertown"}
    assert read_topic(broker, "alert.responses.cobalt") == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--status", "done", "--operator", "ambre"], "--operator ambre is not an allowed operator. Did you mean amber?"),
        (["--status", "fine", "--operator", "amber"], "'fine' is not one of"),
        (["--status", "rejected", "--operator", "amber"], "reason must be text of 1 to 500 printable characters"),
        (["--status", "done", "--operator", "amber", "--eta", "2026-03-01T08:40:00Z"], "eta goes with status dispatched only"),
        (["--status", "done", "--operator", "amber", "--for", "x"], "--for x is not a configured city."),
        (["--operator", "amber"], "EPISODE_ID --status STATUS"),
        (["--log", "--operator", "amber"], "--log shows what was answered"),
    ],
)
def test_what_a_worker_would_refuse_is_not_written(run: Run, config: Path, arguments: list[str], text: str) -> None:
    """There is no broker here: it is not even asked."""
    code, _, err = run("respond", EPISODE, *arguments, "--config", config)
    assert code == 2
    assert text in err


def test_without_topics_of_responses_nobody_can_answer(run: Run, config: Path) -> None:
    config.write_text(CONFIGURATION.replace("[[network", "control = { responses = false }\n[[network", 1))
    code, _, err = run("respond", EPISODE, "--operator", "amber", "--status", "done", "--config", config)
    assert code == 2
    assert "network.control.responses: is false" in err
    code, _, err = run("backtest", config, "--control", "responses.amber=/nowhere", "--out", "-", "--config", config)
    assert code == 2
    assert "network.control.responses is false" in err


def test_under_the_live_clock_the_broker_says_what_time_it_is(run: Run, config: Path) -> None:
    config.write_text(CONFIGURATION.replace('"replay"', '"live"'))
    code, _, err = run("respond", EPISODE, "--operator", "amber", "--status", "done", "--at", "0", "--config", config)
    assert code == 2
    assert "--at is for replays" in err or "Invalid value" in err


def test_a_backtest_takes_what_was_answered(run: Run, config: Path, broker: Settings, tmp_path: Path) -> None:
    pings, out = tmp_path / "pings.ndjson", tmp_path / "alerts.ndjson"
    assert run("simulate", "--seconds", 900, "--bikes", 300, "--seed", 3, "--out", pings, "--config", config)[0] == 0

    def alerts(*more: object) -> list[dict[str, object]]:
        assert run("backtest", pings, "--out", out, "--config", config, *more)[0] == 0
        return [orjson.loads(line) for line in out.read_bytes().splitlines()]

    before = alerts()
    raised = next(b for b in before if b["state"] == "raised" and b["operator"] == "amber" and b["kind"] == "overcrowded")
    episode = raised["episode_id"]
    assert any(b["state"] == "escalated" for b in before if b["episode_id"] == episode), "nobody answers"
    told = ["respond", episode, "--operator", "amber", "--config", config]
    assert run(*told, "--status", "acknowledged", "--at", raised["observed_at"])[0] == 0
    code, lines, _ = run("respond", "--log", "--operator", "amber", "--config", config)
    assert code == 0
    (tmp_path / "amber.ndjson").write_text(lines)
    after = alerts("--control", f"responses.amber={tmp_path / 'amber.ndjson'}")
    own = [b for b in after if b["episode_id"] == episode]
    assert [b["state"] for b in own][:2] == ["raised", "updated"]
    assert own[1]["response"] == {"status": "acknowledged", "at": own[1]["response"]["at"], "eta": None, "reason": None}  # type: ignore[index]
    assert not any(b["state"] == "escalated" for b in own)
    others = [[b for b in bodies if b["episode_id"] != episode] for bodies in (before, after)]
    assert others[0] == others[1]
    for given, text in (("responses=x", "write policies=FILE or responses.OPERATOR=FILE"), ("responses.ruby=x", "ruby is not")):
        code, _, err = run("backtest", pings, "--out", "-", "--config", config, "--control", given)
        assert code == 2
        assert text in err
