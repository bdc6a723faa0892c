"""A policy is applied and withdrawn while a replay runs; the backtest with what was written says the same, to the byte."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from tests.simulation.city import pings
from tests.system.conftest import MakeSystem
from tests.system.harness import assert_same

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

NETWORK = 'ttl = "300s"\nsilent_after = { alpha = "90s", beta = "90s" }'
RULE = {
    "rule_id": "few",
    "name": "Few",
    "rule_type": "count",
    "maximum": 2,
    "urban_brain": {"area": "cell", "for": "5s", "keep_firing_for": "5s", "update_interval": "10s"},
}


def policies(path: Path, **terms: Any) -> Path:
    path.write_bytes(orjson.dumps({"policies": [{"policy_id": "few", "name": "Few", "rules": [RULE | terms]}]}))
    return path


def test_what_is_applied_while_a_replay_runs_is_in_force_from_then_on_and_in_every_replay(
    deploy: MakeSystem, tmp_path: Path
) -> None:
    system = deploy(operators=("alpha", "beta"), network=NETWORK)
    log, out = tmp_path / "pings.ndjson", tmp_path / "alerts.ndjson"
    records = [record for record in pings(1, 6000) if record.value != b"junk"]
    with log.open("wb") as file:
        for record in records:
            file.write(orjson.dumps(orjson.loads(record.value) | {"received_at": record.record_ms}) + b"\n")
    length_s = (records[-1].record_ms - records[0].record_ms) // 1000
    worker = system.worker()
    system.wait_ready(worker)
    replay = threading.Thread(target=system.run, args=("replay", log, "--speed", str(length_s / 15)))
    replay.start()
    topic = system.settings.topics.policies

    def told(**what: str) -> list[dict[str, Any]]:
        bodies = [orjson.loads(body) for body in system.events()["rivertown"]]
        return [b for b in bodies if all(b.get(k, b["rule"].get(k)) == v for k, v in what.items())]

    system.wait_events(20)
    system.run("policy", "apply", policies(tmp_path / "few.json"))
    system.until(lambda: told(policy_id="few"), "the policy acts")
    broken = b'{"schema": "urban-brain/policy/1", "policy": {"policy_id": "few", "rules": []}}'
    newest = max(record.time_ms for record in system.read(topic))
    other = Producer({"bootstrap.servers": system.bootstrap})
    other.produce(topic, broken, b"few", partition=0, timestamp=newest)
    assert other.flush(20) == 0
    system.until(lambda: told(kind="policy_refused", state="raised"), "the city is told of the broken one")
    listed = [orjson.loads(line) for line in system.run("policy", "list", "--json").splitlines()]
    assert {row["policy_id"]: "refused" in row for row in listed} == {"few": True}
    assert worker.metric("urban_brain_policies_refused_total") == {'city="rivertown"': 1.0}
    system.run("policy", "apply", policies(tmp_path / "more.json", maximum=4))
    system.until(lambda: told(kind="policy_refused", cleared_by="replaced"), "a good one is taken")
    system.run("policy", "withdraw", "few")
    replay.join()
    system.wait_progress(system.newest_input_ms() // 5000 - 1)
    worker.stop()
    assert told(policy_id="few", cleared_by="policy") or not told(policy_id="few", state="raised")

    assert system.assert_events_are_the_backtests() > 100
    (tmp_path / "policies.ndjson").write_text(system.run("policy", "log"))
    system.run("backtest", log, "--out", out, "--control", f"policies={tmp_path / 'policies.ndjson'}")
    assert_same(system.events()["rivertown"], out.read_bytes().splitlines())
    assert system.run("policy", "list") == "No policies.\n"
