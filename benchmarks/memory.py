"""Memory per bike: what a worker with all its bikes, both stages in one process, holds above an idle one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from threading import Event, Thread

from benchmarks.live import SNAPSHOT_INTERVAL_S, Live, snapshots_of_all
from benchmarks.rig import Process, Rig, say

IDLE_S = 6.0  # long enough for a tick that is closed by clock records
_LOOK_S = 0.05


@dataclass(frozen=True)
class Memory:
    """Bytes per bike above an idle worker. peak: the most of two rounds of snapshots."""

    settled: float
    peak: float


class _Sampler(Thread):
    """The resident set of a process, 20 times a second."""

    def __init__(self, process: Process) -> None:
        super().__init__(daemon=True)
        self._process, self._done = process, Event()
        self.sizes: list[int] = []

    def run(self) -> None:
        while not self._done.wait(_LOOK_S):
            self.sizes.append(self._process.rss_bytes())

    def end(self) -> list[int]:
        self._done.set()
        self.join()
        return self.sizes


def measure(rig: Rig, one: Live, bikes: int) -> Memory:
    """Leaves the feed running and every partition written down: the recovery goes on from there."""
    time.sleep(IDLE_S)
    idle = one.worker.process.rss_bytes()
    one.feed_on(rig, bikes)
    one.wait_until_read()
    one.watch("the first snapshots", lambda: snapshots_of_all(one))
    sampler = _Sampler(one.worker.process)
    sampler.start()
    time.sleep(2 * SNAPSHOT_INTERVAL_S)
    sizes = sampler.end()
    found = Memory((median(sizes) - idle) / bikes, (max(sizes) - idle) / bikes)
    say(
        f"memory: idle {idle / 1e6:.0f} MB; {found.settled:.0f} bytes a bike settled, {found.peak:.0f} at the peak of "
        f"{2 * SNAPSHOT_INTERVAL_S} s with snapshots"
    )
    return found
