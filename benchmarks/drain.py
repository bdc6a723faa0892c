"""Yardstick (a): a bare drain of the log by librdkafka, the most that a Python program gets out of Kafka record by record.

    python -m benchmarks.drain --bootstrap B --topic T --records N --warm W

One process on whatever core it is put on. It looks at nothing. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, TopicPartition

# Tuned for one core: large fetches, and no pause when a fetch queue is full.
CONSUMER: dict[str, Any] = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "fetch.queue.backoff.ms": 5,
    "queued.min.messages": 200_000,
    "fetch.message.max.bytes": 4 << 20,
}


@dataclass
class Watch:
    """Wall and CPU time from the first record past the warm-up on."""

    records: int
    warm: int
    taken: int = 0
    started: tuple[int, float, float] | None = field(default=None)

    def saw(self, count: int) -> bool:
        """Some more records were taken; is that all of them?"""
        self.taken += count
        if self.started is None and self.taken >= self.warm:
            self.started = (self.taken, time.perf_counter(), time.process_time())
        return self.taken >= self.records

    def result(self) -> dict[str, Any]:
        assert self.started is not None, "the log is shorter than the warm-up"
        before, wall, cpu = self.started
        count, wall_s, cpu_s = self.taken - before, time.perf_counter() - wall, time.process_time() - cpu
        return {"records": count, "wall_s": wall_s, "cpu_s": cpu_s, "per_s": count / wall_s, "per_cpu_s": count / cpu_s}


def arguments(text: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--records", type=int, required=True, help="in the topic, clock records included")
    parser.add_argument("--warm", type=int, required=True, help="so many are taken before the watch starts")
    return parser


def reader(options: argparse.Namespace) -> Consumer:
    """A consumer of the whole topic from its start."""
    consumer = Consumer({"bootstrap.servers": options.bootstrap, "group.id": f"yardstick-{os.getpid()}", **CONSUMER})
    partitions = consumer.list_topics(options.topic, timeout=10).topics[options.topic].partitions
    consumer.assign([TopicPartition(options.topic, partition, 0) for partition in partitions])
    return consumer


def main() -> None:
    options = arguments(__doc__).parse_args()
    consumer = reader(options)
    watch = Watch(options.records, options.warm)
    while not watch.saw(len(consumer.consume(10_000, 0.2))):
        pass
    print(json.dumps(watch.result()), flush=True)
    os._exit(0)  # closing would wait for fetches under way


if __name__ == "__main__":
    main()
