"""The command line: help, wrong use, and what commands print and return."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import click
import orjson
import pytest

from agents.cli import COMMANDS, HIDDEN
from streams.settings import Settings
from streams.topics import check
from tests.agents.conftest import CONFIGURATION, FIXTURES, Run

# Help and wrong use.


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    script = "import sys; from agents.cli import status; status(['--help']); print('rich' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert all(f"  {name} " in done.stdout for name in set(COMMANDS) - HIDDEN)
    assert done.stderr.strip() == "False"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(name: str, run: Run) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert f"Example: urban-brain {name}" in " ".join(out.split())


@pytest.mark.parametrize(
    "name",
    [
        "topics create",
        "topics check",
        "replay",
        "simulate",
        "backtest",
        "policy check",
        "policy list",
        "alerts",
        "report",
        "doctor",
    ],
)
def test_every_command_that_prints_data_can_print_json(name: str) -> None:
    module, *rest = name.split()
    command: click.Command = import_module(f"agents.commands.{module}").command
    for part in rest:
        assert isinstance(command, click.Group)
        command = command.commands[part]
    assert any("--json" in option.opts for option in command.params)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["worker"], "Missing option '--config'"),
        (["worker", "--config", "none.toml"], "none.toml: cannot be read (No such file or directory)"),
        (["replay", "none.ndjson", "--config", "CONFIG"], "File 'none.ndjson' does not exist"),
        (["replay", "CONFIG", "--speed", "0", "--config", "CONFIG"], '"0" is neither a number above zero nor max'),
        (["replay", "CONFIG", "--shift-to", "noon", "--config", "CONFIG"], '"noon" must be a time with its offset'),
        (["replay", "CONFIG", "--format", "mobike", "--config", "CONFIG"], "give --operator NAME or --split-operators N"),
        (["replay", "CONFIG", "--format", "csv", "--map", "ts", "--config", "CONFIG"], '"ts" is not field=column'),
        (["replay", "CONFIG", "--format", "csv", "--tz", "Mars/X", "--config", "CONFIG"], "--tz Mars/X must be a time zone"),
        (["replay", "CONFIG", "--operator", "ruby", "--config", "CONFIG"], "--operator ruby is not an allowed operator"),
        (["replay", "CONFIG", "--split-operators", "3", "--config", "CONFIG"], "only 2 operators are allowed"),
        (["replay", "CONFIG", "--tz", "UTC", "--config", "CONFIG"], "are for tables: give --format csv"),
        (["backtest", "CONFIG", "--config", "CONFIG"], "Missing option '--out'"),
        (["backtest", "CONFIG", "--format", "csv", "--out", "x", "--config", "CONFIG"], "has no columns bike_id, ts, lat, lng"),
        (["simulate", "--out", "x", "--config", "CONFIG"], "--out needs --seconds"),
        (["alerts", "--open", "--follow", "--config", "CONFIG"], "--open shows what is open now"),
        (["alerts", "--operator", "ruby", "--config", "CONFIG"], "--operator ruby is not an allowed operator"),
        (["report", "--operator", "ruby", "--config", "CONFIG"], "--operator ruby is not an allowed operator"),
        (["report", "--day", "yesterday", "--config", "CONFIG"], "'yesterday' does not match the format '%Y-%m-%d'"),
        (["demo", "--speed", "max"], "the demo is paced"),
    ],
)
def test_wrong_use_is_status_2_and_one_message(
    arguments: list[str], message: str, run: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*(config if argument == "CONFIG" else argument for argument in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_all_problems_of_a_configuration_are_shown_at_status_2(run: Run, config: Path) -> None:
    config.write_text(CONFIGURATION.replace('for = "10s"', "for = 10").replace("partitions = 2", "partition = 2"))
    code, _, err = run("topics", "check", "--config", config)
    assert code == 2
    assert err.startswith("The configuration has 3 problems:\n  ")
    assert "Did you mean partitions?" in err


def test_a_broker_that_is_away_is_status_1_and_one_message(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.commands.doctor.check", partial(check, timeout_s=0.5))
    code, out, err = run("doctor", "--config", config)
    assert code == 1
    assert "wrong   brokers: no broker answered within" in out
    assert "Traceback" not in err


def test_the_configuration_may_be_named_by_the_environment(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URBAN_BRAIN_CONFIG", str(config))
    code, out, _ = run("backtest", config, "--strict", "--out", "-")
    assert (code, out) == (1, ""), "a TOML file has no pings"


# Commands at work.


@pytest.fixture
def pings(tmp_path: Path, config: Path, run: Run) -> Path:
    path = tmp_path / "pings.ndjson"
    assert run("simulate", "--seconds", 300, "--bikes", 400, "--out", path, "--config", config)[0] == 0
    return path


def test_simulate_writes_the_same_file_for_the_same_seed(pings: Path, run: Run, config: Path, tmp_path: Path) -> None:
    code, out, _ = run("simulate", "--seconds", 300, "--bikes", 400, "--out", tmp_path / "again", "--json", "--config", config)
    assert code == 0
    assert orjson.loads(out)["records"] == pings.read_bytes().count(b"\n")
    assert (tmp_path / "again").read_bytes() == pings.read_bytes()


def test_backtest_gives_an_event_a_line_and_the_same_ones_at_any_partition_count(
    pings: Path, run: Run, config: Path, tmp_path: Path
) -> None:
    plain = ["backtest", pings, "--config", config]
    code, _, err = run(*plain, "--out", tmp_path / "one", "--density", tmp_path / "cells", "--report", tmp_path / "days")
    more = ["--out", tmp_path / "three", "--density", tmp_path / "cells of three", "--partitions", 3]
    assert (tmp_path / "days").read_bytes() == b"", "no day ends within five minutes"
    assert (code, run(*plain, *more)[0]) == (0, 0)
    cells = (tmp_path / "cells").read_bytes()
    assert cells == (tmp_path / "cells of three").read_bytes()
    assert {orjson.loads(line)["key"].partition("/")[0] for line in cells.splitlines()} == {"rivertown"}
    events = (tmp_path / "one").read_bytes()
    assert events == (tmp_path / "three").read_bytes()
    assert {orjson.loads(line)["kind"] for line in events.splitlines()} == {"overcrowded"}
    assert f"{len(events.splitlines())} events" in err


def test_trips_that_end_at_one_place_crowd_it_until_trips_begin_there(run: Run, config: Path, tmp_path: Path) -> None:
    """Twenty trips to one place, and an hour later all from there."""
    lines = ["bike,from,y0,x0,to,y1,x1"]
    lines += [f"{i},{1_700_000_000 + i},52.05,9.95,{1_700_000_600 + i},52.1,10.05" for i in range(20)]
    lines += [f"{i},{1_700_004_200 + i},52.1,10.05,{1_700_005_000 + i},52.2,10.15" for i in range(20)]
    (tmp_path / "trips.csv").write_text("\n".join(lines) + "\n")
    columns = "bike_id=bike,start_ts=from,start_lat=y0,start_lng=x0,end_ts=to,end_lat=y1,end_lng=x1"
    how = ["--format", "trips", "--map", columns, "--operator", "amber", "--config", config]
    assert run("backtest", tmp_path / "trips.csv", *how, "--out", tmp_path / "alerts")[0] == 0
    events = [orjson.loads(line) for line in (tmp_path / "alerts").read_bytes().splitlines()]
    first, *_, last = [
        event for event in events if event["kind"] == "overcrowded" and event["area"]["h3"] == events[0]["area"]["h3"]
    ]
    assert (first["state"], first["observed_at"][:16], first["bikes"][0]["id"]) == ("raised", "2023-11-14T22:23", "0")
    assert (last["state"], last["cleared_by"], last["observed_at"][:13]) == ("cleared", "ridden", "2023-11-14T23")


def test_backtest_tries_a_policy_on_what_was_recorded(pings: Path, run: Run, config: Path, tmp_path: Path) -> None:
    """Whatever dates it has; the city's own rule says the same as without it, but for where bikes may be brought: that is limited by
    every rule, so here none are."""
    config.write_text(CONFIGURATION + "[city.planning]\nenabled = false\n")
    plain = ["backtest", pings, "--config", config]
    rule = {"rule_id": "r", "name": "At most ten in the city", "rule_type": "count", "maximum": 10, "geographies": []}
    policy = {"policy_id": "tried", "name": "Tried", "start_date": 4_000_000_000_000, "rules": [rule]}
    (tmp_path / "tried.json").write_bytes(orjson.dumps({"policies": [policy]}))
    assert run(*plain, "--out", tmp_path / "without")[0] == 0
    assert run(*plain, "--out", tmp_path / "with", "--policy", tmp_path / "tried.json")[0] == 0
    lines = (tmp_path / "with").read_bytes().splitlines()
    own = [line for line in lines if orjson.loads(line)["rule"]["policy_id"] != "tried"]
    assert own == (tmp_path / "without").read_bytes().splitlines()
    assert {orjson.loads(line)["area"]["type"] for line in lines if line not in own} == {"city"}


def test_policies_are_checked_and_told_in_words(run: Run, config: Path) -> None:
    config.write_text(
        CONFIGURATION.replace("[[network", 'providers = { amber = "2411d395-04f2-47c9-ab66-d09e9e3c3251" }\n[[network', 1)
    )
    files = [FIXTURES / "policies.json", FIXTURES / "geographies.json"]
    code, out, _ = run("policy", "check", *files, "--config", config)
    assert (code, out.splitlines()) == (
        0,
        [
            "rivertown  3f2c7a0e-5d0b-4c57-9a41-6a8a0c1f7d10  Parking at the station (every operator)",
            "  Gates kept free in the rush hours: at most 0 (zone, 1 geographies), 07:00 to 09:30 UTC",
            "  Marked places: at most 1.2 of the places (each zone, 2 geographies)",
            "rivertown  3f2c7a0e-5d0b-4c57-9a41-6a8a0c1f7d20  Bikes for the morning (amber)",
            "  Twenty by eight: at most 300 and at least 20 (zone, 1 geographies), 08:00 to 10:00 UTC, shadow",
        ],
    )


def test_policies_are_listed_with_what_is_in_force_at_a_moment(run: Run, config: Path, tmp_path: Path) -> None:
    """2026-03-02 is a Monday."""
    text = CONFIGURATION.replace("[[network", 'providers = { amber = "2411d395-04f2-47c9-ab66-d09e9e3c3251" }\n[[network', 1)
    names = [str(FIXTURES / name) for name in ("policies.json", "geographies.json")]
    config.write_text(
        text.replace("[[city.rules]]", f'policies = ["{names[0]}"]\ngeographies = ["{names[1]}"]\n[[city.rules]]')
    )
    code, out, _ = run("policy", "list", "--configured", "--at", "2026-03-02T07:30:00Z", "--json", "--config", config)
    station, morning = map(orjson.loads, out.splitlines())
    assert code == 0
    assert [rule["in_force"] for rule in station["rules"]] == [True, True]
    assert station["next_change"] == "2026-03-02T09:30:00.000Z"
    assert [rule["in_force"] for rule in morning["rules"]] == [True], "it is prepared from six on"
    code, out, _ = run("policy", "list", "--configured", "--at", "2025-03-02T07:30:00Z", "--config", config)
    assert "- Marked places" in out and "* " not in out, "before its start date"


def test_a_policy_that_cannot_be_tried_is_wrong_use(pings: Path, run: Run, config: Path, tmp_path: Path) -> None:
    (tmp_path / "tried.json").write_text('{"policies": [{"policy_id": "p", "name": "P", "rules": [{"rule_type": "speed"}]}]}')
    code, _, err = run("backtest", pings, "--config", config, "--out", "-", "--policy", tmp_path / "tried.json")
    assert code == 2
    assert 'tried.json: policies[1].rules[1].rule_type: must be "count"' in err


def test_backtest_to_stdout_keeps_the_summary_apart(pings: Path, run: Run, config: Path) -> None:
    code, out, err = run("backtest", pings, "--out", "-", "--json", "--config", config)
    assert code == 0
    summary = orjson.loads(err)
    assert sum(row["events"] for row in summary["events"]) == len(out.splitlines()) > 0


def test_bad_rows_are_counted_and_shown_and_fail_only_a_strict_run(pings: Path, run: Run, config: Path, tmp_path: Path) -> None:
    with pings.open("ab") as file:
        file.write(b'{"bike_id": 5}\n')
    arguments = ["backtest", pings, "--out", tmp_path / "out", "--config", config]
    code, _, err = run(*arguments)
    assert code == 0
    assert "1 rows could not be read and were skipped:" in err
    assert f"pings.ndjson:{pings.read_bytes().count(b'{')}: " in err
    assert run(*arguments, "--strict")[0] == 1


def test_replay_says_what_it_has_written(pings: Path, run: Run, config: Path, broker: Settings) -> None:
    code, out, _ = run("replay", pings, "--speed", "max", "--json", "--config", config)
    summary = orjson.loads(out)
    assert code == 0
    assert summary["records"] == pings.read_bytes().count(b"\n")
    assert summary["clock_records"] == 5 * 5, "into control topics, too"
    code, out, _ = run("doctor", "--config", config)
    assert code == 0
    assert out.count("0 s behind the furthest") == 5


def test_simulate_writes_to_kafka_at_a_speed(run: Run, config: Path, broker: Settings) -> None:
    code, _, err = run("simulate", "--seconds", 20, "--bikes", 50, "--speed", 100, "--config", config)
    assert code == 0
    assert "all acknowledged" in err


def test_topics_that_do_not_fit_stop_a_replay_before_it_writes(pings: Path, run: Run, config: Path, broker: Settings) -> None:
    config.write_text(CONFIGURATION.replace("partitions = 2", "partitions = 7"))
    code, _, err = run("replay", pings, "--config", config)
    assert code == 2
    assert "topic pings: must have 7 partitions, found 2." in err


def test_topics_check_says_that_all_is_well(run: Run, config: Path, broker: Settings) -> None:
    assert run("topics", "check", "--config", config)[:2] == (0, "All 19 topics are as configured.\n")
    assert run("topics", "check", "--json", "--config", config)[:2] == (0, "")


def test_a_reader_of_our_output_that_goes_away_is_no_traceback(config: Path, pings: Path) -> None:
    command = [sys.executable, "-m", "agents", "backtest", str(pings), "--out", "-", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_a_taken_port_is_told_at_once_even_if_no_broker_answers(
    config: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("URBAN_BRAIN_HTTP_PORT", str(port))
        code, _, err = run("worker", "--config", config)
    assert code == 2
    assert f"port {port}" in err
    assert "waiting" not in err
