"""Operators answer while workers run and die; the backtest with what was written says the same, to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.simulation.city import TICK_MS, pings
from tests.system.conftest import MakeSystem
from tests.system.harness import assert_same
from tests.system.test_policies import NETWORK, parts

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

RULES = """
[[city.rules]]
id = "crowded"
name = "Crowded"
per_hectare = "0.4"
for = "5s"
keep_firing_for = "60s"
update_interval = "10s"
respond_within = "60s"
resolve_within = "150s"
"""
ETA = "2026-01-01T10:00:00+02:00"


@pytest.mark.timeout(240)
def test_what_operators_answer_joins_their_alerts_whoever_dies_meanwhile(deploy: MakeSystem, tmp_path: Path) -> None:
    """A replay in parts; between them operators answer, also what is not theirs, and the worker is killed before it has heard of it."""
    system = deploy(operators=("alpha", "beta"), network=NETWORK, rules=RULES)
    logs = parts(tmp_path, [record for record in pings(1, 5000) if record.value != b"junk"], 4)
    worker = system.worker()
    system.wait_ready(worker)

    def told(operator: str) -> list[dict[str, Any]]:
        return [orjson.loads(body) for body in system.events(system.settings.topics.operator_topic(operator))["rivertown"]]

    def still_open(operator: str) -> list[str]:
        newest = {body["episode_id"]: body for body in told(operator) if body["kind"] == "overcrowded"}
        return [episode for episode, body in newest.items() if body["state"] != "cleared"]

    def replay(number: int) -> None:
        system.run("replay", logs[number], "--speed", "max")
        system.wait_progress(system.newest_input_ms() // TICK_MS - 1)

    replay(0)
    mine, rivals = still_open("alpha"), still_open("beta")
    assert len(mine) > 1 and rivals
    worker.kill()
    for episode in mine[:-1]:
        system.run("respond", episode, "--operator", "alpha", "--status", "dispatched", "--eta", ETA)
    system.run("respond", rivals[0], "--operator", "alpha", "--status", "done")
    system.run("respond", mine[-1], "--operator", "alpha", "--status", "rejected", "--reason", "Die Brücke ist gesperrt.")
    worker = system.worker()
    system.wait_ready(worker)
    replay(1)
    answered = {body["episode_id"]: body["response"] for body in told("alpha") if "response" in body}
    assert answered.keys() == set(mine)
    assert {response["status"] for response in answered.values()} == {"dispatched", "rejected"}
    assert {response["eta"] for response in answered.values()} == {"2026-01-01T08:00:00.000Z", None}
    assert not [body for body in told("beta") if "response" in body]
    escalated = [b for b in told("alpha") if b["episode_id"] == mine[-1] and b["state"] == "escalated"]
    assert "rejected" in [one["cause"] for one in escalated[-1]["escalations"]]
    refused = worker.metric("urban_brain_responses_refused_total")
    assert {labels for labels, count in refused.items() if count} == {'operator="alpha",reason="not_yours"'}
    worker.kill()
    for episode in still_open("beta"):
        system.run("respond", episode, "--operator", "beta", "--status", "acknowledged")
    worker = system.worker()
    system.wait_ready(worker)
    replay(2)
    replay(3)
    worker.stop()
    causes = {one["cause"] for name in ("alpha", "beta") for b in told(name) for one in b.get("escalations", ())}
    assert causes == {"respond_by", "rejected", "resolve_by"}
    assert {body["response"]["status"] for body in told("beta") if "response" in body} == {"acknowledged"}

    assert system.assert_events_are_the_backtests() > 50
    given: list[str | Path] = []
    for operator in ("alpha", "beta"):
        path = tmp_path / f"{operator}.ndjson"
        path.write_text(system.run("respond", "--log", "--operator", operator))
        given += ["--control", f"responses.{operator}={path}"]
    out = tmp_path / "alerts.ndjson"
    system.run("backtest", *logs, "--out", out, *given)
    assert_same(system.events()["rivertown"], out.read_bytes().splitlines())
