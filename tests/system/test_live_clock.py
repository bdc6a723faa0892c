"""The live clock: the broker stamps, workers say what time it is where nobody speaks, alerts come while they matter."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson
import pytest

from tests.kafka_fixtures import Kafka
from tests.system.configuring import RULE
from tests.system.conftest import MakeSystem
from tests.system.harness import System

pytestmark = pytest.mark.kafka

PARTITIONS = 4
SOON_MS = 5_000
RULES = RULE.format(per_hectare="0.5").replace('"10s"', '"2s"')


def told(system: System, kind: str, state: str) -> list[tuple[int, dict[str, Any]]]:
    """(when the record was written, body) of the alerts of a kind."""
    records = [(record.time_ms, orjson.loads(record.value or b"")) for record in system.read(system.settings.topics.alerts)]
    return [(written, body) for written, body in records if (body["kind"], body["state"]) == (kind, state)]


def late_ms(found: tuple[int, dict[str, Any]]) -> float:
    """How long after its stream time an alert was written."""
    written, body = found
    return written - datetime.fromisoformat(body["observed_at"]).timestamp() * 1000


def speak(kafka: Kafka, system: System, bikes: Iterable[int]) -> None:
    """Every bike says where it is, all to one partition."""
    producer = kafka.producer()
    for bike in bikes:
        body = {"bike_id": f"b{bike}", "operator": "alpha", "ts": time.time_ns() // 1_000_000, "lat": 39.9, "lng": 116.4}
        producer.produce(system.settings.feeds[0].topic, orjson.dumps(body | {"status": "available"}), partition=1)
    assert producer.flush(10) == 0


def test_quiet_partitions_go_on_alerts_come_in_seconds_and_silence_is_told(deploy: MakeSystem, kafka: Kafka) -> None:
    network = 'silent_after = { alpha = "6s" }'
    system = deploy(clock="live", tick="1s", partitions=PARTITIONS, network=network, rules=RULES)
    workers = [system.worker(), system.worker()]
    system.wait_ready(*workers)
    system.until(lambda: system.members() == 2, "both are in the group")
    speak(kafka, system, range(20))
    raised = system.until(lambda: told(system, "overcrowded", "raised"), "an alert", 15)
    assert 0 < late_ms(raised[0]) < SOON_MS
    silent = system.until(lambda: told(system, "feed_silent", "raised"), "silence is told", 20)
    assert 0 < late_ms(silent[0]) < SOON_MS
    speak(kafka, system, range(20))
    returned = system.until(lambda: told(system, "feed_silent", "cleared"), "the return is told", 15)
    assert 0 < late_ms(returned[0]) < SOON_MS
    for worker in workers:
        worker.stop()
    system.assert_events_are_the_backtests()

    clocks = [record for record in system.read(system.settings.feeds[0].topic) if record.value is None]
    assert {record.partition for record in clocks} == set(range(PARTITIONS))
    passed_s = (max(record.time_ms for record in clocks) - min(record.time_ms for record in clocks)) / 1000
    assert len(clocks) <= PARTITIONS * (passed_s + 3), "one for each tick and partition, and some for changes of ownership"
