"""A policy is applied and withdrawn while a worker runs; the backtest with what was written says the same, to the byte."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from streams.feeds.records import FeedRecord
from tests.simulation.city import TICK_MS, pings
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


def parts(folder: Path, records: list[FeedRecord], count: int) -> list[Path]:
    """The log in so many files, none of which ends within a tick: a replay closes the tick of its last record."""
    ticks = sorted({record.record_ms // TICK_MS for record in records})
    bounds = [ticks[len(ticks) * i // count] for i in range(count)] + [ticks[-1] + 1]
    paths = []
    for number, (first, end) in enumerate(pairwise(bounds)):
        paths.append(folder / f"pings-{number}.ndjson")
        with paths[-1].open("wb") as file:
            for record in records:
                if first <= record.record_ms // TICK_MS < end:
                    file.write(orjson.dumps(orjson.loads(record.value) | {"received_at": record.record_ms}) + b"\n")
    return paths


def test_what_is_applied_while_a_worker_runs_is_in_force_from_then_on_and_in_every_replay(
    deploy: MakeSystem, tmp_path: Path
) -> None:
    """A replay in parts, and between them what a city's staff does, and somebody else who writes nonsense."""
    system = deploy(operators=("alpha", "beta"), network=NETWORK)
    topic = system.settings.topics.policies
    logs = parts(tmp_path, [record for record in pings(1, 5000) if record.value != b"junk"], 5)
    worker = system.worker()
    system.wait_ready(worker)

    def told(**what: str) -> list[dict[str, Any]]:
        bodies = [orjson.loads(body) for body in system.events()["rivertown"]]
        return [b for b in bodies if all(b.get(k, b["rule"].get(k)) == v for k, v in what.items())]

    def replay(number: int) -> None:
        system.run("replay", logs[number], "--speed", "max")
        system.wait_progress(system.newest_input_ms() // TICK_MS - 1)

    replay(0)
    assert not told(policy_id="few")
    system.run("policy", "apply", policies(tmp_path / "few.json"))
    replay(1)
    assert told(policy_id="few", state="raised")
    broken = b'{"schema": "urban-brain/policy/1", "policy": {"policy_id": "few", "rules": []}}'
    other = Producer({"bootstrap.servers": system.bootstrap})
    other.produce(topic, broken, b"few", partition=0, timestamp=system.newest_input_ms())
    assert other.flush(20) == 0
    replay(2)
    assert told(kind="policy_refused", state="raised")
    listed = [orjson.loads(line) for line in system.run("policy", "list", "--json").splitlines()]
    assert [(row["policy_id"], "refused" in row) for row in listed] == [("few", False), ("few", True)], (
        "the last good one stays"
    )
    assert worker.metric("urban_brain_policies_refused_total") == {'city="rivertown"': 1.0}
    system.run("policy", "apply", policies(tmp_path / "more.json", maximum=4))
    replay(3)
    assert told(kind="policy_refused", cleared_by="replaced")
    system.run("policy", "withdraw", "few")
    replay(4)
    worker.stop()
    assert told(policy_id="few", cleared_by="policy")
    assert system.run("policy", "list") == "No policies.\n"

    assert system.assert_events_are_the_backtests() > 100
    out = tmp_path / "alerts.ndjson"
    (tmp_path / "policies.ndjson").write_text(system.run("policy", "log"))
    system.run("backtest", *logs, "--out", out, "--control", f"policies={tmp_path / 'policies.ndjson'}")
    assert_same(system.events()["rivertown"], out.read_bytes().splitlines())
