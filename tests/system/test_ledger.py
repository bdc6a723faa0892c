"""Nothing that was acknowledged is lost, whatever happens to the workers: the city holds every bike, the events are the log's."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.kafka_fixtures import Kafka
from tests.system.census import OPTIONS, Census, assert_nothing_is_lost
from tests.system.conftest import MakeSystem
from tests.system.harness import System, Worker

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ASSIGNED = "Setting newly assigned partitions"


def more(census: Census, count: int) -> Callable[[], bool]:
    """A condition: so many more were acknowledged than now."""
    due = census.acknowledged + count
    return lambda: census.acknowledged >= due


def work_on(system: System, census: Census, worker: Worker) -> None:
    """Until the worker is at it, and has been for some thousand pings."""
    system.wait_ready(worker)
    system.until(more(census, 5000), "the load goes on")


def test_workers_that_come_and_go_and_die_under_load_lose_nothing(deploy: MakeSystem) -> None:
    """A backlog from before the group existed; then two rebalances in order and four kills, without static membership."""
    system = deploy(**OPTIONS, session="3s")
    with Census(system) as census:
        system.until(more(census, 10_000), "a backlog")
        worker = system.worker()
        work_on(system, census, worker)
        for _ in range(2):
            other = system.worker()
            work_on(system, census, other)
            other.stop()
        for _ in range(4):
            other = system.worker()
            work_on(system, census, other)
            worker.kill()
            worker = other
        system.until(more(census, 5000), "the load goes on")
    assert_nothing_is_lost(system, census)


def test_a_static_member_is_back_at_once_and_the_others_notice_nothing(deploy: MakeSystem) -> None:
    """SIGTERM, and then SIGKILL three times, within the session timeout."""
    system = deploy(**OPTIONS, session="12s")
    with Census(system) as census:
        one, two = system.worker(instance_id="one"), system.worker(instance_id="two")
        system.until(lambda: one.text().count(ASSIGNED) and two.text().count(ASSIGNED), "both have joined")
        work_on(system, census, one)
        work_on(system, census, two)
        assigned = one.text().count(ASSIGNED)
        for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL, signal.SIGKILL):
            if how == signal.SIGTERM:
                two.stop()
            else:
                two.kill()
            two = system.worker(instance_id="two")
            system.wait_ready(two, timeout_s=15)
            system.until(more(census, 3000), "the load goes on")
        assert one.text().count(ASSIGNED) == assigned
    two.stop()  # scaling in, in order: who shares the group waits for the session timeout, and nothing is lost
    assert_nothing_is_lost(system, census)


def limit_record_size(kafka: Kafka, topic: str, limit: int) -> None:
    entry = ConfigEntry("max.message.bytes", str(limit), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    kafka.admin.incremental_alter_configs([resource])[resource].result(10)


def test_a_snapshot_that_can_not_be_written_ends_the_worker_and_loses_nothing(deploy: MakeSystem, kafka: Kafka) -> None:
    system = deploy(**OPTIONS)
    topic = system.settings.topics.changelog(system.settings.feeds[0].topic)
    with Census(system) as census:
        worker = system.worker()
        work_on(system, census, worker)
        limit_record_size(kafka, topic, 500)
        assert worker.status() == 1
        assert "could not be written" in worker.text()
        limit_record_size(kafka, topic, 1 << 20)
        work_on(system, census, system.worker())
    assert_nothing_is_lost(system, census)


def test_a_group_that_was_forgotten_goes_on_from_the_snapshots(deploy: MakeSystem, kafka: Kafka) -> None:
    """Kafka forgets the commits of a group that was idle for a week; they never were where reading begins."""
    system = deploy(**OPTIONS)
    with Census(system) as census:
        worker = system.worker()
        work_on(system, census, worker)
        worker.stop()
        kafka.admin.delete_consumer_groups([system.settings.deployment.app_id])[system.settings.deployment.app_id].result(10)
        system.until(more(census, 5000), "a backlog")
        worker = system.worker()
        work_on(system, census, worker)
        assert worker.text().count("snapshot at tick") == len(system.settings.sources) + 1
    assert_nothing_is_lost(system, census)


def test_an_input_topic_that_was_made_anew_is_refused_with_the_remedy(deploy: MakeSystem, kafka: Kafka) -> None:
    """Its old snapshots belong to a log that is gone; following the remedy, every ping of the new one counts."""
    system = deploy(**OPTIONS)
    topic = system.settings.feeds[0].topic
    with Census(system) as census:
        worker = system.worker()
        work_on(system, census, worker)
    worker.stop()
    kafka.admin.delete_topics([topic])[topic].result(10)
    system.until(lambda: system.command("topics", "create").returncode == 0, "made anew")
    worker = system.worker()
    assert worker.status() == 1
    assert "the topic was made anew" in worker.text()
    assert "Remedy: " in worker.text()
