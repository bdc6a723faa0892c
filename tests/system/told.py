"""What a real worker told an operator, for those who read it: consumers and bridges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.simulation.city import pings
from tests.system.configuring import CITY, RULE
from tests.system.harness import System, make_system
from tests.system.reading import Logged

NETWORK = 'ttl = "300s"\nsilent_after = { alpha = "90s", beta = "90s" }'
CITIES = "".join(
    CITY.format(
        name=name,
        boundary=f"{{ south = {south}, west = 116.3, north = {north}, east = 116.5 }}\npartition = {partition}",
        rules=RULE.format(per_hectare="0.4"),
    )
    for name, partition, south, north in (("lowtown", 0, 39.8, 39.905), ("uptown", 1, 39.905, 40.1))
)
PARTITIONS = 2


@dataclass
class Told:
    """What a worker told an operator, in order of the partitions, and what is open in the end, by the backtest."""

    system: System
    topic: str
    records: list[Logged]
    open: dict[str, dict[str, Any]]

    @property
    def ids(self) -> set[str]:
        return {event_id(record) for record in self.records}


def event_id(record: Logged) -> str:
    return record.headers["ce_id"].decode()


@contextmanager
def worker_run(bootstrap: str, directory: Path) -> Iterator[Told]:
    """A worker's run over pings of two operators in two cities."""
    system = make_system(bootstrap, directory, operators=("alpha", "beta"), network=NETWORK, cities=CITIES)
    try:
        yield _run(system, directory)
    finally:
        system.close()


def _run(system: System, directory: Path) -> Told:
    log = directory / "pings.ndjson"
    # the log ends in mid-crowd: some episodes are open then
    rows = [orjson.loads(r.value) | {"received_at": r.record_ms} for r in pings(1, 2500) if r.value != b"junk"]
    log.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    worker = system.worker()
    system.run("replay", log, "--speed", "max")
    system.wait_progress(system.newest_input_ms() // 5000 - 1)
    worker.stop()
    backtest = system.backtester()
    list(backtest.run(system.input_log()))
    opened = [event for city in backtest.cities.values() for event in city.open_events().values() if event.operator == "alpha"]
    topic = system.settings.topics.operator_topic("alpha")
    return Told(
        system, topic, system.read(topic), {event.episode_id: orjson.loads(event.operator_body or b"") for event in opened}
    )
