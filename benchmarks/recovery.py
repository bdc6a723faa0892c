"""From the restart of a worker that was killed to the first frame that it had not sent before."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass

from benchmarks.feed import World
from benchmarks.live import Live
from benchmarks.rig import PARTITIONS, Tail, say, wait_for
from streams.frames import Part, decode_message


@dataclass(frozen=True)
class Recovery:
    """Seconds from the restart to the first new frame, and until every source had sent one."""

    first: float
    all: float


class _Told:
    """The newest tick that each source has told a city of."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self.newest: dict[int, int] = {}

    def read(self, messages: list[bytes]) -> None:
        for value in messages:
            message = decode_message(value)
            ticks = [entry.tick for entry in message.entries if isinstance(entry, Part)]
            source = message.sender.partition
            self.newest[source] = max([self.newest.get(source, -1), *ticks])

    def rest(self) -> None:
        self.read([message.value() for message in self._tail.rest()])

    def poll(self) -> None:
        self.read([message.value() for message in self._tail.poll(0.02)])


def measure(one: Live, world: World) -> Recovery:
    """Kills the worker while the feed runs, starts it again, and checks in the end that nothing was lost."""
    told = _Told(one.deployed.tail(one.deployed.settings.topics.facts))
    told.rest()
    one.worker.process.stop(signal.SIGKILL)
    told.rest()
    before = dict(told.newest)
    started = time.monotonic()
    one.restart()
    ahead: dict[int, float] = {}

    def look() -> int:
        told.poll()
        for source, tick in told.newest.items():
            if tick > before.get(source, -1):
                ahead.setdefault(source, time.monotonic() - started)
        return len(ahead)

    wait_for("a new frame", lambda: look() > 0, one.worker.process)
    wait_for("a new frame of every source", lambda: look() == PARTITIONS, one.worker.process)
    found = Recovery(min(ahead.values()), max(ahead.values()))
    one.check_roster(world, one.feed_off())
    say(f"recovery: first new frame {found.first:.1f} s after the restart, of all {PARTITIONS} sources {found.all:.1f} s")
    return found
