"""Policies on a broker: applied, listed, compared, withdrawn, taken out as a log, and tried on recorded pings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.embedded import EmbeddedBroker
from streams.settings import Settings, loads
from tests.agents.conftest import CONFIGURATION, FIXTURES, Run

PROVIDERS = 'providers = { amber = "2411d395-04f2-47c9-ab66-d09e9e3c3251" }\n[[network'
STATION, MORNING = "3f2c7a0e-5d0b-4c57-9a41-6a8a0c1f7d10", "3f2c7a0e-5d0b-4c57-9a41-6a8a0c1f7d20"
AT = "2026-03-02T08:30:00Z"  # a Monday


@pytest.fixture
def broker(config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    config.write_text(CONFIGURATION.replace("[[network", PROVIDERS, 1))
    settings = loads(config.read_text())
    with EmbeddedBroker.of(settings) as embedded:
        monkeypatch.setenv("URBAN_BRAIN_BROKERS", embedded.bootstrap)
        yield settings


def policies(tmp_path: Path, *rules: dict[str, Any], **policy: Any) -> Path:
    path = tmp_path / "policies.json"
    told = {"policy_id": "square", "name": "Square", "rules": [_rule(**rule) for rule in rules]} | policy
    path.write_bytes(orjson.dumps({"policies": [told]}))
    return path


def _rule(**terms: Any) -> dict[str, Any]:
    return {"rule_id": "few", "name": "Few", "rule_type": "count", "maximum": 2} | terms


def rows(out: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in out.splitlines()]


def test_what_is_applied_is_in_force_and_what_is_withdrawn_is_not(
    run: Run, config: Path, broker: Settings, tmp_path: Path
) -> None:
    files = [FIXTURES / "policies.json", FIXTURES / "geographies.json"]
    code, out, _ = run("policy", "apply", *files, "--for", "rivertown", "--at", AT, "--json", "--config", config)
    assert (code, [row["policy_id"] for row in rows(out)]) == (0, [STATION, MORNING])
    code, out, _ = run("policy", "list", "--at", "2026-03-02T08:45:00Z", "--json", "--config", config)
    station, morning = rows(out)
    assert (station["source"], [rule["in_force"] for rule in station["rules"]]) == ("topic", [True, True])
    assert (morning["operators"], morning["rules"][0]["in_force"]) == (["amber"], True)
    assert rows(run("policy", "list", "--at", "2026-03-02T08:29:00Z", "--json", "--config", config)[1]) == []
    code, out, _ = run("policy", "show", MORNING, "--config", config)
    assert code == 0 and out.startswith(f"rivertown  {MORNING}  Bikes for the morning (amber, from ")
    assert run("policy", "diff", *files, "--config", config)[:2] == (0, "No difference.\n")

    code, _, err = run("policy", "withdraw", "3f2c7a0e", "--config", config)
    assert code == 2 and "No policy 3f2c7a0e is in force" in err
    code, out, _ = run("policy", "withdraw", MORNING, "--at", "2026-03-02T08:31:00Z", "--config", config)
    assert (code, out) == (
        0,
        f"{MORNING}: withdrawn for every city; acts from the next tick, or from its start if that is later.\n",
    )
    later = rows(run("policy", "list", "--at", "2026-03-02T08:45:00Z", "--json", "--config", config)[1])
    assert [row["policy_id"] for row in later] == [STATION]


def test_a_difference_is_told_value_by_value(run: Run, config: Path, broker: Settings, tmp_path: Path) -> None:
    run("policy", "apply", policies(tmp_path, {"maximum": 2}), "--at", AT, "--config", config)
    other = policies(tmp_path, {"maximum": 3, "urban_brain": {"for": "2m"}}, {"rule_id": "new"}, provider_ids=["cobalt"])
    code, out, _ = run("policy", "diff", other, "--json", "--config", config)
    told = {row["where"]: (row["change"], row["before"], row["after"]) for row in rows(out)}
    assert code == 0
    assert told["operators"] == ("changed", "every operator", "cobalt")
    assert told["rule few: maximum"] == ("changed", "2", "3")
    assert told["rule few: for_ms"] == ("changed", "60000", "120000")
    assert told["rule new: name"] == ("added", None, "Few")
    assert "rule few: minimum" not in told and "from" not in told
    code, out, _ = run("policy", "diff", policies(tmp_path, {}, policy_id="other"), "--config", config)
    assert out == "rivertown  other  new: Square\n"


def test_what_is_broken_is_not_written(run: Run, config: Path, broker: Settings, tmp_path: Path) -> None:
    good = policies(tmp_path, {}).rename(tmp_path / "good.json")
    bad = policies(tmp_path, {"maximum": -1}, policy_id="bad")
    code, _, err = run("policy", "apply", good, bad, "--config", config)
    assert code == 2 and "policies.json: policies[1].rules[1].maximum: should be greater than or equal to 0" in err
    code, _, err = run("policy", "apply", policies(tmp_path, {}, policy_id="rivertown"), "--config", config)
    assert code == 2 and "must be one of its own in the city" in err
    assert run("policy", "list", "--config", config)[1] == "No policies.\n", "nor is the good one"
    assert run("policy", "apply", good, "--for", "hilltown", "--config", config)[0] == 2
    code, _, err = run("policy", "apply", FIXTURES / "geographies.json", "--config", config)
    assert code == 2 and "hold no policy" in err


def test_one_on_the_topic_may_be_named_in_prev_policies(run: Run, config: Path, broker: Settings, tmp_path: Path) -> None:
    run("policy", "apply", policies(tmp_path, {}, policy_id="first"), "--at", AT, "--config", config)
    second = policies(tmp_path, {}, policy_id="second", prev_policies=["first"])
    assert run("policy", "check", second, "--config", config)[0] == 2, "of files alone"
    assert run("policy", "apply", second, "--at", "2026-03-02T09:00:00Z", "--config", config)[0] == 0
    out = run("policy", "list", "--at", "2026-03-02T10:00:00Z", "--json", "--config", config)[1]
    assert [row["policy_id"] for row in rows(out)] == ["second"]


def test_a_topic_that_is_switched_off_takes_no_policy(run: Run, config: Path, broker: Settings, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("[[network", "control = { policies = false }\n[[network", 1))
    code, _, err = run("policy", "apply", policies(tmp_path, {}), "--config", config)
    assert code == 2 and "network.control.policies" in err
    assert run("policy", "list", "--config", config)[:2] == (0, "No policies.\n")


def test_the_topic_as_a_file_gives_the_backtest_what_the_city_was_told(
    pings: Path, run: Run, config: Path, broker: Settings, tmp_path: Path
) -> None:
    """The same as with the policy in force, from the tick after its own on. Other rules' alerts stay the same, but for where bikes may be
    brought, which every rule limits: so here none are."""
    config.write_text(config.read_text() + "[city.planning]\nenabled = false\n")
    first, *_, last = (orjson.loads(line)["ts"] for line in pings.read_bytes().splitlines())
    middle = (first + last) // 2
    told = policies(tmp_path, {"maximum": 2, "urban_brain": {"area": "cell", "for": "0s"}})
    when = f"{middle // 1000 * 1000}"
    from geo.alert import rfc3339

    assert run("policy", "apply", told, "--at", rfc3339(int(when)), "--config", config)[0] == 0
    code, log, _ = run("policy", "log", "--config", config)
    assert code == 0
    (tmp_path / "policies.ndjson").write_text(log)
    plain = ["backtest", pings, "--config", config, "--out"]
    assert run(*plain, tmp_path / "with", "--control", f"policies={tmp_path / 'policies.ndjson'}")[0] == 0
    assert run(*plain, tmp_path / "without")[0] == 0
    lines, before = ((tmp_path / name).read_bytes().splitlines() for name in ("with", "without"))
    own = [orjson.loads(line) for line in lines if orjson.loads(line)["rule"]["policy_id"] == "square"]
    assert [line for line in lines if orjson.loads(line)["rule"]["policy_id"] != "square"] == before
    assert own
    assert min(body["observed_at"] for body in own) > rfc3339(int(when))
    for given, text in (("x=y", "write policies=FILE"), ("policies=/nowhere", "there is no such file")):
        code, _, err = run(*plain, "-", "--control", given)
        assert code == 2 and text in err
    (tmp_path / "bad").write_text('{"at": 5}\n')
    code, _, err = run(*plain, "-", "--control", f"policies={tmp_path / 'bad'}")
    assert code == 1 and "bad:1: is no recorded document" in err


@pytest.fixture
def pings(run: Run, config: Path, tmp_path: Path) -> Path:
    path = tmp_path / "pings.ndjson"
    code, _, _ = run("simulate", "--seconds", 1200, "--bikes", 300, "--seed", 3, "--out", path, "--config", config)
    assert code == 0
    return path


def test_a_policy_is_tried_beside_what_is_in_force(pings: Path, run: Run, config: Path, tmp_path: Path) -> None:
    """Episodes as the two backtests raise them."""
    strict = {"maximum": 1, "urban_brain": {"area": "cell", "for": "0s"}}
    loose = {"maximum": 4, "urban_brain": {"area": "cell", "for": "0s"}}
    there = policies(tmp_path, loose).rename(tmp_path / "there.json")
    tried = policies(tmp_path, strict)
    config.write_text(config.read_text().replace("[[city.rules]]", f'policies = ["{there}"]\n[[city.rules]]'))
    code, out, _ = run("policy", "try", tried, pings, "--json", "--config", config)
    assert code == 0
    [summary] = rows(out)
    found = {}
    for name, extra in (("active", []), ("tried", ["--policy", tried])):
        run("backtest", pings, "--out", tmp_path / name, "--config", config, *extra)
        bodies = [orjson.loads(line) for line in (tmp_path / name).read_bytes().splitlines()]
        found[name] = [body for body in bodies if body["rule"]["policy_id"] == "square"]
        raised = sum(body["state"] == "raised" for body in found[name])
        assert sum(day["episodes"][name] for day in summary["days"]) == raised > 0
    assert len(found["tried"]) > len(found["active"])
    worst = summary["worst"][0]
    assert worst["hours"] == max(row["hours"] for row in summary["worst"]) > 0
    mine = [b for b in found["tried"] if (b["area"]["h3"], b["operator"]) == (worst["area"], worst["operator"])]
    assert worst["peak"] == max(body["excess"] for body in mine)
    code, out, _ = run("policy", "try", tried, pings, "--config", config)
    assert code == 0 and "active -> tried" in out and "Worst places of what is tried:" in out
