"""The consumers that operators copy: killed in mid-stream, with events that come again, they have done everything and know what
is open. The alerts are a real worker's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from tests.kafka_fixtures import Kafka
from tests.system.harness import ROOT, until
from tests.system.reading import Logged
from tests.system.told import PARTITIONS, Told

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

# --- the two consumers as processes -------------------------------------------------------------------------------------


@dataclass
class Consumer:
    """One that was copied: how to start it, and everything that it said in all its lives."""

    topic: str
    command: list[str]
    listing: list[str]
    directory: Path
    output: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        with self.output.open("ab") as sink:
            process = subprocess.Popen([*self.command, *more], cwd=self.directory, stdout=sink, stderr=subprocess.STDOUT)
        self.processes.append(process)
        return process

    def acted(self) -> list[str]:
        """Event ids in the order in which they were acted upon. The last line may have been cut off by a kill."""
        lines = self.output.read_bytes().split(b"\n")[:-1] if self.output.exists() else []
        return [orjson.loads(line)["event_id"] for line in lines if line.startswith(b"{")]

    def end(self) -> str:
        """Read to the end of the topic; what it said in all."""
        assert self.start("--once").wait(60) == 0, self.output.read_text()
        return self.output.read_text()

    def open(self) -> list[dict[str, Any]]:
        done = subprocess.run(self.listing, cwd=self.directory, capture_output=True, check=True)
        return [orjson.loads(line) for line in done.stdout.splitlines()]

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


QUICK = {"session.timeout.ms": "3000", "heartbeat.interval.ms": "500"}
"""A consumer that was killed is missed after this; in between nobody reads its partitions."""


def python_consumer(bootstrap: str, topic: str, directory: Path) -> Consumer:
    script = [sys.executable, str(ROOT / "examples" / "consumer_python.py"), "--state", "state.sqlite"]
    sets = [f"--set={key}={value}" for key, value in QUICK.items()]
    command = [*script, "--brokers", bootstrap, "--topic", topic, "--group", topic, *sets]
    return Consumer(topic, command, [*script, "--list"], directory, directory / "output")


@pytest.fixture(scope="session")
def java_classes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The class path of the Java consumer, built by Maven from a copy."""
    for program in ("java", "javac", "mvn"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}: install a JDK of 17 or newer and Maven (apt install openjdk-17-jdk-headless maven)")
    copy = tmp_path_factory.mktemp("java") / "consumer"
    shutil.copytree(ROOT / "examples" / "consumer-java", copy, ignore=shutil.ignore_patterns("target"))
    done = subprocess.run(["mvn", "-B", "-q", "package"], cwd=copy, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return f"{copy}/target/alert-consumer.jar:{copy}/target/lib/*"


def java_consumer(classes: str, bootstrap: str, topic: str, directory: Path) -> Consumer:
    settings = {"bootstrap.servers": bootstrap, "group.id": topic, **QUICK}
    (directory / "client.properties").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    java = ["java", "-XX:+UseSerialGC", "-Xmx128m", "-cp", classes, "example.AlertConsumer"]
    command = [*java, "client.properties", topic, "state.json"]
    return Consumer(topic, command, [*java, "--list", "state.json"], directory, directory / "output")


@pytest.fixture(params=["python", "java"])
def consumer(request: pytest.FixtureRequest, kafka: Kafka, tmp_path: Path) -> Iterator[Consumer]:
    topic = kafka.create_topic("alerts", partitions=PARTITIONS)
    if request.param == "python":
        made = python_consumer(kafka.bootstrap, topic, tmp_path)
    else:
        made = java_consumer(request.getfixturevalue("java_classes"), kafka.bootstrap, topic, tmp_path)
    yield made
    made.close()


def write(producer: Producer, topic: str, records: list[Logged]) -> None:
    for record in records:
        producer.produce(topic, record.value, record.key, partition=record.partition, headers=list(record.headers.items()))
    assert producer.flush(30) == 0


def assert_in_order(acted: list[str]) -> None:
    """Of each episode the events in order, none twice."""
    newest: dict[str, int] = {}
    for identity in acted:
        episode, sequence = identity.split("/")
        assert int(sequence) == newest.get(episode, 0) + 1, identity
        newest[episode] = int(sequence)


def test_every_event_is_acted_upon_once_and_in_order_also_if_it_comes_again(
    consumer: Consumer, kafka: Kafka, told: Told
) -> None:
    assert len(told.ids) == len(told.records) > 60
    assert len(told.open) >= 2
    producer = kafka.producer()
    write(producer, consumer.topic, told.records)
    write(producer, consumer.topic, told.records[-40:] + told.records[:40])  # a worker that was restored sends them again
    write(producer, consumer.topic, [Logged(0, 0, 0, b"k", value, {}) for value in (b"junk", b"[]", b'{"schema": "x/2"}')])
    output = consumer.end()
    assert output.count("is no alert") == 3
    assert set(consumer.acted()) == told.ids
    assert_in_order(consumer.acted())
    assert {event["episode_id"]: event for event in consumer.open()} == told.open
    ages = [event["opened_at"] for event in consumer.open()]
    assert ages == sorted(ages)
    consumer.end()
    assert len(consumer.acted()) == len(told.ids), "nothing is done again after a restart in order"


def test_killed_at_any_moment_it_has_done_everything_and_knows_what_is_open(
    consumer: Consumer, kafka: Kafka, told: Told
) -> None:
    """Pieces of the log, each beginning before the end of the last; a kill as soon as something of the piece was done."""
    producer, pieces, size = kafka.producer(), 3, len(told.records) // 3 + 1
    for number in range(pieces):
        done = len(consumer.acted())
        process = consumer.start()
        write(producer, consumer.topic, told.records[max(0, number * size - 15) : (number + 1) * size])
        until(lambda before=done: len(consumer.acted()) > before, f"something of piece {number} is done", 60)
        process.kill()
        process.wait()
    consumer.end()
    assert set(consumer.acted()) == told.ids
    assert {event["episode_id"]: event for event in consumer.open()} == told.open


def test_it_ends_in_order_when_it_is_told_to(consumer: Consumer, kafka: Kafka, told: Told) -> None:
    """SIGTERM: it leaves the group, and the next one goes on at once, where it was."""
    producer = kafka.producer()
    write(producer, consumer.topic, told.records[:20])
    process = consumer.start()
    until(lambda: len(consumer.acted()) == 20, "the first are done", 60)
    process.terminate()
    assert process.wait(20) in (0, 143)
    write(producer, consumer.topic, told.records[20:])
    consumer.end()
    assert set(consumer.acted()) == told.ids
