"""What `alerts` and `report` show of their topics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer

from geo.report import Tally
from streams.settings import Settings
from tests.agents.conftest import Run


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
    assert [" ".join(row.split()) for row in rows] == [
        "2026-01-01 rivertown amber (all) 4 0 0.00 % 66.66 % 33.33 % - 6:47 min 1",
        "2026-01-01 rivertown cobalt (all) 3 0 - 66.66 % 33.33 % - 6:47 min 1",
        "2026-01-02 rivertown amber (all) 3 0 0.00 % 66.66 % 33.33 % - 6:47 min 1",
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
