"""The feed into Kafka, as a process of its own.

    python -m benchmarks.produce backlog …   a stretch of the stream as fast as it goes; record time is the stream's
    python -m benchmarks.produce live …      one ping of every bike, then the stream at the wall's pace until SIGTERM

Both print one line of JSON at the end. Live also says "primed" once every bike was heard.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from confluent_kafka import Producer

from benchmarks.feed import START_MS, Pings, World, seconds

SLICES = 20  # of a live second
_QUEUE = 400_000


class Sender:
    """A producer whose every failure is an error at the end."""

    def __init__(self, bootstrap: str, topic: str, *, linger_ms: int, batch_records: int) -> None:
        self._topic = topic
        self._failed: list[str] = []
        self.sent = 0
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "compression.type": "lz4",
                "linger.ms": linger_ms,
                "batch.num.messages": batch_records,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "queue.buffering.max.messages": _QUEUE,
                "queue.buffering.max.kbytes": 1 << 20,
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
            }
        )

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed.append(str(error))

    def send(self, values: Sequence[bytes], keys: Sequence[bytes], times_ms: Sequence[int]) -> None:
        produce, topic = self._producer.produce, self._topic
        while len(self._producer) + len(values) > _QUEUE:
            self._producer.poll(0.01)
        for value, key, time_ms in zip(values, keys, times_ms, strict=True):
            produce(topic, value, key, timestamp=time_ms)
        self._producer.poll(0)
        self.sent += len(values)

    def clock(self, partitions: int, time_ms: int) -> None:
        """A record without a value in every partition: time has come so far."""
        self._producer.flush(60)
        for partition in range(partitions):
            self._producer.produce(self._topic, partition=partition, timestamp=time_ms)

    def finish(self) -> None:
        left = self._producer.flush(60)
        if left or self._failed:
            raise SystemExit(f"the feed lost {left + len(self._failed)} records: {self._failed[:1]}")


def backlog(world: World, sender: Sender, count_s: int, partitions: int) -> None:
    for s, pings, device in seconds(world, count_s):
        record_ms = START_MS + s * 1000 + pings.ms
        sender.send(world.values(pings, START_MS + device), world.keys(pings), record_ms.tolist())
    sender.clock(partitions, START_MS + count_s * 1000)
    sender.finish()


class Live:
    """The stream at the wall's pace. Ends with a whole second, so that it is known where every bike is."""

    def __init__(self, world: World, sender: Sender, prime_per_s: int) -> None:
        self._world, self._sender, self._stop, self._prime_per_s = world, sender, False, prime_per_s
        signal.signal(signal.SIGTERM, self._told)

    def _told(self, *_: object) -> None:
        self._stop = True

    def run(self) -> int:
        """The last second that was sent, after SIGTERM."""
        everyone = self._world.everyone()
        begins_ms = _now_ms()
        for start in range(0, self._world.bikes, 1000):
            _wait_until(begins_ms + start * 1000 // self._prime_per_s)
            part = slice(start, start + 1000)
            pings = Pings(*(getattr(everyone, name)[part] for name in Pings.__slots__))
            device = np.full(len(pings.bike), _now_ms() - 1000)
            self._sender.send(self._world.values(pings, device), self._world.keys(pings), [0] * len(device))
        self._sender.finish()
        print("primed", flush=True)
        started, s = _now_ms() + 1000, 0
        while not self._stop:
            self._second(s, started + s * 1000)
            s += 1
        self._sender.finish()
        return s - 1

    def _second(self, s: int, begins_ms: int) -> None:
        pings = self._world.second(s)
        device = begins_ms + pings.ms - np.random.default_rng((s, 7)).integers(100, 1500, len(pings.ms))
        values, keys = self._world.values(pings, device), self._world.keys(pings)
        cuts = np.searchsorted(pings.ms, np.arange(SLICES + 1) * (1000 // SLICES)).tolist()
        for i, (start, stop) in enumerate(pairwise(cuts)):
            _wait_until(begins_ms + (i + 1) * (1000 // SLICES))
            self._sender.send(values[start:stop], keys[start:stop], [0] * (stop - start))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _wait_until(wall_ms: int) -> None:
    if (wait_ms := wall_ms - _now_ms()) > 0:
        time.sleep(wait_ms / 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("how", choices=["backlog", "live"])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, default=24)
    parser.add_argument("--bikes", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=600, help="of the backlog")
    parser.add_argument("--prime-per-s", type=int, default=100_000, help="pings a second until every bike was heard, live")
    options = parser.parse_args()
    world = World(options.bikes)
    live = options.how == "live"
    linger_ms, batch_records = (50, 10_000) if live else (500, 400)
    sender = Sender(options.bootstrap, options.topic, linger_ms=linger_ms, batch_records=batch_records)
    started, last = time.monotonic(), options.seconds - 1
    if live:
        last = Live(world, sender, options.prime_per_s).run()
    else:
        backlog(world, sender, options.seconds, options.partitions)
    print(json.dumps({"pings": sender.sent, "last_second": last, "seconds": round(time.monotonic() - started, 1)}), flush=True)


if __name__ == "__main__":
    main()
