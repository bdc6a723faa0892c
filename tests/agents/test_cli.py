"""The command line: help, wrong use, and what commands print and return."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path

import click
import orjson
import pytest
from confluent_kafka import Producer

from agents.cli import COMMANDS, HIDDEN, status
from geo.report import Tally
from streams.embedded import EmbeddedBroker
from streams.settings import Settings, loads
from streams.topics import check

CONFIGURATION = """
[deployment]
clock = "replay"
brokers = ["127.0.0.1:1"]
[network]
operators = ["amber", "cobalt"]
[[network.feeds]]
topic = "pings"
gateway = true
partitions = 2
[city]
name = "rivertown"
time_zone = "UTC"
boundary = { south = 52, west = 9.9, north = 52.25, east = 10.2 }
[[city.rules]]
id = "crowded"
name = "Too many"
per_hectare = 0.5
for = "10s"
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "all.toml"
    path.write_text(CONFIGURATION)
    return path


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs a command in this process -> (exit status, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = status([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return call


@pytest.fixture
def broker(config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The embedded broker; every command finds it through the environment."""
    with EmbeddedBroker.of(loads(CONFIGURATION)) as embedded:
        monkeypatch.setenv("URBAN_BRAIN_BROKERS", embedded.bootstrap)
        yield loads(CONFIGURATION)


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


FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


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


# Alerts.


def alert(sequence: int, *, state: str = "updated", city: str = "rivertown", episode: str = "e") -> bytes:
    return orjson.dumps(
        {
            "event_id": f"{episode}/{sequence}", "episode_id": episode, "state": state, "severity": "major", "city": city,
            "operator": "amber", "kind": "overcrowded", "area": {"h3": "891f13b0c8bffff"}, "count": 30 + sequence,
            "rule": {"threshold": 20, "name": "Too many"}, "excess": 9, "observed_at": "2026-01-01T00:00:00.000Z",
            "opened_at": "2026-01-01T00:00:00.000Z", "cleared_by": None,
        }
    )  # fmt: skip


@pytest.fixture
def log(broker: Settings) -> Callable[..., None]:
    """Writes events to a topic."""
    producer = Producer(broker.deployment.librdkafka())

    def write(topic: str, *values: bytes | None, sequences: tuple[int, ...] = ()) -> None:
        for i, value in enumerate(values):
            headers = [("sequence", str(sequences[i]).encode())] if sequences else []
            producer.produce(topic, value, key=b"e", partition=0, headers=headers)
        assert producer.flush(10) == 0

    return write


def test_alerts_shows_a_table_with_each_event_once(run: Run, config: Path, log: Callable[..., None]) -> None:
    log("alerts", alert(1, state="raised"), alert(2), alert(1, state="raised"))
    code, out, _ = run("alerts", "--config", config)
    assert code == 0
    assert [line.split()[2] for line in out.splitlines()[1:]] == ["raised", "updated"]
    assert "31 of 20" in out


def test_alerts_json_is_the_very_bytes_of_the_topic(run: Run, config: Path, log: Callable[..., None]) -> None:
    log("alerts.amber", alert(1), alert(2), alert(3))
    assert run("alerts", "--operator", "amber", "--json", "--config", config)[1] == (
        b"\n".join([alert(1), alert(2), alert(3)]).decode() + "\n"
    )
    newest = run("alerts", "--operator", "amber", "--json", "--limit", 1, "--config", config)[1]
    oldest = run("alerts", "--operator", "amber", "--json", "--limit", 1, "--from-beginning", "--config", config)[1]
    assert (newest, oldest) == (alert(3).decode() + "\n", alert(1).decode() + "\n")


def test_open_alerts_are_the_newest_of_each_episode(run: Run, config: Path, log: Callable[..., None]) -> None:
    log("alerts.open", alert(3), alert(2), sequences=(3, 2))
    assert run("alerts", "--open", "--json", "--config", config)[1] == alert(3).decode() + "\n"
    assert run("alerts", "--open", "--json", "--operator", "cobalt", "--config", config)[1] == ""
    log("alerts.open", None)
    assert run("alerts", "--open", "--config", config)[1] == "No alerts.\n"


def report(operator: str, date: str, at: str, **total: object) -> bytes:
    names = {"city": "rivertown", "operator": operator, "date": date, "observed_at": at}
    figures = Tally(opened=3, resolved=2, resolved_in_time=1, open=1, resolutions=[60_000, 754_000]).fields() | total
    rules = [{"policy_id": "rivertown", "rule_id": "[bold]crowded[/bold]"} | figures]
    return orjson.dumps(names | {"total": figures, "rules": rules, "complete": False})


@pytest.fixture
def days(broker: Settings) -> dict[str, bytes]:
    """Three days on their topic; the newer record of one of them comes first."""
    told = {
        "amber/2026-01-01": [report("amber", "2026-01-01", "3", opened=4), report("amber", "2026-01-01", "2")],
        "cobalt/2026-01-01": [report("cobalt", "2026-01-01", "2", response_rate=None)],
        "amber/2026-01-02": [report("amber", "2026-01-02", "3")],
    }
    producer = Producer(broker.deployment.librdkafka())
    for key, values in told.items():
        for value in values:
            producer.produce("operator.report", value, f"rivertown/{key}")
    assert producer.flush(10) == 0
    return {key: values[0] for key, values in told.items()}


def test_report_shows_the_newest_of_each_day_with_rates_that_are_not_rounded_up(run: Run, config: Path, days: object) -> None:
    code, out, _ = run("report", "--config", config)
    assert code == 0
    heading, *rows = out.splitlines()
    assert heading.split()[:4] == ["date", "city", "operator", "rule"]
    assert [row.split() for row in rows] == [
        [
            "2026-01-01",
            "rivertown",
            "amber",
            "(all)",
            "4",
            "0",
            "0.00",
            "%",
            "66.66",
            "%",
            "33.33",
            "%",
            "-",
            "6:47",
            "min",
            "1",
        ],
        ["2026-01-01", "rivertown", "cobalt", "(all)", "3", "0", "-", "66.66", "%", "33.33", "%", "-", "6:47", "min", "1"],
        [
            "2026-01-02",
            "rivertown",
            "amber",
            "(all)",
            "3",
            "0",
            "0.00",
            "%",
            "66.66",
            "%",
            "33.33",
            "%",
            "-",
            "6:47",
            "min",
            "1",
        ],
    ]


def test_report_shows_an_operator_a_day_or_the_bytes_of_the_topic(run: Run, config: Path, days: dict[str, bytes]) -> None:
    out = run("report", "--operator", "amber", "--json", "--config", config)[1]
    assert out.encode().splitlines() == [days["amber/2026-01-01"], days["amber/2026-01-02"]]
    assert run("report", "--limit", 1, "--json", "--config", config)[1].encode() == days["amber/2026-01-02"] + b"\n"
    rows = run("report", "--operator", "amber", "--day", "2026-01-02", "--rules", "--config", config)[1].splitlines()
    assert [row.split()[3] for row in rows[1:]] == ["(all)", "rivertown/[bold]crowded[/bold]"]
    assert run("report", "--day", "2025-01-02", "--config", config)[1] == "No reports.\n"


def test_follow_ends_at_its_limit(run: Run, config: Path, log: Callable[..., None]) -> None:
    log("alerts", alert(1, state="raised"), alert(2))
    code, out, _ = run("alerts", "--follow", "--from-beginning", "--limit", 2, "--config", config)
    assert (code, len(out.splitlines())) == (0, 2)


def test_names_in_messages_are_never_markup_nor_control_codes(run: Run, config: Path, log: Callable[..., None]) -> None:
    log("alerts", alert(1, city="[red]x[/red]\x1b[2J"))
    out = run("alerts", "--follow", "--from-beginning", "--limit", 1, "--config", config)[1]
    assert "[red]x[/red]�[2J" in out


def test_what_was_answered_and_why_it_escalated_stands_in_the_last_column(
    run: Run, config: Path, log: Callable[..., None]
) -> None:
    response = {"status": "rejected", "at": "2026-01-01T00:00:00.000Z", "eta": None, "reason": "[b]no[/b]\x1b truck"}
    late = {"cause": "respond_by", "at": "2026-01-01T00:00:00.000Z"}
    on_the_way = response | {"status": "dispatched", "eta": "2026-01-01T08:40:00.000Z", "reason": None}
    bodies = [
        orjson.loads(alert(1, state="escalated")) | {"response": response, "escalations": [late, late | {"cause": "rejected"}]},
        orjson.loads(alert(2)) | {"response": on_the_way},
        orjson.loads(alert(3, state="cleared")) | {"response": on_the_way | {"eta": None}, "cleared_by": "status_only"},
        orjson.loads(alert(4)) | {"response": "odd", "escalations": 7},
    ]
    log("alerts", *map(orjson.dumps, bodies))
    lines = run("alerts", "--config", config)[1].splitlines()[1:]
    ends = [
        "missed respond_by; rejected [b]no[/b]� truck",
        "dispatched until 2026-01-01T08:40:00Z",
        "status_only; dispatched",
        "Too many",
    ]
    assert [line.rstrip().endswith(end) for line, end in zip(lines, ends, strict=True)] == [True] * 4, lines


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
