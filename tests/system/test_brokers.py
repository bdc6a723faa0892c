"""Brokers that are away, restarted, killed: the workers survive it, and nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from deploy.kafka_local import KafkaCluster
from tests.system.census import OPTIONS, Census, assert_nothing_is_lost
from tests.system.harness import System, Worker, make_system

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.usefixtures("kafka")]  # which skips where there is none

OUTAGES_S = [10, 75] if os.environ.get("URBAN_BRAIN_LONG_TESTS") == "1" else [10]
"""The long one costs two minutes."""


@pytest.fixture
def cluster_of(tmp_path: Path) -> Iterator[Callable[[int], KafkaCluster]]:
    """Start a cluster of so many nodes, for one test alone."""
    started: list[KafkaCluster] = []

    def start(nodes: int) -> KafkaCluster:
        started.append(KafkaCluster(tmp_path / "kafka", nodes, short_lived=True))
        started[-1].start()
        return started[-1]

    yield start
    for cluster in started:
        cluster.kill()


@pytest.fixture
def system_on(tmp_path: Path) -> Iterator[Callable[..., System]]:
    made: list[System] = []

    def make(cluster: KafkaCluster, **options: object) -> System:
        directory = tmp_path / "system"
        directory.mkdir()
        made.append(make_system(cluster.bootstrap, directory, **options))
        return made[-1]

    yield make
    for system in made:
        system.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("outage_s", OUTAGES_S)
def test_a_broker_that_is_away_at_the_start_and_later_is_waited_for(
    cluster_of: Callable[[int], KafkaCluster], system_on: Callable[..., System], outage_s: int
) -> None:
    cluster = cluster_of(1)
    system = system_on(cluster, **OPTIONS)
    cluster.stop()
    worker = system.worker()
    worker.wait_for("no broker answered", timeout_s=30)
    cluster.start()
    with Census(system) as census:
        census.watch(worker)
        cluster.stop()
        lines = worker.text().count("\n")
        with pytest.raises(AssertionError, match="not within"):
            system.until(lambda: False, "nobody gives up", outage_s)
        assert worker.running, worker.tail()
        assert worker.text().count("\n") - lines < 100 * outage_s, "it says so, and does not flood the log"
        cluster.start()
        census.wait(15_000)
        cluster.restart()
        census.wait(6_000)
    assert_nothing_is_lost(system, census)


@pytest.mark.timeout(240)
def test_a_worker_ends_in_seconds_also_while_the_broker_is_silent_or_away_and_commits_nothing_that_it_did_not_flush(
    cluster_of: Callable[[int], KafkaCluster], system_on: Callable[..., System]
) -> None:
    """Kubernetes kills after 30 s, and a client that waits for its broker would have waited for two minutes."""
    cluster = cluster_of(1)
    system = system_on(cluster, **OPTIONS, snapshots="1h")  # so that there is always something to write
    half_session_s = system.settings.deployment.session_timeout.total_seconds() / 2
    broker = cluster.alive(1)
    assert broker is not None
    with Census(system, per_second=800) as census:
        worker = system.worker()
        system.wait_ready(worker)
        census.wait(1600)
        os.kill(broker, signal.SIGSTOP)  # connections stay, nobody answers
        assert seconds_to_end(worker) < half_session_s + 5
        os.kill(broker, signal.SIGCONT)
        worker = system.worker()
        system.wait_ready(worker)
        census.wait(1600)
        cluster.stop()
        assert seconds_to_end(worker) < half_session_s + 5
        assert "not stopped in order" not in system.tails()
        cluster.start()
        worker = system.worker()
        system.wait_ready(worker)
        census.wait(1600)
    assert_nothing_is_lost(system, census)


def seconds_to_end(worker: Worker) -> float:
    """From SIGTERM on; what it has to write can not be written."""
    logged = worker.text().count("not released within")
    began = time.monotonic()
    worker.stop()
    assert worker.text().count("not released within") == logged + 1, "there was nothing to write: this proves nothing"
    return time.monotonic() - began


def coordinator_of(cluster: KafkaCluster, group: str) -> int:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    found = admin.describe_consumer_groups([group])[group].result(10).coordinator
    return int(found.id)


def controller_of(cluster: KafkaCluster) -> int:
    """The node that became the controller last, as the logs tell."""
    newest: dict[int, str] = {}
    for node in cluster.nodes:
        lines = cluster.log(node).read_text(errors="replace").splitlines()
        newest[node] = max((line[:23] for line in lines if "ecoming the active controller" in line), default="")
    return max(newest, key=newest.__getitem__)


@pytest.mark.timeout(240)
def test_killing_the_coordinator_with_its_partitions_and_then_the_controller_loses_nothing(
    cluster_of: Callable[[int], KafkaCluster], system_on: Callable[..., System]
) -> None:
    cluster = cluster_of(3)
    system = system_on(cluster, **OPTIONS, deployment="replication_factor = 3")
    with Census(system) as census:
        worker = system.worker()
        census.watch(worker)
        for victim in (coordinator_of(cluster, system.settings.deployment.app_id), controller_of(cluster)):
            cluster.kill(victim)
            census.wait(9_000)
            cluster.start(victim)
            census.wait(6_000)
    assert worker.running, worker.tail()
    assert_nothing_is_lost(system, census)
