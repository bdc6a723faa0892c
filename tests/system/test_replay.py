"""The whole way by the command line: topics, worker, replay; kills in between; and the backtest says the same to the byte."""

from __future__ import annotations

import threading
from pathlib import Path

import orjson
import pytest

from tests.simulation.city import pings
from tests.system.configuring import CITY, RULE
from tests.system.conftest import MakeSystem
from tests.system.harness import System, assert_same

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

BORDERS = [(39.8, 39.903), (39.903, 39.909), (39.909, 40.1)]
CITIES = "".join(
    CITY.format(
        name=name,
        boundary=f"{{ south = {south}, west = 116.3, north = {north}, east = 116.5 }}\npartition = {partition}",
        rules=RULE.format(per_hectare="0.4"),
    )
    for name, partition, (south, north) in zip(("lowtown", "midtown", "uptown"), (0, 0, 1), BORDERS, strict=True)
)
"""Two of the three share a partition of the facts and of the alerts."""
NETWORK = 'ttl = "300s"\nsilent_after = { alpha = "90s", beta = "90s" }'


def write_log(path: Path, count: int) -> int:
    """Pings as NDJSON; the length of the log in seconds of stream time."""
    records = pings(1, count)
    with path.open("wb") as file:
        for record in records:
            if record.value != b"junk":
                file.write(orjson.dumps(orjson.loads(record.value) | {"received_at": record.record_ms}) + b"\n")
    return (records[-1].record_ms - records[0].record_ms) // 1000


def test_a_replay_with_kills_in_mid_stream_gives_the_backtests_events(deploy: MakeSystem, tmp_path: Path) -> None:
    system = deploy(operators=("alpha", "beta"), network=NETWORK, cities=CITIES, session="10s")
    log, out, cells = tmp_path / "pings.ndjson", tmp_path / "alerts.ndjson", tmp_path / "cells.ndjson"
    length_s = write_log(log, 8000)
    system.run("backtest", log, "--out", out, "--density", cells)
    worker = system.worker(instance_id="one")
    system.wait_ready(worker)
    replay = threading.Thread(target=system.run, args=("replay", log, "--speed", str(length_s / 40)))
    replay.start()
    written = out.read_bytes().splitlines()
    worker = system.kill_in_mid_stream(worker, times=3, every=50, of=len(written))
    replay.join()
    system.wait_progress(system.newest_input_ms() // 5000 - 1)
    worker.stop()

    for city, bodies in system.events().items():
        assert_same(bodies, [body for body in written if orjson.loads(body)["city"] == city])
        assert len(bodies) > 100
    assert system.assert_events_are_the_backtests() == len(written)
    run = system.backtester()
    assert len(list(run.run(record for record in system.input_log() if record.value is not None))) == len(written)
    opened = [event for city in run.cities.values() for event in city.open_events().values()]
    assert system.open_alerts() == {event.episode_id.encode(): event.body for event in opened}
    assert_density_is_the_backtests(system, cells.read_bytes().splitlines())
    newest = {telling.key: telling.body for city in run.cities.values() for telling in city.density.newest()}
    assert system.compacted(system.settings.topics.density) == newest


def assert_density_is_the_backtests(system: System, lines: list[bytes]) -> None:
    """The distinct records of each city, in order and to the byte; a kill repeats some, and a load may put some right."""
    told: dict[tuple[bytes, bytes], bytes | None] = {}
    for record in system.read(system.settings.topics.density):
        assert record.key is not None
        first = told.setdefault((record.key, record.headers["observed_at"]), record.value)
        assert record.value in (first, None)
    for city in system.settings.facts_partition:
        mine = [
            b'{"key":"%b","observed_at":"%b","value":%b}' % (key, at, value or b"null")
            for (key, at), value in told.items()
            if key.split(b"/")[0] == city.encode()
        ]
        want = [line for line in lines if orjson.loads(line)["key"].split("/")[0] == city]
        assert_same(mine, want)
        assert len(want) > 50
    assert any(line.endswith(b"null}") for line in lines), "a cell became empty"
