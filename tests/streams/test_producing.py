"""Replaying into a broker: what is in the log afterwards, and how fast. On the embedded broker."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from streams.alert_log import AlertLog, Logged, newest_times
from streams.embedded import EmbeddedBroker
from streams.errors import OutputError, UrbanBrainError
from streams.feeds.producing import CLOCK_TOPIC, Produced, produce, with_clocks
from streams.feeds.records import FeedRecord
from streams.reach import BrokerAwayError
from streams.settings import Settings, loads
from streams.topics import check

if TYPE_CHECKING:
    from tests.kafka_fixtures import Kafka

CONFIGURATION = """
[deployment]
clock = "replay"
brokers = ["127.0.0.1:1"]
[network]
operators = ["amber"]
[[network.feeds]]
topic = "pings.amber"
operator = "amber"
partitions = 2
[[network.feeds]]
topic = "pings.gateway"
gateway = true
partitions = 1
[city]
name = "rivertown"
time_zone = "UTC"
boundary = { south = 52, west = 9.9, north = 52.25, east = 10.2 }
"""
START = 1_767_225_600_000  # a full minute


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    with EmbeddedBroker.of(loads(CONFIGURATION)) as broker:
        monkeypatch.setenv("URBAN_BRAIN_BROKERS", broker.bootstrap)
        yield loads(CONFIGURATION)


def records(*after_ms: int, topic: str = "pings.amber") -> list[FeedRecord]:
    return [FeedRecord(START + ms, topic, b"bike-%d" % i, b'{"n":%d}' % i) for i, ms in enumerate(after_ms)]


def log_of(settings: Settings, topic: str) -> dict[int, list[Logged]]:
    partitions: dict[int, list[Logged]] = defaultdict(list)
    with AlertLog(settings.deployment, topic) as log:
        for record in log.to_end():
            partitions[record.partition].append(record)
    return partitions


def test_the_embedded_broker_has_the_topics_of_the_configuration(settings: Settings) -> None:
    assert check(settings) == []


def test_every_record_is_in_the_log_with_its_own_time_and_key(settings: Settings) -> None:
    sent = records(*range(1, 500))
    done = produce(settings, sent, speed=None)
    found = [record for log in log_of(settings, "pings.amber").values() for record in log if record.value is not None]
    assert {(record.time_ms, record.key, record.value) for record in found} == {
        (record.record_ms, record.key, record.value) for record in sent
    }
    assert (done.records, done.first_ms) == (499, START + 1)


def test_a_bike_stays_in_its_partition(settings: Settings) -> None:
    produce(settings, [record for _ in range(3) for record in records(*[0] * 20)], speed=None)
    homes = defaultdict(set)
    for partition, log in log_of(settings, "pings.amber").items():
        for record in log:
            homes[record.key].add(partition)
    del homes[b""]
    assert all(len(home) == 1 for home in homes.values())
    assert set.union(*homes.values()) == {0, 1}


def test_clock_records_go_into_every_partition_of_every_source_each_minute_and_past_the_end(settings: Settings) -> None:
    produce(settings, records(1_000, 130_000), speed=None)
    for topic, partitions in (("pings.amber", 2), ("pings.gateway", 1)):
        logs = log_of(settings, topic)
        assert len(logs) == partitions
        for log in logs.values():
            clocks = [record.time_ms - START for record in log if record.value is None]
            assert clocks == [60_000, 120_000, 135_000]
            times = [record.time_ms for record in log]
            assert times == sorted(times), "the clock of a partition never goes back"


def test_the_last_clock_record_closes_the_tick_of_the_last_record_and_nothing_later() -> None:
    for last, end in ((0, 5_000), (4_999, 5_000), (5_000, 10_000)):
        *_, clock = with_clocks(records(last), 5_000)
        assert (clock.topic, clock.record_ms) == (CLOCK_TOPIC, START + end)
    assert list(with_clocks([], 5_000)) == []


def test_speed_is_stream_time_over_wall_time(settings: Settings) -> None:
    started = time.monotonic()
    done = produce(settings, records(0, 5_000, 10_000), speed=20)
    assert time.monotonic() - started >= 0.75, "15 s of stream time, with the tick's end"
    assert 1 < done.speed <= 20.5


def test_progress_is_told_while_it_works(settings: Settings) -> None:
    seen: list[int] = []
    produce(settings, records(*range(0, 60_000, 100)), speed=100, progress=lambda done: seen.append(done.records))
    assert seen[-1] == 600
    assert seen == sorted(seen)


def test_newest_times_tell_how_far_each_source_is(settings: Settings) -> None:
    produce(settings, records(7_000), speed=None)
    assert set(newest_times(settings.deployment, settings.sources).values()) == {START + 10_000}


def test_a_record_that_is_too_large_is_an_error(settings: Settings) -> None:
    huge = FeedRecord(START, "pings.amber", b"b", bytes(2_000_000))
    with pytest.raises(OutputError, match=r"a record for pings\.amber was refused: .*size"):
        produce(settings, [huge], speed=None)


@pytest.mark.kafka
def test_a_record_that_is_not_acknowledged_is_an_error(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the topics were never made. The embedded broker would make them up."""
    monkeypatch.setenv("URBAN_BRAIN_BROKERS", kafka.bootstrap)
    with pytest.raises(OutputError, match=r"a record for [\w.]+ was not written: .*Nothing more is sent"):
        produce(loads(CONFIGURATION), records(0), speed=None)


def test_without_a_broker_everything_ends_in_bounded_time_with_its_address() -> None:
    nowhere = loads(CONFIGURATION)
    with pytest.raises(BrokerAwayError, match=r"no broker answered within 1 s at 127\.0\.0\.1:1: .*Start Kafka"):
        check(nowhere, timeout_s=1)


def test_a_topic_that_is_not_there_is_told(settings: Settings) -> None:
    with AlertLog(settings.deployment, "no/such topic") as log, pytest.raises(UrbanBrainError, match="cannot be read"):
        log.partitions()


def test_rates_of_nothing_are_zero() -> None:
    assert (Produced().per_second, Produced().speed) == (0.0, 0.0)
