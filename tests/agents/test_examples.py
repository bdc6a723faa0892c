"""The examples with policies of their own: what they say is in force, and what it makes of recorded feeds."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from agents.cli import cli

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("URBAN_BRAIN_DATA", ROOT.parent / "shared" / "data"))
WOLFSBURG = DATA / "wolfsburg-gbfs23-2023.csv.gz"
SQUARE = {"south": 52.4265, "west": 10.783, "north": 52.4320, "east": 10.795}
CAPACITY = 30


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments, standalone_mode=False, catch_exceptions=False)
    assert result.return_value in (None, 0), result.output
    return result.output


@pytest.mark.parametrize("city", ["beijing", "wolfsburg"])
def test_the_policies_of_an_example_are_in_force(city: str) -> None:
    folder = ROOT / "examples" / city
    listed = run("policy", "list", "--configured", "--config", str(folder / "city.toml"))
    policies = json.loads((folder / "policies.json").read_bytes())["policies"]
    assert policies
    for policy in policies:
        assert f"{city}  {policy['policy_id']}  {policy['name']}" in listed
        for rule in policy["rules"]:
            assert rule["name"] in listed


def backtest(out: Path, partitions: int) -> bytes:
    run(
        "backtest", str(WOLFSBURG), "--format", "csv", "--operator", "tier", "--partitions", str(partitions),
        "--map", "received_at=snapshot_ts,ts=last_reported,lng=lon,status=:available",
        "--config", str(ROOT / "examples/wolfsburg/city.toml"), "--out", str(out),
    )  # fmt: skip
    return out.read_bytes()


def on_the_square(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(
        pl.col("lat").is_between(SQUARE["south"], SQUARE["north"]) & pl.col("lon").is_between(SQUARE["west"], SQUARE["east"])
    )


def standing(rows: pl.DataFrame, observed_at: str) -> int:
    """Scooters on the square in the last snapshot before a moment: straight from the file."""
    seconds = datetime.fromisoformat(observed_at).timestamp()
    newest = rows.filter(pl.col("snapshot_ts") <= seconds)["snapshot_ts"].max()
    return on_the_square(rows.filter(pl.col("snapshot_ts") == newest))["bike_id"].n_unique()


@pytest.mark.realdata
@pytest.mark.skipif(not WOLFSBURG.exists(), reason=f"{WOLFSBURG.name} is not here: set URBAN_BRAIN_DATA to its folder")
def test_a_policy_makes_the_same_of_a_recorded_feed_at_any_partition_count(tmp_path: Path) -> None:
    one = backtest(tmp_path / "one.ndjson", 1)
    assert backtest(tmp_path / "three.ndjson", 3) == one
    events: list[dict[str, Any]] = [json.loads(line) for line in one.splitlines()]
    square = [event for event in events if event["rule"]["rule_id"] == "station-square"]
    states = [event["state"] for event in square if event["state"] != "updated"]
    assert states == ["raised", "escalated", "escalated", "cleared", "raised", "escalated"], "nobody answers a recorded feed"
    rows = pl.read_csv(WOLFSBURG)
    for event in square:
        assert event["count"] > CAPACITY or event["state"] != "raised"
        if event["state"] != "cleared":  # a few that have left the feed stand on for their ttl
            assert 0 <= event["count"] - standing(rows, event["observed_at"]) <= 3
