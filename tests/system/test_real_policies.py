"""The example cities on the recorded feeds that they are made for: zones, windows, plans, and a policy that comes while it runs.

What workers tell that are killed in mid-stream is what the backtest tells of the same log, to the byte.
"""

from __future__ import annotations

import json
import os
import threading
import tomllib
from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.feeds.order import feed_records
from streams.feeds.readers import Format, read_rows
from streams.feeds.records import ReadReport, Router
from tests.system.conftest import MakeSystem
from tests.system.harness import ROOT
from tests.system.test_real_crawl import FILE as CRAWL
from tests.system.test_real_crawl import TICK_MS, cut_at_gaps, told

WOLFSBURG = Path(os.environ.get("URBAN_BRAIN_DATA", ROOT.parent / "shared/data")) / "wolfsburg-gbfs23-2023.csv.gz"

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.realdata,
    pytest.mark.slow,
    pytest.mark.timeout(300),  # beside two other tests on two cores
    pytest.mark.skipif(
        not (CRAWL.exists() and WOLFSBURG.exists()),
        reason="the recorded feeds are not here: set URBAN_BRAIN_DATA to their folder",
    ),
]


def example(name: str, more: str = "") -> str:
    """The example's city as TOML, its policies where they are."""
    folder = ROOT / "examples" / name
    city = tomllib.loads((folder / "city.toml").read_text())["city"]
    boundary = ", ".join(f"{side} = {degrees}" for side, degrees in city["boundary"].items())
    return f"""
[[city]]
name = "{city["name"]}"
time_zone = "{city["time_zone"]}"
boundary = {{ {boundary} }}
policies = {orjson.dumps([str(folder / file) for file in city["policies"]]).decode()}
geographies = {orjson.dumps([str(folder / file) for file in city["geographies"]]).decode()}
{more}"""


STRICTER: dict[str, Any] = {
    "policy_id": "festival",
    "name": "At most 2.5 bikes a hectare, whoever they are of",
    "provider_ids": [],
    "rules": [
        {
            "rule_id": "sparse",
            "name": "Sparse",
            "rule_type": "count",
            "geographies": [],
            "states": {},
            "urban_brain": {"area": "cell", "per_hectare": "2.5", "scope": "all_operators"},
        }
    ],
}


def rules_told(events: dict[str, list[bytes]]) -> set[str]:
    """Ids of the rules that anything was told of."""
    return {orjson.loads(body)["rule"]["rule_id"] for bodies in events.values() for body in bodies}


def moves_told(events: dict[str, list[bytes]]) -> int:
    return sum(len(orjson.loads(body)["moves"]) for bodies in events.values() for body in bodies)


def test_beijing_by_its_policies_and_one_that_comes_and_goes(deploy: MakeSystem, tmp_path: Path) -> None:
    system = deploy(operators=("alpha", "beta", "gamma"), partitions=4, session="6s", cities=example("beijing"))
    stricter = tmp_path / "festival.json"
    stricter.write_text(json.dumps({"policies": [STRICTER]}))
    form = Format("mobike", {"operator": ":alpha"}, None, system.settings.timeline.operators)
    records = list(feed_records(read_rows([CRAWL], form, ReadReport()), Router(system.settings), spread_ms=600_000))
    workers = [system.worker(), system.worker()]
    system.wait_ready(*workers)
    for number, crawl in enumerate(cut_at_gaps(records)):
        with told(system, crawl):
            if number == 1:
                system.wait_progress(crawl[len(crawl) // 3].record_ms // TICK_MS)
                system.run("policy", "apply", stricter)
            if number in (1, 3):
                workers.pop(0).kill()
                workers.append(system.worker())
        system.wait_progress(crawl[-1].record_ms // TICK_MS)
        if number == 2:
            system.run("policy", "withdraw", "festival")
    assert system.assert_events_are_the_backtests() > 1000
    events = system.events()
    assert rules_told(events) >= {"old-city-by-day", "anywhere", "sparse"}
    assert rules_told(system.events(system.settings.topics.alerts_shadow)) == {"forty-by-eight"}
    assert moves_told(events) > 1000
    for worker in workers:
        worker.stop()


def test_wolfsburg_by_its_policies(deploy: MakeSystem, tmp_path: Path) -> None:
    network = 'silent_after = { tier = "2h" }'
    system = deploy(operators=("tier",), network=network, cities=example("wolfsburg"))
    out = tmp_path / "alerts.ndjson"
    columns = "received_at=snapshot_ts,ts=last_reported,lng=lon,status=:available"
    feed = (WOLFSBURG, "--format", "csv", "--operator", "tier", "--map", columns)
    system.run("backtest", *feed, "--out", out)
    written = out.read_bytes().splitlines()
    worker = system.worker(instance_id="one")
    system.wait_ready(worker)
    replay = threading.Thread(target=system.run, args=("replay", *feed, "--speed", "40000"))
    replay.start()
    worker = system.kill_in_mid_stream(worker, times=2, every=5, of=len(written))
    replay.join()
    system.wait_progress(system.newest_input_ms() // TICK_MS - 1)
    worker.stop()
    assert system.events()["wolfsburg"] == written
    assert rules_told(system.events()) >= {"station-square", "share-of-the-centre"}
