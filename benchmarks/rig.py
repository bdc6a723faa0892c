"""What the benchmarks stand on: a Kafka of their own, processes on cores of their own, and a way to look at them.

The broker, the feed and this process share one core, what is measured has the other: on one core nothing that runs beside it
is hidden in its figure, and on a third there would be nothing to do. With a single core all share it, and figures are low.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.feed import EAST, NORTH, OPERATORS, PER_HECTARE, RESOLUTION, SOUTH, WEST
from deploy.kafka_local import KafkaCluster, free_port
from streams.settings import Settings, load
from streams.topics import create

PARTITIONS = 24
CITY = "benchton"
FEED_TOPIC = "bike.pings"
WORKER = "BENCH_WORKER"
"""Environment variable: the command to start a worker with instead of the program's own, for a profiler."""
PATIENCE_S = 300.0

_CORES = sorted(os.sched_getaffinity(0))
OTHERS, MEASURED = _CORES[0], _CORES[-1]
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ROOT = Path(__file__).parent.parent


class BenchError(RuntimeError):
    """A benchmark could not be run, or an answer is wrong."""


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def require(truth: bool, text: str) -> None:
    """An answer is checked before its speed is believed."""
    if not truth:
        raise BenchError(text)


class Process:
    """A child on a core of its own. Its output goes to a file, which the error shows if it fails."""

    def __init__(self, command: list[str], log: Path, core: int | None, *, piped: bool = False) -> None:
        self.log = log
        affinity = set(_CORES) if core is None else {core}
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                command,
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else out,
                stderr=out,
                text=True,
                preexec_fn=lambda: os.sched_setaffinity(0, affinity),  # noqa: PLW1509 - before there are threads
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def check(self) -> None:
        if self.popen.poll() is not None:
            raise BenchError(f"a process ended early ({self.popen.returncode}): {self.tail()}")

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def line(self) -> str:
        """The next line that it prints."""
        assert self.popen.stdout is not None
        text = self.popen.stdout.readline()
        if not text:
            self.popen.wait(10)
            self.check()
        return text.strip()

    def cpu_s(self) -> float:
        """CPU time of all its threads, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def rss_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(how)
            try:
                self.popen.wait(40)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()


Metrics = Mapping[str, float]


@dataclass
class Worker:
    """A running worker and how to look at it."""

    process: Process
    port: int

    def metrics(self) -> Metrics:
        """Sum by name, and by name and label values: `pings`, `pings/alpha/accepted`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as response:
            text = response.read().decode()
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if not sample.name.startswith("urban_brain_") or sample.name.endswith("_bucket"):
                    continue
                name = sample.name.removeprefix("urban_brain_")
                found["/".join((name, *sample.labels.values()))] = sample.value
                if sample.labels:
                    found[name] = found.get(name, 0.0) + sample.value
        return found

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def roster(self, metrics: Metrics | None = None) -> dict[str, int]:
        metrics = metrics or self.metrics()
        return {name: int(metrics.get(f"roster_bikes/{CITY}/{name}", -1)) for name in OPERATORS}


@dataclass
class Rig:
    """Kafka in a temporary folder, and every process that was started, to be ended with it."""

    folder: Path
    kafka: KafkaCluster
    processes: list[Process] = field(default_factory=list)

    @classmethod
    @contextmanager
    def up(cls) -> Iterator[Self]:
        os.sched_setaffinity(0, {OTHERS})
        folder = Path(tempfile.mkdtemp(prefix="urban-brain-bench-"))
        # Segments of a gigabyte: rolling and cleaning input logs is not what is measured.
        kafka = KafkaCluster(folder / "kafka", properties={"log.segment.bytes": 1 << 30})
        rig = cls(folder, kafka)
        try:
            kafka.start()
            yield rig
        finally:
            for process in rig.processes:
                process.stop(signal.SIGKILL)
            kafka.kill()
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def bootstrap(self) -> str:
        return self.kafka.bootstrap

    def start(self, name: str, command: list[str], core: int | None, *, piped: bool = False) -> Process:
        process = Process(command, self.folder / f"{name}.log", core, piped=piped)
        self.processes.append(process)
        return process

    def module(self, name: str, *arguments: str, core: int | None) -> Process:
        """A module of the benchmarks; what it prints comes by `Process.line`."""
        command = [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--bootstrap", self.bootstrap]
        return self.start(name, command, core, piped=True)

    def result(self, name: str, *arguments: str, core: int | None) -> dict[str, Any]:
        """What a module prints in the end."""
        process = self.module(name, *arguments, core=core)
        text, _ = process.popen.communicate(timeout=PATIENCE_S)
        require(process.popen.returncode == 0, f"benchmarks.{name} failed: {process.tail()}")
        return dict(json.loads(text.splitlines()[-1]))

    def topic(self, name: str, partitions: int, **config: str) -> None:
        new = NewTopic(name, partitions, 1, config={key.replace("_", "."): value for key, value in config.items()})
        admin = AdminClient({"bootstrap.servers": self.bootstrap})  # must outlive the answers
        for answer in admin.create_topics([new]).values():
            answer.result()

    def deploy(self, name: str, *, clock: str, feed: str, snapshot_interval: str, rule: str = "") -> Deployed:
        """Write a configuration and make its topics."""
        port = free_port({port for ports in self.kafka.ports.values() for port in ports})
        path = self.folder / f"{name}.toml"
        path.write_text(
            configuration(self.bootstrap, name=name, clock=clock, feed=feed, interval=snapshot_interval, port=port, rule=rule)
        )
        settings = load(path)
        create(settings)
        return Deployed(self, name, path, settings, port)


@dataclass(frozen=True)
class Deployed:
    """A configuration with its topics."""

    rig: Rig
    name: str
    path: Path
    settings: Settings
    port: int

    def start(self) -> Worker:
        command = shlex.split(os.environ.get(WORKER, f"{sys.executable} -m agents"))
        return Worker(self.rig.start(self.name, [*command, "worker", "--config", str(self.path)], MEASURED), self.port)

    def tail(self, topic: str, *, from_start: bool = True) -> Tail:
        return Tail(self.rig.bootstrap, topic, from_start=from_start)


class Tail:
    """Reads partition 0 of a topic as it grows."""

    def __init__(self, bootstrap: str, topic: str, *, from_start: bool = True) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench-tail", "enable.auto.commit": False})
        self._place = TopicPartition(topic, 0)
        low, high = self._bounds()
        self._consumer.assign([TopicPartition(topic, 0, low if from_start else high)])

    def _bounds(self) -> tuple[int, int]:
        """A topic that was just made has no leader for a moment."""
        deadline = time.monotonic() + 10
        while True:
            try:
                low, high = self._consumer.get_watermark_offsets(self._place, timeout=10)
                return low, high
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def poll(self, timeout_s: float = 0.05) -> list[Any]:
        messages = self._consumer.consume(1000, timeout_s)
        return [message for message in messages if message.error() is None]

    def rest(self) -> list[Any]:
        """Everything up to the present end."""
        _, high = self._bounds()
        found: list[Any] = []
        while self._consumer.position([self._place])[0].offset < high and not (found and found[-1].offset() >= high - 1):
            found += self.poll(0.2)
        return found

    def close(self) -> None:
        self._consumer.close()


def wait_for(what: str, condition: Callable[[], bool], *watched: Process, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        for process in watched:
            process.check()
        if time.monotonic() > deadline:
            raise BenchError(f"waited {patience_s:.0f} s in vain for {what}. {''.join(p.tail() for p in watched)}")
        time.sleep(0.05)


RULE = 'for = "60s"\nkeep_firing_for = "60s"\ncooldown = "10m"\nupdate_interval = "60s"'
"""That of `answer.py`."""


def configuration(
    brokers: str, *, name: str = "bench", clock: str = "replay", feed: str = FEED_TOPIC, interval: str = "30s", port: int = 0,
    rule: str = "",
) -> str:  # fmt: skip
    """A deployment, the network and one city that covers the feed, as TOML."""
    return _CONFIGURATION.format(
        brokers=brokers, clock=clock, name=name, snapshot_interval=interval, port=port, feed=feed,
        operators=json.dumps(OPERATORS), partitions=PARTITIONS, city=CITY, south=SOUTH - 0.1, west=WEST - 0.1,
        north=NORTH + 0.1, east=EAST + 0.1, per_hectare=PER_HECTARE, resolution=RESOLUTION, rule=rule or RULE,
    )  # fmt: skip


_CONFIGURATION = """
[deployment]
brokers = ["{brokers}"]
clock = "{clock}"
app_id = "{name}"
instance_id = "bench-worker"
topic_prefix = "{name}."
snapshot_interval = "{snapshot_interval}"
http_host = "127.0.0.1"
http_port = {port}

[network]
tick = "5s"
operators = {operators}
control = {{ policies = false, responses = false }}  # the feed is all that is measured

[[network.feeds]]
topic = "{feed}"
gateway = true
partitions = {partitions}

[city]
name = "{city}"
time_zone = "Asia/Shanghai"
boundary = {{ south = {south:.2f}, west = {west:.2f}, north = {north:.2f}, east = {east:.2f} }}

[city.planning]
enabled = false   # the answer is counted without a plan

[[city.rules]]
id = "crowded-cell"
name = "Too many parked bikes in one place"
per_hectare = {per_hectare}
resolution = {resolution}
{rule}
"""
