"""A worker on the live clock with a feed at the wall's pace: what recovery, memory and latency are measured on."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.answer import standing_at
from benchmarks.feed import World
from benchmarks.rig import OTHERS, PARTITIONS, BenchError, Deployed, Process, Rig, Worker, require, wait_for

SNAPSHOT_INTERVAL_S = 30  # the default
PRIME_PER_S = 100_000


@dataclass
class Live:
    """One deployment; the worker changes when it is restarted."""

    deployed: Deployed
    worker: Worker
    feed: Process | None = None

    @property
    def topic(self) -> str:
        return self.deployed.settings.feeds[0].topic

    def feed_on(self, rig: Rig, bikes: int) -> None:
        """Start the feed; returns when every bike was heard by Kafka."""
        where = ("--topic", self.topic, "--bikes", str(bikes), "--prime-per-s", str(PRIME_PER_S))
        self.feed = rig.module("produce", "live", *where, core=OTHERS)
        require(self.feed.line() == "primed", "the feed did not start")

    def feed_off(self) -> int:
        """The last whole second of the stream that was sent."""
        assert self.feed is not None
        self.feed.popen.send_signal(signal.SIGTERM)
        return int(json.loads(self.feed.line())["last_second"])

    def wait_until_read(self) -> None:
        """The worker has caught up with the feed."""
        self.watch("the worker to catch up", lambda: self._lag() < 100_000)

    def _lag(self) -> float:
        return self.worker.metrics().get("consumer_lag_records", 1e9)

    def watch(self, what: str, condition: Callable[[], bool]) -> None:
        wait_for(what, _slowly(condition), self.worker.process)

    def restart(self) -> None:
        """As an orchestrator would, after the process was killed."""
        self.worker = self.deployed.start()

    def check_roster(self, world: World, last_second: int) -> None:
        """Every bike stands where it should, once the last tick is closed: nothing was lost, nothing applied twice."""
        right = standing_at(world, last_second)
        try:
            self.watch("the right roster", lambda: self.worker.roster() == right)
        except BenchError as error:
            raise BenchError(f"{self.worker.roster()} bikes stand, right is {right}: {error}") from None
        conflicts = self.worker.metrics().get("frame_conflicts_total", 0)
        require(conflicts == 0, f"{conflicts:.0f} frames differ from those sent before")


@contextmanager
def live(rig: Rig, name: str, *, rule: str = "") -> Iterator[Live]:
    deployed = rig.deploy(name, clock="live", feed=f"{name}.pings", snapshot_interval=f"{SNAPSHOT_INTERVAL_S}s", rule=rule)
    one = Live(deployed, deployed.start())
    try:
        one.watch("the worker to be ready", one.worker.ready)
        yield one
    finally:
        if one.feed is not None:
            one.feed.stop(signal.SIGKILL)
        one.worker.process.stop()


def _slowly(condition: Callable[[], bool]) -> Callable[[], bool]:
    """A look at a worker costs it some milliseconds: twice a second is enough."""

    def look() -> bool:
        time.sleep(0.45)
        return condition()

    return look


def snapshots_of_all(one: Live) -> bool:
    """Every partition, and the city, has been written down at least once."""
    metrics = one.worker.metrics()
    written = sum(1 for key in metrics if key.startswith("snapshot_timestamp_seconds/source/"))
    return written == PARTITIONS and any(key.startswith("snapshot_timestamp_seconds/city/") for key in metrics)
