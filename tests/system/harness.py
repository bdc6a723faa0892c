"""Real workers as processes on a real Kafka: starting, killing, waiting for what they do, and what the backtest says of the
same log.

Nothing here sleeps for a guess: every wait has a condition and a deadline, and fails with the workers' logs.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, cast

import orjson
from confluent_kafka.admin import AdminClient

from agents.backtest import Backtest
from geo.city import Event
from streams.feeds.records import FeedRecord
from streams.pings import Feed
from streams.settings import Settings, load
from tests.system.configuring import configuration
from tests.system.reading import Logged, read_topic

ROOT = Path(__file__).parents[2]


def until(condition: Callable[[], Any], what: str, timeout_s: float = 45.0) -> Any:
    """The condition's first true value. Fails after the deadline, with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(0.05)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Worker:
    """One `urban-brain worker`. Its output goes to a file."""

    def __init__(self, config: Path, output: Path, environment: dict[str, str]) -> None:
        self.output = output
        self.port = free_port()
        self.ended = False  # on purpose, by the test
        own = {"URBAN_BRAIN_HTTP_PORT": str(self.port), "URBAN_BRAIN_HTTP_HOST": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
        with output.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agents", "worker", "--config", str(config)],
                stdout=sink, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ, **environment, **own},
            )  # fmt: skip

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def tail(self) -> str:
        return f"{self.output.name} (status {self.process.poll()}):\n{self.text()[-5000:]}"

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait_for(self, text: str, *, times: int = 1, timeout_s: float = 45.0) -> None:
        def seen() -> bool:
            found = self.text().count(text) >= times
            assert found or self.running, f"ended before it said {text!r}: {self.tail()}"
            return found

        until(seen, f"{text!r} from {self.output.name}", timeout_s)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of its pages; status 0 while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> bool:
        assert self.running, self.tail()
        return self.get("/ready")[0] == 200

    def metric(self, name: str) -> dict[str, float]:
        """label text -> value of one metric."""
        pattern = re.compile(rf"^{name}(?:{{(.*)}})? (\S+)$", re.M)
        return {labels or "": float(value) for labels, value in pattern.findall(self.get("/metrics")[1])}

    def send(self, what: signal.Signals) -> None:
        self.process.send_signal(what)

    def status(self, timeout_s: float = 30.0) -> int:
        """The exit status of a worker that should end; fails if it does not."""
        self.ended = True
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {timeout_s:.0f} s: {self.tail()}") from None

    def kill(self) -> None:
        self.ended = True
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.send(signal.SIGTERM)
        assert self.status() == 0, self.tail()


@dataclass
class System:
    """One deployment with names of its own on a cluster that others use too."""

    bootstrap: str
    directory: Path
    settings: Settings
    config: Path
    workers: list[Worker] = field(default_factory=list)

    # --- running --------------------------------------------------------------------------------------------------------

    def command(self, *arguments: str | Path, timeout_s: float = 100.0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `urban-brain …` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "agents", *map(str, arguments), "--config", str(self.config)],
            capture_output=True, text=True, timeout=timeout_s, cwd=ROOT, check=False, env={**os.environ, **environment},
        )  # fmt: skip

    def run(self, *arguments: str | Path, timeout_s: float = 100.0) -> str:
        done = self.command(*arguments, timeout_s=timeout_s)
        assert done.returncode == 0, f"{arguments}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def worker(self, config: Path | None = None, **environment: str) -> Worker:
        """Start a worker; keywords become URBAN_BRAIN_… variables."""
        variables = {f"URBAN_BRAIN_{key.upper()}": value for key, value in environment.items()}
        output = self.directory / f"worker{len(self.workers)}.log"
        self.workers.append(Worker(config or self.config, output, variables))
        return self.workers[-1]

    def close(self) -> None:
        for worker in self.workers:
            if worker.running:
                worker.send(signal.SIGCONT)
                worker.kill()

    def tails(self) -> str:
        return "\n".join(worker.tail() for worker in self.workers)

    # --- what the topics hold -------------------------------------------------------------------------------------------

    def read(self, topic: str) -> list[Logged]:
        """All of a topic, partition by partition."""
        return read_topic(self.bootstrap, topic)

    def progress(self) -> dict[str, int]:
        """city -> newest tick that it says to have closed."""
        told: dict[str, int] = {}
        for record in self.read(self.settings.topics.progress):
            assert record.key is not None and record.value is not None
            city, tick = record.key.decode(), int(orjson.loads(record.value)["tick"])
            told[city] = max(tick, told.get(city, -1))
        return told

    def input_log(self) -> list[FeedRecord]:
        """What the input topics hold, in order of record time, clock records (value None) included."""
        records: list[FeedRecord] = []
        for control in self.settings.controls:  # written while a replay runs, a document is of the tick that is open then
            logged = self.read(control.topic)
            clock = accumulate((r.time_ms for r in logged), max)
            records += [FeedRecord(ms, control.topic, b"", cast(bytes, r.value)) for ms, r in zip(clock, logged, strict=True)]
        for feed in self.settings.feeds:
            topic, logged = feed.topic, self.read(feed.topic)
            for before, after in pairwise(logged):
                assert before.partition != after.partition or before.time_ms <= after.time_ms, f"not sorted: {before}, {after}"
            records += [FeedRecord(r.time_ms, topic, r.key or b"", cast(bytes, r.value)) for r in logged]
        return sorted(records, key=lambda record: record.record_ms)

    def newest_input_ms(self) -> int:
        """Record time of the newest record of the inputs."""
        return self.input_log()[-1].record_ms

    def backtest(self, records: Iterable[FeedRecord] | None = None) -> list[Event]:
        """What the backtest makes of the records, or of what the input topics hold."""
        return list(self.backtester().run(self.input_log() if records is None else records))

    def backtester(self, partitions: int = 1) -> Backtest:
        feeds = [Feed(f.topic, f.operator, f.coordinates, f.format) for f in self.settings.feeds]
        return Backtest(self.settings.timeline, feeds, partitions, self.settings.controls)

    def events(self, topic: str | None = None) -> dict[str, list[bytes]]:
        """city -> bodies of the distinct alert events, by first occurrence. Repeats must have the same bytes."""
        bodies: dict[bytes, bytes] = {}
        for record in self.read(topic or self.settings.topics.alerts):
            assert record.value is not None
            first = bodies.setdefault(record.headers["ce_id"], record.value)
            assert first == record.value, f"two bodies of event {record.headers['ce_id']!r}:\n{first!r}\n{record.value!r}"
        by_city: dict[str, list[bytes]] = {city: [] for city in self.settings.facts_partition}
        for body in bodies.values():
            by_city[orjson.loads(body)["city"]].append(body)
        return by_city

    def event_records(self) -> int:
        """How many events the topic of all alerts holds, repeats included."""
        return len(self.read(self.settings.topics.alerts))

    def open_alerts(self) -> dict[bytes, bytes]:
        """What `alerts.open` holds."""
        return self.compacted(self.settings.topics.alerts_open)

    def compacted(self, topic: str) -> dict[bytes, bytes]:
        """What a topic holds once it is compacted."""
        newest: dict[bytes, bytes] = {}
        for record in self.read(topic):
            assert record.key is not None
            if record.value is None:
                newest.pop(record.key, None)
            else:
                newest[record.key] = record.value
        return newest

    def roster(self, *workers: Worker) -> int:
        """Standing bikes in all cities of these workers."""
        return int(sum(sum(worker.metric("urban_brain_roster_bikes").values()) for worker in workers if worker.running))

    def members(self) -> int:
        """How many workers are in the group, as Kafka sees it."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        group = self.settings.deployment.app_id
        return len(admin.describe_consumer_groups([group])[group].result(10).members)

    # --- waiting --------------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
        """As `until`; fails at once when a worker ends that should run, and shows what the workers said."""

        def met() -> Any:
            value = condition()
            if not value:
                dead = [worker for worker in self.workers if not worker.running and not worker.ended]
                assert not dead, "a worker ended by itself"
            return value

        try:
            return until(met, what, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tails()}") from None

    def wait_progress(self, tick: int, timeout_s: float = 60.0) -> None:
        """Until every city has closed the tick."""
        cities = set(self.settings.facts_partition)

        def reached() -> bool:
            told = self.progress()
            return told.keys() == cities and min(told.values()) >= tick

        self.until(reached, f"progress to tick {tick}", timeout_s)

    def wait_events(self, count: int, timeout_s: float = 60.0) -> None:
        """Until the topic of all alerts holds so many records."""
        self.until(lambda: self.event_records() >= count, f"{count} events", timeout_s)

    def wait_ready(self, *workers: Worker, timeout_s: float = 45.0) -> None:
        for worker in workers:
            self.until(worker.ready, f"{worker.output.name} is ready", timeout_s)

    # --- trouble --------------------------------------------------------------------------------------------------------

    def kill_in_mid_stream(self, worker: Worker, *, times: int, every: int, of: int) -> Worker:
        """Kill the only worker, of instance id "one", each time it has told `every` more events, and start another; gives the last.

        of: how many events there will be: all kills come before that.
        """
        for _ in range(times):
            self.wait_events(self.event_records() + every)
            assert self.event_records() < of, "a kill must come in mid-stream"
            worker.kill()
            worker = self.worker(instance_id="one")
            self.wait_ready(worker)
        return worker

    # --- judging --------------------------------------------------------------------------------------------------------

    def assert_events_are_the_backtests(self, log: Sequence[FeedRecord] | None = None) -> int:
        """The same with what the backtest makes of the log that the input topics hold."""
        return self.assert_events_are(self.backtest(log))

    def assert_events_are(self, wanted: Iterable[Event]) -> int:
        """The distinct events of each city are these, to the byte, as far as the city has come; gives how many.

        To be called when all workers have stopped, or when nothing more can happen.
        """
        through = self.progress()
        due = [event for event in wanted if event.tick <= through[event.city]]
        for topic, on_trial in ((self.settings.topics.alerts, False), (self.settings.topics.alerts_shadow, True)):
            for city, bodies in self.events(topic).items():
                assert_same(bodies, [event.body for event in due if event.city == city and event.shadow is on_trial])
        for operator in self.settings.timeline.operators:
            told = [event for event in due if event.operator == operator]
            for city, bodies in self.events(self.settings.topics.operator_topic(operator)).items():
                assert_same(bodies, [event.operator_body for event in told if event.city == city and event.operator_body])
        return len(due)


def assert_same(got: Sequence[bytes], want: Sequence[bytes]) -> None:
    """Says where two runs of events part, not all of both."""
    for number, (one, other) in enumerate(zip(got, want, strict=False)):
        assert one == other, f"event {number} of {len(want)} differs:\n{one!r}\nshould be\n{other!r}"
    assert len(got) == len(want), f"{len(got)} events, {len(want)} should be: {[*got, *want][min(len(got), len(want))]!r}"


def make_system(bootstrap: str, directory: Path, **options: Any) -> System:
    """A new deployment, its topics made."""
    name = f"t{time.time_ns():x}"
    config = directory / "city.toml"
    config.write_text(configuration(bootstrap, name, **options))
    system = System(bootstrap, directory, load(config), config)
    system.run("topics", "create")
    return system
