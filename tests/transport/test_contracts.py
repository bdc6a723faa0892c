"""What `streams/transport` takes for granted about the insides of the pinned Faust, mode and aiokafka.

Each test states one belief, next to what breaks when it is no longer true. When a version changes, read these first.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiokafka
import faust
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.producer.sender import Sender
from aiokafka.protocol.api import Request
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import TopicPartition
from faust.app.base import App as StockApp
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport import consumer as faust_consumer
from faust.transport.conductor import ConductorHandler
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.services import Service
from mode.supervisors import CrashingSupervisor
from mode.threads import QueueServiceThread, ServiceThread
from mode.utils.queues import ThrowableQueue
from mode.worker import Worker as ModeWorker

from streams.transport import RunSchema, build_app
from streams.transport.consumer import Consumer, InHand, NoProducer, Transport
from streams.transport.thread import ConsumerThread, RebalanceListener

ROOT = Path(__file__).parents[2]
OURS = ROOT / "streams/transport"
INSIDES = (
    "faust.transport",
    "faust.tables",
    "aiokafka.consumer",
    "aiokafka.record",
    "aiokafka.coordinator",
    "aiokafka.protocol",
)


def source(thing: Any) -> str:
    """The source with every run of white space as one blank."""
    return re.sub(r"\s+", " ", inspect.getsource(getattr(thing, "fun", thing)))  # mode wraps tasks


def in_order(text: str, *parts: str) -> None:
    at = 0
    for part in parts:
        found = text.find(part, at)
        assert found >= 0, f"{part!r} is not there (any more), or not in this order"
        at = found + len(part)


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


class Nobody:
    async def acquire(self, tps: frozenset[TP]) -> dict[TP, int]:
        return dict.fromkeys(tps, 0)

    async def release(self, tps: frozenset[TP]) -> None: ...


@pytest.fixture
async def app() -> AsyncIterator[Any]:
    app = build_app(app_id="contracts", brokers="nowhere:1, elsewhere:2", owner=Nobody(), batch_topics=frozenset({"pings"}))
    yield app
    app.consumer.thread.thread_loop.close()  # made with the thread, which never started


def imports(file: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def test_only_this_package_imports_the_insides() -> None:
    files = [file for part in ("agents", "streams", "geo") for file in (ROOT / part).rglob("*.py")]
    outside = [file for file in files if OURS not in file.parents]
    assert outside
    for file in outside:
        inside = [name for name in imports(file) if any(name == i or name.startswith(f"{i}.") for i in INSIDES)]
        assert not inside, f"{file.relative_to(ROOT)} imports {inside}: that belongs into streams/transport"


def test_the_versions_are_those_that_were_read() -> None:
    assert (version("faust-streaming"), version("aiokafka"), version("mode-streaming")) == ("0.15.3", "0.14.0", "0.7.1")


# -- runs: aiokafka's fetcher


def test_the_fetcher_makes_its_objects_by_the_names_that_install_replaces() -> None:
    text = source(fetcher.Fetcher._proc_fetch_request)
    in_order(text, "records = MemoryRecords(part_data[-1])", "partition_records = PartitionRecords(", "FetchResult( tp,")
    assert "type(res_or_error) is FetchResult" in source(fetcher.Fetcher.fetched_records)


def test_the_objects_are_made_with_the_arguments_and_attributes_that_the_subclasses_use() -> None:
    records = fetcher.PartitionRecords.__mro__[-2] if fetcher.PartitionRecords.__name__ != "PartitionRecords" else None
    stock = records or fetcher.PartitionRecords
    assert parameters(stock)[:4] == ["tp", "records", "aborted_transactions", "fetch_offset"]
    in_order(source(stock.__init__), "self._value_deserializer =", "self._records_iterator = self._unpack_records()")
    for name in ("_tp", "_records", "_check_crcs", "_isolation_level", "_aborted_producers", "next_fetch_offset"):
        assert f"self.{name} = " in source(stock.__init__)
    assert "tp_state.paused" in source(fetcher.FetchResult.check_assignment)


def test_batches_have_the_properties_that_runs_are_made_of() -> None:
    for name in ("base_offset", "next_offset", "timestamp_type", "max_timestamp", "is_control_batch", "is_transactional"):
        assert hasattr(DefaultRecordBatch, name)
    assert DefaultRecordBatch.__module__.endswith("_crecords.default_records"), "the slow Python parser is in use"


def test_what_is_drained_is_returned_in_the_same_step() -> None:
    """The epoch is read after `fetched_records` has returned; an await in between would let a seek slip in."""
    assert "if drained or not timeout: return drained" in source(fetcher.Fetcher.fetched_records)


def test_a_missing_offset_without_a_reset_policy_is_an_error_and_not_a_jump() -> None:
    text = source(fetcher.Fetcher._proc_fetch_request)
    in_order(text, "error_type is Errors.OffsetOutOfRangeError", "OffsetResetStrategy.NONE", "OffsetOutOfRangeError({tp: fetch")
    assert fetcher.OffsetResetStrategy.from_str("none") == fetcher.OffsetResetStrategy.NONE


async def test_a_seek_drops_what_was_fetched_and_a_paused_partition_hands_out_nothing() -> None:
    assert "del self._records[tp]" in source(fetcher.Fetcher.seek_to)
    state = Assignment([TopicPartition("pings", 0)]).state_value(TopicPartition("pings", 0))
    state.seek(7)
    state.pause()
    assert (state.position, state.paused) == (7, True)


async def test_the_group_is_told_that_a_reader_is_alive_while_it_waits() -> None:
    subscriptions = SubscriptionState()
    with subscriptions.fetch_context():
        assert subscriptions.fetcher_idle_time == 0


# -- membership


def test_heartbeats_carry_no_instance_id_so_a_replaced_member_hears_that_it_is_unknown() -> None:
    text = source(GroupCoordinator._do_heartbeat)
    assert "HeartbeatRequest(self.group_id, self.generation, self.member_id)" in text
    in_order(text, "error_type is Errors.UnknownMemberIdError", "self.reset_generation()")


def test_an_unknown_member_would_join_again_and_throw_out_its_replacement() -> None:
    assert "self.request_rejoin()" in source(GroupCoordinator.reset_generation)


def test_heartbeats_end_when_the_member_id_is_forgotten() -> None:
    from aiokafka.protocol.group import JoinGroupRequest

    assert JoinGroupRequest.UNKNOWN_MEMBER_ID == ""
    assert "while self.member_id != JoinGroupRequest.UNKNOWN_MEMBER_ID" in source(GroupCoordinator._heartbeat_routine)


def test_fatal_errors_of_the_group_are_pushed_to_somebody_who_may_not_be_reading() -> None:
    routine = source(GroupCoordinator._GroupCoordinator__coordination_routine)
    assert routine.count("await self._push_error_to_user(exc)") == 2
    assert "self._coordination_task = create_task(" in source(GroupCoordinator.__init__)
    assert "return self._fetch_task" in source(fetcher.Fetcher.error_future.fget)


def test_the_heart_beats_on_while_partitions_are_given_up() -> None:
    text = source(GroupCoordinator.ensure_active_group)
    in_order(text, "await self._on_join_prepare(prev_assignment)", "await self._stop_heartbeat_task()")


def test_committed_offsets_come_with_their_notes() -> None:
    assert "OffsetAndMetadata(offset, metadata)" in source(GroupCoordinator._do_fetch_commit_offsets)


def test_the_assignor_keeps_its_memory_on_its_class() -> None:
    assert "cls.member_assignment = " in source(StickyPartitionAssignor.on_assignment)
    assert StickyPartitionAssignor.name == "sticky", "members with another name could not join the group"


# -- closing: why it goes through `closing.py`


def test_a_consumer_whose_fetch_has_just_failed_raises_in_the_middle_of_its_close() -> None:
    """And so would the thread, before it says that it has ended: the main thread would wait for a minute."""
    in_order(source(fetcher.Fetcher.close), "for x in self._pending_tasks:", "x.cancel()", "await x")
    in_order(
        source(fetcher.Fetcher._proc_fetch_request), "except Errors.KafkaError", "await asyncio.sleep(", "except asyncio.Canc"
    )
    in_order(source(ServiceThread._shutdown_thread), "await self.on_thread_stop()", "self.set_shutdown()")
    in_order(source(driver.AIOKafkaConsumerThread.on_thread_stop), "super().on_thread_stop()", "await self._consumer.stop()")
    assert "if self._method_queue is not None: await self._method_queue.stop()" in source(QueueServiceThread.on_thread_stop)


def test_a_producer_waits_for_all_acknowledgements_before_it_closes_what_else_it_has() -> None:
    text = source(aiokafka.AIOKafkaProducer.stop)
    in_order(text, "self._closed = True", "self._message_accumulator.close()", "self._sender.close()", "self.client.close()")


def test_at_its_end_a_worker_of_mode_sleeps_where_ours_does_not() -> None:
    in_order(source(ModeWorker._gather_all), "range(10)", "asyncio.sleep(0.1)", "task.cancel()")
    assert "asyncio.sleep(1.0)" in source(ModeWorker._sentinel_task)
    in_order(source(ModeWorker._shutdown_loop), "self._gather_all()", "self._sentinel_task()", "self.loop.close()")


# -- Faust: the consumer


def test_the_fetcher_reads_through_the_method_that_is_replaced() -> None:
    assert "await consumer._drain_messages(self)" in source(faust_consumer.Fetcher._fetcher)


def test_every_commit_of_faust_goes_through_commit() -> None:
    """Whoever calls `force_commit` or `_commit` besides would commit what the owner has not saved."""
    text = source(faust_consumer)
    assert text.count("self.force_commit(") == 1
    assert "return await self.force_commit(" in source(faust_consumer.Consumer.commit)
    assert text.count("await self._commit(") == 1
    assert "await self._commit(committable_offsets)" in source(faust_consumer.Consumer._commit_offsets)


async def test_faust_commits_nothing(app: Any) -> None:
    assert await app.consumer.commit() is False


def test_topics_without_acks_are_neither_tracked_nor_committed() -> None:
    """Else Faust's ledgers would grow without end: nobody acknowledges, nobody commits."""
    assert "if channel.acks: self._acking_topics.add(topic)" in source(driver.base.Conductor._update_indices)
    assert "if topic in acking_topics and not message.tracked" in source(faust.Stream._py_aiter)


async def test_topics_of_runs_are_made_without_acks_and_with_their_schema(app: Any) -> None:
    topic = app.topic("pings")
    assert topic.acks is False
    assert isinstance(topic.schema, RunSchema)
    assert app.topic("other").acks is True


def test_streams_skip_messages_of_another_epoch() -> None:
    """The queue may hold messages of the last assignment; only this check keeps them from the agent."""
    assert "message.generation_id != self.app.consumer_generation_id" in source(faust.Stream._py_aiter)
    recovery = source(Recovery.on_rebalance)
    assert "if generation_id != app.consumer_generation_id" in recovery, "Faust must only ever compare generations"


def test_the_listener_is_the_consumers_and_faust_hears_of_a_rebalance_through_it() -> None:
    assert driver.Consumer.RebalanceListener is driver.ConsumerRebalanceListener
    assert Consumer.RebalanceListener is RebalanceListener
    assert "consumer.RebalanceListener(self)" in source(driver.AIOKafkaConsumerThread.__post_init__)
    assert "thread.app.on_rebalance_start()" in source(driver.ConsumerRebalanceListener.on_partitions_revoked)


def test_revocation_and_shutdown_stop_the_flow_and_then_call_wait_empty() -> None:
    steps = ("stop_flow", "flow_control.suspend", "flow_control.clear", "_consumer_wait_empty")
    in_order(source(StockApp._on_partitions_revoked), *steps)
    in_order(source(StockApp._stop_consumer), *steps)
    assert "if self.conf.stream_wait_empty:" in source(StockApp._consumer_wait_empty)
    assert "await consumer.wait_empty()" in source(StockApp._consumer_wait_empty)


def test_the_table_manager_does_nothing_at_its_start_that_ours_leaves_out_but_wait() -> None:
    body = source(TableManager.on_start)
    in_order(
        body,
        "await self.sleep(1.0)",
        "if not self.should_stop:",
        "await self._update_channels()",
        "await self.recovery.start()",
    )
    assert body.count("await") == 3


def test_metadata_is_asked_for_again_at_once_and_by_the_method_that_is_paced() -> None:
    """Where the pause stands in `pace_metadata`; when aiokafka has one of its own there, ours can go."""
    in_order(
        source(AIOKafkaClient._md_synchronizer), "ret = await self._metadata_update(self.cluster, topics)", "set_result(ret)"
    )
    in_order(
        source(Sender._sender_routine),
        "if unknown_leaders_exist:",
        "fut = self.client.force_metadata_update()",
        "asyncio.wait(",
    )
    assert "sleep" not in source(AIOKafkaClient._md_synchronizer) + source(Sender._sender_routine)


def test_a_request_of_a_version_that_the_broker_lacks_is_refused_as_not_implemented() -> None:
    """And aiokafka has no metadata request that tells the ids of topics: when it has, ours can go."""
    in_order(source(Request.prepare), "min_version <= req_class.API_VERSION <= max_version", "raise NotImplementedError(")
    assert max(struct.API_VERSION for struct in MetadataRequest._CLASSES) < 10


def test_recovery_seeks_before_it_lets_the_flow_go_on() -> None:
    text = source(Recovery._resume_streams)
    in_order(text, "consumer.perform_seek()", "app.flow_control.resume()", "consumer.resume_flow()")


def test_recovery_takes_an_illegal_state_for_another_rebalance() -> None:
    text = source(Recovery._restart_recovery)
    in_order(text, "except IllegalStateError as exc:", "continue", "except Exception as exc:", "raise")


def test_a_seek_that_exceeds_the_request_timeout_would_end_recovery_in_silence() -> None:
    assert "consumer.perform_seek(), timeout=self.app.conf.broker_request_timeout" in source(Recovery._resume_streams)
    assert "if wait_result.stopped:" in source(Recovery._wait)
    assert "return WaitResults([], [], True)" in source(Service.wait_first)


async def test_so_the_request_timeout_of_faust_is_out_of_the_way(app: Any) -> None:
    assert app.conf.broker_request_timeout > 3600
    assert app.conf.broker_commit_interval > 3600
    assert app.conf.stream_wait_empty is True
    assert issubclass(app.conf.agent_supervisor, CrashingSupervisor)
    assert not app.conf.web_enabled


def test_an_agent_under_a_crashing_supervisor_takes_the_worker_with_it() -> None:
    supervisor = CrashingSupervisor(loop=asyncio.new_event_loop())
    service = Service(loop=supervisor.loop)
    supervisor.add(service)
    assert service.supervisor is None, "a crash must go up to the worker"
    supervisor.loop.close()


def test_the_clear_of_a_queue_also_ends_what_waits_to_enter_it() -> None:
    assert "putter.cancel()" in source(ThrowableQueue.clear)


def test_in_hand_is_counted_between_the_stream_and_the_next_message() -> None:
    text = source(faust.Stream._py_aiter)
    in_order(text, "sensor_state = on_stream_event_in(", "yield value", "on_stream_event_out(")
    assert parameters(InHand.on_stream_event_out) == parameters(faust.Sensor.on_stream_event_out)


async def test_the_app_uses_this_transport_for_reading_and_connects_no_producer(app: Any) -> None:
    assert isinstance(app.transport, Transport)
    assert isinstance(app.producer, NoProducer)
    assert isinstance(app.consumer, Consumer)
    assert isinstance(app.consumer.thread, ConsumerThread)
    assert app.settings.brokers == ["nowhere:1", "elsewhere:2"]
    with pytest.raises(RuntimeError, match="outputs' own producer"):
        await app.producer.send("topic", None, b"", None, None, None)


def test_overridden_methods_keep_their_signatures() -> None:
    for ours, stock, names in (
        (Consumer, driver.Consumer, ("commit", "on_buffer_full", "perform_seek", "wait_empty", "_drain_messages", "verify_event_path")),
        (ConsumerThread, driver.AIOKafkaConsumerThread, ("on_start", "_create_worker_consumer")),
    ):  # fmt: skip
        for name in names:
            assert parameters(getattr(ours, name)) == parameters(getattr(stock, name)), name
    assert "broker_credentials" in source(driver.AIOKafkaConsumerThread._create_worker_consumer)
    assert ConductorHandler is not None, "the compiled conductor is in use"


def test_the_client_takes_every_argument_that_is_given() -> None:
    given = set(re.findall(r"(\w+)=", source(ConsumerThread._create_worker_consumer).split("AIOKafkaConsumer(", 1)[1]))
    assert given - {"type"} <= set(parameters(aiokafka.AIOKafkaConsumer))
