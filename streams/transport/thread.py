"""The consumer's side that lives in Faust's consumer thread: connecting, the gate, handing out runs.

**Epochs and the gate.** Kafka's generation says which assignment a worker has; it does not say from when on records are
read from the place that the owner of the state named. So there is a number of our own, the epoch: it rises at every
revocation and at every assignment, in this thread, before anything else happens. The gate is open in exactly one epoch,
from the moment when all partitions have been sought. Records are stamped with the epoch when they are taken out of
aiokafka's buffer, in the same step in which their position moves, and whoever finds a stamp that is not the current one
drops them: they will be, or have been, sought again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable, Mapping
from time import monotonic
from typing import Any, TypeVar

import aiokafka
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError, KafkaError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.transport.closing import close_consumer
from streams.transport.errors import GRANT, NO_RIGHT, Fenced, NotHeld, OffsetOutOfLog, TransportError
from streams.transport.metadata import pace_metadata
from streams.transport.runs import RunReading, install
from streams.transport.topic_ids import ask_topic_ids

T = TypeVar("T")

REQUEST_TIMEOUT_MS = 40_000
RETRY_FIRST_S, RETRY_MOST_S = 0.5, 10.0
CLOSED_S = 0.05  # how often a reader at a closed gate looks again
_NO_MEMBER = ""


def topic_partitions(tps: Iterable[TP]) -> list[TopicPartition]:
    """aiokafka insists on its own kind of named tuple in some places; the two are equal and hash alike."""
    return [TopicPartition(tp.topic, tp.partition) for tp in tps]


class RebalanceListener(driver.ConsumerRebalanceListener):  # type: ignore[misc]
    """Closes the gate before Faust hears of a rebalance; and Faust's generation is our epoch.

    A static member that comes back may get the generation that it had: the epoch never repeats, so Faust's streams skip
    whatever was queued before.
    """

    _thread: ConsumerThread

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> Awaitable[None]:
        self._thread.next_epoch()
        told: Awaitable[None] = super().on_partitions_revoked(revoked)
        return told

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        epoch = self._thread.next_epoch()
        # Nothing is fetched from where the last commit happens to lie: the gate opens elsewhere.
        self._thread.consumer_of_kafka.pause(*assigned)
        await self._thread.on_partitions_assigned({TP(tp.topic, tp.partition) for tp in assigned}, epoch)


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    epoch = 0
    gate: int | None = None  # the epoch in which records may be handed out

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._handed: dict[TP, int] = {}  # behind the last record that was handed out, or the start

    def next_epoch(self) -> int:
        self.gate = None
        self.epoch += 1
        self.app.consumer_generation_id = self.epoch
        return self.epoch

    @property
    def consumer_of_kafka(self) -> Any:
        return self._ensure_consumer()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in this thread, from the main one. Unlike Faust's queue it has no two workers to block."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.thread_loop))

    # -- connecting

    async def on_start(self) -> None:
        self.time_started = monotonic()
        pause_s = RETRY_FIRST_S
        while not self.should_stop:
            consumer = self._create_consumer(loop=self.thread_loop)
            pace_metadata(consumer._client)
            try:
                await consumer.start()
                await self._check_topics(consumer)
            except KafkaError as error:
                await close_consumer(consumer)
                self.log.warning(
                    "Kafka at %s can not be used yet (%r); is it up, and are address and credentials right? "
                    "Next attempt in %.1f s",
                    self.app.settings.brokers, error, pause_s,
                )  # fmt: skip
                await self.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_MOST_S)
            except TransportError as error:
                await close_consumer(consumer)
                self.app.failure = error
                raise  # the one way to end a start that the main thread waits for
            else:
                self._guard_membership(consumer._coordinator)
                self._watch(consumer)
                self._consumer = consumer
                return

    async def on_thread_stop(self) -> None:
        """As stock, but in bounded time, and without an exception that would leave the main thread waiting for this one."""
        if self._method_queue is not None:
            await self._method_queue.stop()
        if self._consumer is not None:
            await close_consumer(self._consumer)

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        settings = self.app.settings
        install()
        return aiokafka.AIOKafkaConsumer(
            client_id=settings.instance_id or settings.app_id,
            bootstrap_servers=settings.brokers,
            group_id=settings.app_id,
            group_instance_id=settings.instance_id,
            # The assignor keeps its memory on the class, and a process may hold more than one worker (in tests).
            partition_assignment_strategy=[type("Assignor", (StickyPartitionAssignor,), {})],
            enable_auto_commit=False,
            auto_offset_reset="none",  # the owner of the state says where to read; never a silent reset
            isolation_level="read_committed",
            value_deserializer=RunReading(settings.records_per_message),
            max_partition_fetch_bytes=settings.max_fetch_bytes,
            fetch_max_wait_ms=500,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            rebalance_timeout_ms=int(settings.rebalance_timeout_s * 1000),
            heartbeat_interval_ms=int(settings.heartbeat_interval_s * 1000),
            max_poll_interval_ms=int(settings.max_batch_s * 1000),
            metadata_max_age_ms=int(settings.metadata_max_age_s * 1000),
            **driver.credentials_to_aiokafka_auth(self.app.conf.broker_credentials, self.app.conf.ssl_context),
        )

    async def _check_topics(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        """A missing topic would be waited for in silence, for ever."""
        missing = sorted(self.app.settings.batch_topics - await consumer.topics())
        if missing:
            raise TransportError(
                f"topics that this worker reads do not exist, or it may not see them: {', '.join(missing)}. "
                "Remedy: create them (urban-brain topics), or grant Describe and Read on them."
            )

    def _guard_membership(self, coordinator: Any) -> None:
        """A static member that Kafka no longer knows must not simply join again.

        aiokafka's heartbeats do not carry the instance id, so a worker that was replaced while it stood still hears
        "unknown member", not "fenced"; joining again it would throw out its replacement, which would do the same.
        """
        instance_id = self.app.settings.instance_id
        if instance_id is None:
            return
        stock = coordinator.reset_generation

        def reset_generation() -> None:
            if coordinator.generation <= 0 or coordinator._closing.done():
                stock()
                return
            coordinator.member_id = _NO_MEMBER  # ends the heartbeats; without `stock` nobody asks to join again
            self.fail(Fenced(instance_id))

        coordinator.reset_generation = reset_generation

    def _watch(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        """Errors that aiokafka keeps for whoever reads next: nobody may, when the group has refused this worker."""
        coordinator = consumer._coordinator
        stock = coordinator._push_error_to_user

        def refused(error: BaseException) -> Awaitable[Any]:
            remedy = GRANT if isinstance(error, NO_RIGHT) else "Its other members say why."
            self.fail(TransportError(f"the group {self.app.settings.app_id!r} refuses this worker: {error!r}. {remedy}"))
            waiting: Awaitable[Any] = stock(error)
            return waiting

        def ended(task: asyncio.Task[Any]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.fail(error)

        coordinator._push_error_to_user = refused
        coordinator._coordination_task.add_done_callback(ended)
        consumer._fetcher.error_future.add_done_callback(ended)

    def fail(self, error: BaseException) -> None:
        self.next_epoch()
        self.parent_loop.call_soon_threadsafe(self.consumer.fail_soon, error)

    async def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Topic -> id, where brokers tell one. Waits for brokers that are away."""
        wanted = list(topics)
        while True:
            try:
                return await ask_topic_ids(self.consumer_of_kafka._client, wanted)
            except KafkaError as error:
                self.log.warning("the ids of topics could not be asked for, again in %.1f s: %r", RETRY_FIRST_S, error)
                await asyncio.sleep(RETRY_FIRST_S)

    # -- handing out

    async def take(self, active: set[TP], timeout_s: float) -> tuple[int | None, Mapping[TP, list[Any]]]:
        """Runs of every partition that has some, bounded for each, and the epoch that they belong to."""
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():  # says that this member is alive, also while the gate is closed
            if self._closed() or not active:
                await asyncio.sleep(CLOSED_S if self._closed() else timeout_s)
                return None, {}
            try:
                taken = await fetcher.fetched_records(active, timeout=timeout_s)
            except KafkaError as error:
                if self._closed():  # about positions before the seek: "no offset" is not an answer that we asked for
                    return None, {}
                if isinstance(error, OffsetOutOfRangeError):
                    raise await self._out_of_log(error) from error
                if isinstance(error, NO_RIGHT):
                    raise TransportError(f"this worker may not read: {error!r}. {GRANT}") from error
                raise
        self._handed.update({TP(place.topic, place.partition): runs[-1].next_offset for place, runs in taken.items()})
        return self.gate, taken

    def _closed(self) -> bool:
        return self.gate is None

    async def _out_of_log(self, error: OffsetOutOfRangeError) -> OffsetOutOfLog:
        ((place, offset),) = error.args[0].items()
        tp = TP(place.topic, place.partition)
        start, end = (await self.bounds([tp]))[tp]
        return OffsetOutOfLog(tp, offset, start, end)

    async def bounds(self, tps: Iterable[TP]) -> dict[TP, tuple[int, int]]:
        """The first offset of each log, and the one behind its last."""
        places = topic_partitions(tps)
        starts = await self.consumer_of_kafka.beginning_offsets(places)
        ends = await self.consumer_of_kafka.end_offsets(places)
        return {TP(p.topic, p.partition): (starts[p], ends[p]) for p in places}

    async def open_gate(self, epoch: int, starts: Mapping[TP, int]) -> None:
        """Seek all, then open: one step of this thread's loop, so no record can be taken in between."""
        if epoch != self.epoch:
            raise IllegalStateError("a new rebalance has begun")
        consumer = self.consumer_of_kafka
        for tp, offset in starts.items():
            consumer.seek(TopicPartition(tp.topic, tp.partition), offset)
        consumer.resume(*topic_partitions(starts))
        self._handed = dict(starts)
        self.gate = epoch

    def log_end(self, tp: TP) -> int | None:
        """Where the records of a log end, as of the last fetch; None when there was none.

        Behind the last record a log may have control batches, which nobody is given: when aiokafka has passed them,
        whoever has taken all records is at the end.
        """
        assignment = None if self._closed() else self.consumer_of_kafka._subscription.subscription.assignment
        state = None if assignment is None else assignment.state_value(TopicPartition(tp.topic, tp.partition))
        if state is None or state.lso is None or not state.has_valid_position:
            return None
        end: int = state.lso
        return self._handed[tp] if state.position >= end else end

    # -- committing

    async def commit_exactly(self, offsets: Mapping[TP, tuple[int, str]]) -> None:
        notes = {TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(*value) for tp, value in offsets.items()}
        try:
            await self.consumer_of_kafka.commit(notes)
        except (CommitFailedError, IllegalStateError) as error:
            raise NotHeld(f"the group has moved on: {error}") from error

    async def committed(self, tps: Iterable[TP]) -> dict[TP, tuple[int, str] | None]:
        coordinator = self.consumer_of_kafka._coordinator
        found = await coordinator.fetch_committed_offsets(topic_partitions(tps))
        return {tp: (found[tp].offset, found[tp].metadata) if tp in found else None for tp in tps}
