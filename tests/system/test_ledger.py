"""Nothing that was acknowledged is lost, whatever happens to the workers: the city holds every bike, the events are the log's."""

from __future__ import annotations

import signal

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from streams.settings import load
from tests.kafka_fixtures import Kafka
from tests.system.census import OPTIONS, Census, assert_nothing_is_lost
from tests.system.conftest import MakeSystem
from tests.system.harness import System

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(240)]

ASSIGNED = "Setting newly assigned partitions"


def test_workers_that_come_and_go_and_die_under_load_lose_nothing(deploy: MakeSystem) -> None:
    """A backlog from before the group existed; then two rebalances in order and four kills, without static membership."""
    system = deploy(**OPTIONS, session="3s")
    with Census(system) as census:
        census.wait(10_000)
        worker = system.worker()
        census.watch(worker)
        for _ in range(2):
            other = system.worker()
            census.watch(other)
            other.stop()
        for _ in range(4):
            other = system.worker()
            census.watch(other)
            worker.kill()
            worker = other
        census.wait(3000)
    assert_nothing_is_lost(system, census)


def test_a_static_member_is_back_at_once_and_the_others_notice_nothing(deploy: MakeSystem) -> None:
    """SIGTERM, and then SIGKILL three times, within the session timeout."""
    system = deploy(**OPTIONS, session="12s")
    with Census(system) as census:
        one, two = system.worker(instance_id="one"), system.worker(instance_id="two")
        system.until(lambda: one.text().count(ASSIGNED) and two.text().count(ASSIGNED), "both have joined")
        census.watch(one)
        census.watch(two)
        assigned = one.text().count(ASSIGNED)
        for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL, signal.SIGKILL):
            if how == signal.SIGTERM:
                two.stop()
            else:
                two.kill()
            two = system.worker(instance_id="two")
            system.wait_ready(two, timeout_s=15)
            census.wait(3000)
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
        census.watch(worker)
        limit_record_size(kafka, topic, 500)
        assert worker.status() == 1
        assert "could not be written" in worker.text()
        limit_record_size(kafka, topic, 1 << 20)
        census.watch(system.worker())
    assert_nothing_is_lost(system, census)


def test_a_group_that_was_forgotten_goes_on_from_the_snapshots(deploy: MakeSystem, kafka: Kafka) -> None:
    """Kafka forgets the commits of a group that was idle for a week; they never were where reading begins."""
    system = deploy(**OPTIONS)
    with Census(system) as census:
        worker = system.worker()
        census.watch(worker)
        worker.stop()
        kafka.admin.delete_consumer_groups([system.settings.deployment.app_id])[system.settings.deployment.app_id].result(10)
        census.wait(3000)
        worker = system.worker()
        census.watch(worker)
        assert worker.text().count("snapshot at tick") == len(system.settings.sources) + 1
    assert_nothing_is_lost(system, census)


def test_an_input_topic_that_was_made_anew_is_refused_with_the_remedy(deploy: MakeSystem, kafka: Kafka) -> None:
    """Also when the new log is longer than the old one was: the id tells. The old snapshots belong to a log that is gone; in a
    new state, of another name, every ping of the new log counts."""
    system = deploy(**OPTIONS)
    topic, name = system.settings.feeds[0].topic, system.settings.deployment.app_id
    with Census(system) as gone:
        gone.watch(system.worker())
    system.workers[0].stop()
    kafka.admin.delete_topics([topic])[topic].result(10)
    system.until(lambda: system.command("topics", "create").returncode == 0, "the topic is there again")
    with Census(system) as census:
        census.wait(gone.acknowledged + 3000)
        worker = system.worker()
        assert worker.status() == 1
        assert "the topic was made anew" in worker.text()
        assert "Remedy: " in worker.text()

        text = system.config.read_text().replace(f'app_id = "{name}"', f'app_id = "{name}-2"')
        system.config.write_text(text.replace(f'topic_prefix = "{name}.', f'topic_prefix = "{name}-2.'))
        anew = System(system.bootstrap, system.directory, load(system.config), system.config, system.workers)
        anew.run("topics", "create")
        census.watch(anew.worker())
        census.wait(3000)
    assert_nothing_is_lost(anew, census)
