"""How a worker begins and ends: what it refuses at once, what it leaves behind in order, what it shows while it runs."""

from __future__ import annotations

import re
import signal
import time

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewTopic
from prometheus_client.parser import text_string_to_metric_families

from geo.city import CityState
from streams.feeds.producing import produce
from tests.kafka_fixtures import Kafka
from tests.simulation.city import pings
from tests.system.conftest import MakeSystem
from tests.system.harness import System, Worker

pytestmark = pytest.mark.kafka

TICK_MS = 5_000
NETWORK = 'ttl = "300s"\nsilent_after = { alpha = "90s", beta = "90s" }'


def fill(system: System, start: int = 0, stop: int = 3000, prefix: bytes = b"b") -> None:
    """Some records of one log (of bikes whose ids begin with `prefix`), worked on to their end."""
    log = pings(1, 4000)
    closed_ms = (log[start - 1].record_ms // TICK_MS + 1) * TICK_MS if start else 0
    topic = system.settings.feeds[0].topic
    records = [
        record._replace(topic=topic, value=record.value.replace(b'"bike_id":"b', b'"bike_id":"' + prefix))
        for record in log[start:stop]
        if record.record_ms >= closed_ms
    ]
    produce(system.settings, records, speed=None)
    system.wait_progress(records[-1].record_ms // TICK_MS)


def refused(system: System, status: int, **environment: str) -> str:
    """What a worker says that must not start; at once, and without a traceback."""
    began = time.monotonic()
    done = system.command("worker", timeout_s=30, **environment)
    assert done.returncode == status, done.stderr
    assert time.monotonic() - began < 20
    assert "Traceback" not in done.stderr
    return done.stderr


def test_missing_and_wrong_topics_are_refused_at_once_with_the_remedy(deploy: MakeSystem, kafka: Kafka) -> None:
    system = deploy(partitions=2)
    names = system.settings.topics
    gone = [names.alerts, names.changelog(names.facts)]
    for name, future in kafka.admin.delete_topics(gone).items():
        assert future.result(10) is None, name
    system.until(lambda: not {*gone} & kafka.admin.list_topics(timeout=10).topics.keys(), "the topics are gone")
    told = refused(system, 2)
    for name in gone:
        assert f"topic {name}: must exist with 1 partitions, found no such topic. Run: urban-brain topics create." in told
    kafka.admin.create_topics([NewTopic(names.alerts, 3, 1)])[names.alerts].result(10)
    system.command("topics", "create")
    assert f"topic {names.alerts}: must have 1 partitions, found 3." in refused(system, 2)


def test_the_live_clock_refuses_topics_that_the_producer_stamps(deploy: MakeSystem) -> None:
    system = deploy(clock="replay")
    system.config.write_text(system.config.read_text().replace('clock = "replay"', 'clock = "live"'))
    told = refused(system, 2)
    assert "must have message.timestamp.type=LogAppendTime, found CreateTime. Run: urban-brain topics create --alter." in told


def test_a_second_worker_on_the_same_port_is_refused_with_the_remedy(deploy: MakeSystem) -> None:
    system = deploy()
    worker = system.worker()
    system.wait_ready(worker)
    told = refused(system, 2, URBAN_BRAIN_HTTP_PORT=str(worker.port), URBAN_BRAIN_HTTP_HOST="127.0.0.1")
    assert f"port {worker.port} on 127.0.0.1 is in use: give this worker another one (URBAN_BRAIN_HTTP_PORT)" in told


def committed(system: System, topic: str, partitions: int) -> list[int]:
    group = system.settings.deployment.app_id
    consumer = Consumer({"bootstrap.servers": system.bootstrap, "group.id": group, "log_level": 0})
    try:
        return [place.offset for place in consumer.committed([TopicPartition(topic, p) for p in range(partitions)], timeout=10)]
    finally:
        consumer.close()


def ends(system: System, topic: str) -> list[int]:
    logged = system.read(topic)
    return [max(r.offset for r in logged if r.partition == p) + 1 for p in sorted({r.partition for r in logged})]


def test_a_worker_that_is_asked_to_stop_leaves_nothing_to_do_again(deploy: MakeSystem) -> None:
    """SIGTERM: status 0, snapshots and commits at the ends of the logs; the next worker reads nothing twice."""
    system = deploy(operators=("alpha", "beta"), network=NETWORK, snapshots="1h")
    worker = system.worker()
    fill(system)
    worker.stop()
    for topic in (system.settings.feeds[0].topic, system.settings.topics.facts):
        assert committed(system, topic, len(ends(system, topic))) == ends(system, topic)
    before = system.event_records()
    assert before > 50
    successor = system.worker()
    system.wait_ready(successor)
    fill(system, 3000, 3100)
    assert sum(successor.metric("urban_brain_pings_total").values()) <= 110, "only what is new is read"
    events = system.read(system.settings.topics.alerts)
    assert len({event.headers["ce_id"] for event in events}) == len(events), "no event was sent twice"
    successor.stop()
    system.assert_events_are_the_backtests()


def test_a_worker_that_was_replaced_while_it_stood_still_ends_and_says_why(deploy: MakeSystem) -> None:
    system = deploy(operators=("alpha", "beta"), network=NETWORK, session="6s")
    old = system.worker(instance_id="one")
    fill(system)
    old.send(signal.SIGSTOP)
    new = system.worker(instance_id="one")
    new.wait_for("Worker ready")
    old.send(signal.SIGCONT)
    assert old.status() == 1, old.tail()
    assert "Kafka no longer knows this worker as 'one'" in old.text()
    assert "Remedy: give every running worker an instance id of its own" in old.text()
    fill(system, 3000, 3500)
    new.stop()
    system.assert_events_are_the_backtests()


METRICS = {
    "pings", "batch_records", "consumer_lag_records", "facts", "source_clock_timestamp_seconds", "city_clock_timestamp_seconds",
    "step_duration_seconds", "roster_bikes", "snapshot_duration_seconds", "snapshot_bytes", "recovering", "ready",
    "open_episodes", "alert_events", "source_complete_timestamp_seconds", "quarantined_records", "frame_conflicts",
}  # fmt: skip
CELL = re.compile(r"\b8[0-9a-f]{14}\b")
BIKE = re.compile(r"\bb\d+\b")


def series(worker: Worker) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    status, text = worker.get("/metrics")
    assert status == 200
    told = "\n".join(line.rsplit(" ", 1)[0] for line in text.splitlines())  # without values: 0.824715130002005 is no cell
    assert not BIKE.search(told)
    assert not CELL.search(told)
    families = list(text_string_to_metric_families(text))
    assert {f"urban_brain_{name}" for name in METRICS} <= {family.name for family in families}
    ours = [sample for family in families if family.name.startswith("urban_brain") for sample in family.samples]
    return {(sample.name, tuple(sorted(sample.labels.items()))) for sample in ours}


def test_a_worker_shows_that_it_is_ready_and_metrics_of_which_none_grows_with_the_bikes(deploy: MakeSystem) -> None:
    system = deploy(operators=("alpha", "beta"), network=NETWORK, snapshots="1s")
    worker = system.worker()
    system.wait_ready(worker)
    assert worker.get("/ready") == (200, '{"ready": true, "reasons": []}')
    assert worker.get("/")[0] == 200
    fill(system, 0, 2000)
    system.until(lambda: sum(worker.metric("urban_brain_snapshot_bytes").values()) > 0, "a snapshot")
    few = series(worker)
    assert sum(worker.metric("urban_brain_pings_total").values()) >= 2000
    assert system.roster(worker) == sum(city.roster_count() for city in run_of(system).values())
    fill(system, 2000, 4000, prefix=b"b9")
    assert len(series(worker) - few) < 30, "outcomes and states that had not been seen before; there are 30 new bikes"
    worker.stop()


def run_of(system: System) -> dict[str, CityState]:
    run = system.backtester()
    for _ in run.run(system.input_log()):
        pass
    return run.cities
