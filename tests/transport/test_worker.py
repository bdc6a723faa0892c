"""Workers on a real Kafka: what is delivered, from where, and how they end."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, GroupLoadInProgressError
from confluent_kafka import Consumer, TopicPartition

from tests.transport.conftest import PARTITIONS, Bench

pytestmark = pytest.mark.kafka

COORDINATOR_WAIT_S = 30.0


def committed(bench: Bench) -> dict[int, tuple[int, str]]:
    """Partition -> (offset, note); librdkafka's Python binding garbles the notes, so aiokafka is asked."""

    async def ask() -> dict[int, tuple[int, str]]:
        client = AIOKafkaAdminClient(bootstrap_servers=bench.kafka.bootstrap)
        await client.start()
        try:
            found = await client.list_consumer_group_offsets(bench.group)
            return {place.partition: (value.offset, value.metadata) for place, value in found.items()}
        finally:
            await client.close()

    until = time.monotonic() + COORDINATOR_WAIT_S
    while True:
        try:
            return asyncio.run(ask())
        # A new broker makes the topic of offsets when the first group asks, and says so to whoever asks meanwhile.
        except (GroupLoadInProgressError, GroupCoordinatorNotAvailableError):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def commit_from_outside(bench: Bench, offset: int) -> None:
    writer = Consumer({"bootstrap.servers": bench.kafka.bootstrap, "group.id": bench.group})
    try:
        places = [TopicPartition(bench.topic, p, offset) for p in range(PARTITIONS)]
        for place in writer.commit(offsets=places, asynchronous=False):
            assert place.error is None
    finally:
        writer.close()


def save_state(bench: Bench, partition: int, offset: int) -> None:
    numbers = [(i * PARTITIONS + partition).to_bytes(8, "little") for i in range(offset)]
    (bench.directory / f"p{partition:03}-0-{offset}-before.bin").write_bytes(b"".join(numbers))


def test_rebalances_under_load_lose_nothing_and_repeat_nothing(bench: Bench) -> None:
    first = bench.worker()
    first.wait_for("ACQUIRED")
    stop = threading.Event()
    load = threading.Thread(target=bench.produce, args=(1_000_000, 20_000, stop))
    load.start()
    try:
        for _ in range(2):
            second = bench.worker()
            second.wait_for("ACQUIRED")
            bench.wait_more_saved(20_000)
            second.stop()
    finally:
        stop.set()
        load.join()
    bench.wait_all_saved()
    first.stop()
    bench.check_ledger()
    chains = sum(len({start for start, _, _ in bench.segments(p)}) for p in range(PARTITIONS))
    assert chains == sum(len(bench.segments(p)) for p in range(PARTITIONS)), "an orderly hand-over redoes nothing"
    assert first.text().count("kept 4") >= 1, "the assignor leaves partitions where they are"


def test_a_killed_static_member_is_back_at_once_and_nothing_is_lost(bench: Bench) -> None:
    stop = threading.Event()
    load = threading.Thread(target=bench.produce, args=(1_000_000, 20_000, stop))
    load.start()
    try:
        for _ in range(2):
            worker = bench.worker(instance="w1", session_s=30.0)
            worker.wait_for("ACQUIRED")
            bench.wait_more_saved(10_000)
            worker.kill()
    finally:
        stop.set()
        load.join()
    began = time.monotonic()
    last = bench.worker(instance="w1", session_s=30.0)
    last.wait_for("ACQUIRED")
    assert time.monotonic() - began < 15.0, "a static member must not wait for the session timeout"
    bench.wait_all_saved()
    last.stop()
    bench.check_ledger()


def test_a_backlog_without_committed_offsets_is_read_from_where_the_owner_says(bench: Bench) -> None:
    bench.produce(200_000)
    assert committed(bench) == {}
    load = threading.Thread(target=bench.produce, args=(40_000, 20_000))
    load.start()
    # The slow owner leaves time for a fetch that must not be delivered; the toy checks where its first runs start.
    worker = bench.worker(acquire_s=1.0, records_per_message=1000)
    load.join()
    bench.wait_all_saved()
    worker.stop()
    bench.check_ledger()


def test_commits_are_exactly_the_owners_with_its_note_and_shutdown_releases(bench: Bench) -> None:
    bench.produce(8_000)
    worker = bench.worker(snapshot_s=3600.0, tell_at=8_000)
    worker.wait_for("TOOK 8000")
    # No snapshot yet: whatever Faust has finished with by now, it must not have committed any of it.
    assert committed(bench) == {}
    worker.stop()
    assert "RELEASED 8" in worker.text()
    notes = {p: (end, file.stem) for p in range(PARTITIONS) for _, end, file in bench.segments(p)}
    assert committed(bench) == notes == {p: (1_000, notes[p][1]) for p in range(PARTITIONS)}
    again = bench.worker()
    again.wait_for("ACQUIRED")
    assert str(notes[0]) in again.text()
    again.stop()
    bench.check_ledger()


def test_the_owners_position_counts_below_and_above_the_committed_one(bench: Bench) -> None:
    bench.produce(80_000)
    commit_from_outside(bench, 5_000)
    for partition in range(PARTITIONS):
        save_state(bench, partition, 2_000 if partition % 2 else 7_000)
    worker = bench.worker()
    bench.wait_all_saved()
    worker.stop()
    bench.check_ledger()


def test_a_log_that_ends_with_control_batches_is_read_to_its_end(bench: Bench) -> None:
    """Nobody is ever given a control batch, so its offset must not count as something that is still to come."""
    producer = bench.kafka.producer(transactional_id=bench.group)
    producer.init_transactions(30)
    for end in (producer.commit_transaction, producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        producer.produce(bench.topic, b"x", partition=0)
        producer.produce(bench.topic, b"y", partition=0)
        producer.flush(30)
        end(30)
    worker = bench.worker(tell_offsets=True)
    worker.wait_for("AT THE END {")
    assert "READ 0 [0, 1, 6, 7]" in worker.text()
    assert "0: 8" in worker.text().split("AT THE END", 1)[1]
    worker.stop()


def test_a_position_above_the_log_ends_the_worker_with_the_remedy(bench: Bench) -> None:
    bench.produce(800)
    save_state(bench, 3, 101)
    worker = bench.worker()
    assert worker.status() == 1
    assert f"{bench.topic}[3] must be read from offset 101, but its log is [0, 100)" in worker.text()
    assert "Remedy: restore the topic" in worker.text()


def test_a_position_below_the_log_ends_the_worker_with_the_remedy(bench: Bench) -> None:
    bench.produce(800)
    for deleted in bench.kafka.admin.delete_records([TopicPartition(bench.topic, 2, 40)]).values():
        deleted.result(20)
    save_state(bench, 2, 30)
    worker = bench.worker()
    assert worker.status() == 1
    assert f"{bench.topic}[2] must be read from offset 30, but its log is [40, 100)" in worker.text()
    assert "10 records were deleted before they were read" in worker.text()


def test_an_exception_in_acquire_ends_the_worker(bench: Bench) -> None:
    worker = bench.worker(fail_acquire=True)
    assert worker.status() == 1
    assert "The worker can not go on: the state can not be loaded (test)" in worker.text()


def test_an_exception_that_leaves_an_agent_ends_the_worker_and_nothing_is_released(bench: Bench) -> None:
    bench.produce(8_000)
    worker = bench.worker(fail_after=1_000, snapshot_s=3600.0)
    assert worker.status() == 1
    assert "RELEASED" not in worker.text()
    assert bench.saved() == [0] * PARTITIONS
    assert committed(bench) == {}


def test_a_missing_topic_ends_the_worker_with_its_name(bench: Bench) -> None:
    worker = bench.worker(topic="nobody-made-this")
    assert worker.status() == 1
    assert "do not exist, or it may not see them: nobody-made-this" in worker.text()


async def test_a_group_that_refuses_the_worker_ends_it(bench: Bench) -> None:
    """Its members use another assignor; nothing is ever assigned, so nobody reads and hears of it."""
    member = AIOKafkaConsumer(bench.topic, bootstrap_servers=bench.kafka.bootstrap, group_id=bench.group)
    await member.start()
    try:
        worker = bench.worker()
        assert await asyncio.to_thread(worker.status) == 1
    finally:
        await member.stop()
    assert "refuses this worker: InconsistentGroupProtocolError" in worker.text()


def test_a_worker_can_be_stopped_before_it_has_anything(bench: Bench) -> None:
    loading = bench.worker(acquire_s=3600.0)
    loading.wait_for("Seek stream partitions")
    loading.stop()
    assert "RELEASED" not in loading.text()
    nowhere = bench.worker(brokers="127.0.0.1:1")
    nowhere.wait_for("can not be used yet")
    nowhere.stop()


def test_a_slow_release_is_cut_off_and_redone_elsewhere(bench: Bench) -> None:
    bench.produce(80_000)
    first = bench.worker(release_s=60.0, snapshot_s=3600.0, session_s=3.0)
    first.wait_for("STARTED")
    second = bench.worker(session_s=3.0)
    second.wait_for("ACQUIRED 4")
    first.wait_for("not released within 1.5 s")
    first.wait_for("LOST 4")
    first.kill()
    bench.wait_all_saved()
    second.stop()
    bench.check_ledger()


def test_a_rebalance_during_acquire_begins_it_again(bench: Bench) -> None:
    bench.produce(80_000)
    now = bench.directory / "now"
    first = bench.worker(acquire_when=str(now))
    first.wait_for("Seek stream partitions")
    second = bench.worker()
    second.wait_for("ACQUIRED 4")
    now.touch()
    bench.wait_all_saved()
    assert "RELEASED 8" not in first.text(), "what was never acquired is not released"
    assert "ACQUIRED 8" not in first.text()
    first.stop()
    second.stop()
    bench.check_ledger()


def test_an_exception_in_release_ends_the_worker(bench: Bench) -> None:
    worker = bench.worker(fail_release=True)
    worker.wait_for("STARTED")
    worker.send(signal.SIGTERM)
    assert worker.status() == 1
    assert "The worker can not go on: the state can not be saved (test)" in worker.text()


def test_a_worker_that_was_stopped_and_replaced_ends_and_does_not_disturb_its_replacement(bench: Bench) -> None:
    bench.produce(8_000)
    stopped = bench.worker(instance="w1", session_s=30.0)
    bench.wait_all_saved()
    stopped.send(signal.SIGSTOP)
    replacement = bench.worker(instance="w1", session_s=30.0)
    replacement.wait_for("ACQUIRED")
    stopped.send(signal.SIGCONT)
    assert stopped.status() == 1
    assert "Kafka no longer knows this worker as 'w1'" in stopped.text()
    assert "RELEASED" not in stopped.text()
    bench.produce(8_000)
    bench.wait_all_saved()
    assert replacement.text().count("ACQUIRED") == 1
    replacement.stop()
    bench.check_ledger()


def test_a_broker_that_is_away_at_start_or_restarts_later_is_waited_for(bench: Bench) -> None:
    bench.produce(8_000)
    bench.kafka.cluster.stop()
    worker = bench.worker(instance="w1", session_s=10.0)
    worker.wait_for("can not be used yet")
    bench.kafka.cluster.start()
    bench.wait_all_saved(60.0)
    bench.kafka.cluster.restart()
    bench.produce(8_000)
    bench.wait_all_saved(60.0)
    worker.stop()
    bench.check_ledger()
