"""A bridge as it runs: reads the topic in a consumer group, hands events to the lanes, commits what is settled."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Collection
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from streams.bridge.dead_letters import DeadLetterFile, DeadLetters, DeadLetterTopic
from streams.bridge.event import Event, Place
from streams.bridge.lanes import Lanes, Patience
from streams.bridge.metrics import BridgeMetrics
from streams.bridge.post import HttpPost, Post
from streams.errors import ConfigurationError, UrbanBrainError
from streams.reach import reach
from streams.settings import BridgeSettings
from streams.transport import keep_passwords_out_of_the_log
from streams.transport.closing import close_consumer, close_producer
from streams.transport.metadata import pace_metadata
from streams.web import Readiness, WebServer

log = logging.getLogger(__name__)

_POLL_MS = 200
_COMMIT_INTERVAL_S = 1.0
_COMMIT_LIMIT_S = 2.0
"""While no broker is there a commit waits for one without end, and who has to end would wait with it."""
_MOST_AT_ONCE = 500
STUCK_S = 300.0
"""A bridge that has waited for so long with one event says that it is not ready."""


async def run(settings: BridgeSettings) -> int:
    """Run a bridge until SIGTERM or Ctrl-C (0). Raises UrbanBrainError for what it can not go on with."""
    webhook, metrics, stop = settings.webhook, BridgeMetrics(), asyncio.Event()
    keep_passwords_out_of_the_log()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(reach, settings.deployment)  # aiokafka would only say that it could not
        try:
            consumer = await _consumer(settings, stack)
            dead = await _dead_letters(settings, stack)
        except KafkaConnectionError as error:
            raise UrbanBrainError(f"the connection to the brokers is gone: {error}. Start the bridge again.") from error
        agent = f"urban-brain/{version('urban-brain')}"
        post = HttpPost(webhook.url, webhook.key(), timeout_s=webhook.timeout.total_seconds(), agent=agent)
        await stack.enter_async_context(post)
        bridge = Bridge(settings, consumer, post, dead, metrics)
        server = WebServer(metrics, bridge.readiness, version=version("urban-brain"))
        await server.start(settings.deployment.http_host, settings.deployment.http_port)
        stack.push_async_callback(server.stop)
        try:
            await bridge.run(stop)
        except KafkaError as error:
            raise UrbanBrainError(
                f"Kafka refused: {error!r}. Check the rights of the bridge: read {settings.topic}, be in the group {settings.group}, "
                "write the dead letters. Nothing is lost: what was not delivered is read again when the bridge is started again"
            ) from error
    return 0


async def _consumer(settings: BridgeSettings, stack: AsyncExitStack) -> AIOKafkaConsumer:
    """Started, not subscribed. Raises ConfigurationError for topics that are not there: a subscription would wait for ever."""
    session_ms = int(settings.deployment.session_timeout.total_seconds() * 1000)
    consumer = AIOKafkaConsumer(
        **settings.deployment.aiokafka(),
        group_id=settings.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=session_ms // 3,
        # the group waits for requests that are under way
        rebalance_timeout_ms=session_ms + int(settings.webhook.timeout.total_seconds() * 1000),
    )
    stack.push_async_callback(close_consumer, consumer)
    pace_metadata(consumer._client)
    await consumer.start()
    there = await consumer.topics()
    wanted = {settings.topic: "[webhook] operator or topic"}
    if settings.webhook.dead_letter_topic is not None:
        wanted[settings.webhook.dead_letter_topic] = "[webhook] dead_letter_topic"
    missing = [
        f"topic {topic}: must exist, found no such topic. Make it (urban-brain topics create makes those of a deployment), "
        f"or correct {key}."
        for topic, key in wanted.items()
        if topic not in there
    ]
    if missing:
        raise ConfigurationError(missing)
    return consumer


async def _dead_letters(settings: BridgeSettings, stack: AsyncExitStack) -> DeadLetters:
    webhook = settings.webhook
    if webhook.dead_letter_file is not None:
        return DeadLetterFile(Path(webhook.dead_letter_file))
    client = settings.deployment.aiokafka()
    producer = AIOKafkaProducer(**client, acks="all", enable_idempotence=True, max_request_size=4 << 20)
    stack.push_async_callback(close_producer, producer)
    pace_metadata(producer.client)
    await producer.start()
    return DeadLetterTopic(producer, str(webhook.dead_letter_topic))


class Bridge(ConsumerRebalanceListener):  # type: ignore[misc]
    """One member of the group."""

    def __init__(
        self, settings: BridgeSettings, consumer: AIOKafkaConsumer, post: Post, dead: DeadLetters, metrics: BridgeMetrics
    ) -> None:
        webhook = settings.webhook
        patience = Patience(
            attempts=webhook.attempts,
            first_s=webhook.first_retry.total_seconds(),
            longest_s=webhook.longest_retry.total_seconds(),
            parallel=webhook.parallel,
        )
        self._topic = settings.topic
        self._window = webhook.window
        self._consumer = consumer
        self._metrics = metrics
        self._lanes = Lanes(post, dead, patience, metrics)
        self._mine: set[Place] = set()
        self._committed: dict[Place, int] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop; then requests under way end, and what is settled is committed."""
        self._consumer.subscribe([self._topic], listener=self)
        next_commit = 0.0
        try:
            while not stop.is_set():
                await self._read()
                self._lanes.check()
                if time.monotonic() >= next_commit:
                    await self._commit(self._lanes.ledger.positions())
                    next_commit = time.monotonic() + _COMMIT_INTERVAL_S
                self._measure()
        finally:
            await self._lanes.close()
            await self._commit(self._lanes.ledger.positions())

    def readiness(self) -> Readiness:
        """Why this bridge is not doing its work, if it is not."""
        reasons = [] if self._mine else ["no partitions were assigned yet"]
        if (oldest := self._lanes.oldest_s()) > STUCK_S:
            reasons.append(f"the endpoint has not taken an event for {oldest:.0f} s")
        return Readiness(tuple(reasons))

    # --- the group ------------------------------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Before others have them: end what is under way, commit what is settled."""
        places = {Place(*tp) for tp in revoked}
        self._mine -= places  # from here on nothing of them is taken, whatever is still fetched
        await self._lanes.close(places)
        ledger = self._lanes.ledger
        await self._commit({place: offset for place, offset in ledger.positions().items() if place in places})
        ledger.drop(places)
        self._metrics.forget(places)
        for place in places:
            self._committed.pop(place, None)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """They begin at the offset that was committed last."""
        self._mine = {Place(*tp) for tp in assigned}

    # --- reading and committing -----------------------------------------------------------------------------------------

    async def _read(self) -> None:
        room = self._window - len(self._lanes.ledger)
        assigned = self._consumer.assignment()
        if room <= 0:
            self._consumer.pause(*assigned)  # but go on asking, so that the group knows that we live
        else:
            self._consumer.resume(*self._consumer.paused())
        records = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=max(1, min(room, _MOST_AT_ONCE)))
        for tp, batch in records.items():
            for record in batch:
                self._take(Place(*tp), record)

    def _take(self, place: Place, record: Any) -> None:
        if place not in self._mine:
            return
        if record.value is None:  # closes a key in a compacted topic: no event
            self._lanes.ledger.take(place, record.offset)
            self._lanes.ledger.settle(place, record.offset)
            return
        self._lanes.take(Event(place, record.offset, record.key, record.value, record.headers))

    async def _commit(self, positions: dict[Place, int]) -> None:
        """What can not be committed now is committed the next time, or read again."""
        changed = {place: offset for place, offset in positions.items() if self._committed.get(place) != offset}
        if not changed:
            return
        try:
            async with asyncio.timeout(_COMMIT_LIMIT_S):
                await self._consumer.commit({TopicPartition(*place): offset for place, offset in changed.items()})
            self._committed |= changed
        except (KafkaError, TimeoutError) as error:
            log.warning("offsets could not be committed: %r", error)

    def _measure(self) -> None:
        self._metrics.held.set(len(self._lanes.ledger))
        self._metrics.oldest.set(self._lanes.oldest_s())
        for place in self._mine:
            end, read = self._consumer.highwater(TopicPartition(*place)), self._lanes.ledger.read_to(place)
            if end is not None and read:
                self._metrics.lag.labels(place.topic, str(place.partition)).set(max(0, end - read))
