"""Toy workers as processes, and the producer that feeds them."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.kafka_fixtures import Kafka

ROOT = Path(__file__).parents[2]
PARTITIONS = 8


def until(condition: Callable[[], Any], what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(0.02)


class ToyWorker:
    def __init__(self, options: dict[str, Any], output: Path) -> None:
        self.output = output
        command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("toy_worker.py")), json.dumps(options)]
        with output.open("wb") as sink:
            self.process = subprocess.Popen(
                command, stdout=sink, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(ROOT)}
            )

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def wait_for(self, text: str, times: int = 1, timeout_s: float = 30.0) -> None:
        def seen() -> bool:
            if self.text().count(text) >= times:
                return True
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} before {text!r}:\n{self.text()[-4000:]}")
            return False

        until(seen, f"{text!r} from the worker", timeout_s)

    def send(self, what: signal.Signals) -> None:
        self.process.send_signal(what)

    def status(self, timeout_s: float = 30.0) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end:\n{self.text()[-4000:]}") from None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.send(signal.SIGTERM)
        assert self.status() == 0, self.text()[-4000:]


class Bench:
    """One topic, one group, one ledger: any number of workers."""

    def __init__(self, kafka: Kafka, directory: Path) -> None:
        self.kafka = kafka
        self.directory = directory
        self.group = f"group-{directory.name}-{time.time_ns()}"
        self.topic = kafka.create_topic("toy", partitions=PARTITIONS)
        self.produced = 0
        self.workers: list[ToyWorker] = []

    def worker(self, **options: Any) -> ToyWorker:
        base = {
            "directory": str(self.directory),
            "group": self.group,
            "brokers": self.kafka.bootstrap,
            "topic": self.topic,
            "partitions": PARTITIONS,
        }
        worker = ToyWorker(base | options, self.directory / f"output{len(self.workers)}")
        self.workers.append(worker)
        return worker

    def produce(self, count: int, per_second: float | None = None, stop: threading.Event | None = None) -> None:
        """`count` records, round robin; returns when all are acknowledged."""
        producer = self.kafka.producer(message_timeout_ms=60_000)
        failed: list[object] = []
        began, first = time.monotonic(), self.produced
        for number in range(first, first + count):
            producer.produce(
                self.topic,
                struct.pack("<q", number),
                partition=number % PARTITIONS,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            self.produced += 1
            if number % 64 == 0:
                producer.poll(0)
                if per_second is not None:
                    time.sleep(max(0.0, began + (number - first) / per_second - time.monotonic()))
                if stop is not None and stop.is_set():
                    break
        assert producer.flush(60) == 0
        assert not failed

    def segments(self, partition: int) -> list[tuple[int, int, Path]]:
        found = []
        for file in self.directory.glob(f"p{partition:03}-*.bin"):
            start, end = file.stem.split("-")[1:3]
            found.append((int(start), int(end), file))
        return sorted(found)

    def saved(self) -> list[int]:
        return [max((end for _, end, _ in self.segments(p)), default=0) for p in range(PARTITIONS)]

    def wait_more_saved(self, count: int) -> None:
        before = sum(self.saved())
        until(lambda: sum(self.saved()) > before + count, f"{count} more saved than {before}")

    def wait_all_saved(self, timeout_s: float = 30.0) -> None:
        until(lambda: sum(self.saved()) >= self.produced, f"all {self.produced} saved, now {self.saved()}", timeout_s)

    def check_ledger(self) -> None:
        """Every record once, in order, in the chain of snapshots; nothing beyond what was produced."""
        assert sum(self.saved()) == self.produced
        for partition in range(PARTITIONS):
            at = 0
            for start, end, file in self.segments(partition):
                assert start <= at, f"partition {partition}: a hole from {at} to {start}"
                due = np.arange(start, end, dtype=np.int64) * PARTITIONS + partition
                assert file.read_bytes() == due.astype("<i8").tobytes()
                at = max(at, end)


@pytest.fixture
def bench(kafka: Kafka, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(kafka, tmp_path)
    yield bench
    for worker in bench.workers:
        if worker.process.poll() is None:
            worker.send(signal.SIGCONT)
            worker.kill()
