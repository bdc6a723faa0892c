"""Two nights in a row with kills in between: what `operator.report` says is what the backtest says, to the byte."""

from __future__ import annotations

import threading
from pathlib import Path

import orjson
import pytest

from tests.simulation.city import TICK_MS, pings
from tests.system.conftest import MakeSystem
from tests.system.harness import System, assert_same

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

NETWORK = 'ttl = "300s"\nsilent_after = { alpha = "90s", beta = "90s" }'
DAY_MS = 86_400_000
BEFORE_MIDNIGHT_MS = 6_000_000
"""Logs of `pings` begin so long before seven minutes to midnight (UTC)."""


def night(path: Path, number: int, count: int = 2500) -> int:
    """The log around a midnight; its length in seconds of stream time."""
    records = [record for record in pings(number, count) if record.value != b"junk"]
    shift = BEFORE_MIDNIGHT_MS + number * DAY_MS
    with path.open("wb") as file:
        for record in records:
            ping = orjson.loads(record.value)
            ping |= {"ts": ping["ts"] + shift, "received_at": record.record_ms + shift}
            file.write(orjson.dumps(ping) + b"\n")
    return (records[-1].record_ms - records[0].record_ms) // 1000


def test_days_that_end_while_workers_are_killed_are_told_as_the_backtest_tells_them(deploy: MakeSystem, tmp_path: Path) -> None:
    system = deploy(operators=("alpha", "beta"), network=NETWORK)
    topic = system.settings.topics.report
    first, second, out = (tmp_path / name for name in ("first.ndjson", "second.ndjson", "report.ndjson"))
    night(first, 1)
    length_s = night(second, 2)
    system.run("backtest", first, second, "--out", tmp_path / "alerts.ndjson", "--report", out)
    want = out.read_bytes().splitlines()

    worker = system.worker(instance_id="one")
    system.wait_ready(worker)
    system.run("replay", first, "--speed", "max")
    system.until(lambda: len(system.read(topic)) >= 2, "the first day is told of")
    worker.kill()
    worker = system.worker(instance_id="one")
    system.wait_ready(worker)
    replay = threading.Thread(target=system.run, args=("replay", second, "--speed", str(length_s / 10)))
    replay.start()
    told = system.event_records()
    system.wait_events(told + 50)
    assert len(distinct(system, topic)) < len(want), "a kill must come before the second night is over"
    worker.kill()
    worker = system.worker(instance_id="one")
    replay.join()
    system.wait_progress(system.newest_input_ms() // TICK_MS - 1)
    system.until(lambda: worker.metric("urban_brain_report_episodes"), "today's figures are shown")
    assert {labels.split(",")[-1] for labels in worker.metric("urban_brain_report_rate")} == {
        'rate="response"',
        'rate="resolution"',
        'rate="on_time"',
    }
    worker.stop()

    assert_same(distinct(system, topic), want)
    newest = {line["key"].encode(): orjson.dumps(line["value"]) for line in map(orjson.loads, want)}
    assert system.compacted(topic) == newest
    assert len(newest) < len(want), "no day is told again"
    assert sorted(system.run("report", "--json").encode().splitlines()) == sorted(newest.values())
    shown = system.run("report", "--operator", "beta", "--day", "2023-11-15", "--rules").splitlines()
    assert [line.split()[:4] for line in shown[1:]] == [
        ["2023-11-15", "rivertown", "beta", "(all)"],
        ["2023-11-15", "rivertown", "beta", "rivertown/crowded"],
    ]


def distinct(system: System, topic: str) -> list[bytes]:
    """The records by key and time, in the form of the backtest's lines; a kill repeats some, and a load may put some right."""
    told: dict[tuple[bytes, bytes], bytes] = {}
    for record in system.read(topic):
        assert record.key is not None and record.value is not None
        assert told.setdefault((record.key, record.headers["observed_at"]), record.value) == record.value
    return [b'{"key":"%b","observed_at":"%b","value":%b}' % (key, at, value) for (key, at), value in told.items()]
