"""The composition root: a worker out of its settings. Nothing else in the program knows all the parts."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faust
from aiokafka.errors import KafkaError
from mode import Service

from agents import city, control, pings
from streams import transport
from streams.city_stage import CityStage
from streams.control_stage import ControlStage
from streams.errors import ConfigurationError
from streams.events import AlertTopics
from streams.keeper import Keeper
from streams.metrics import Metrics
from streams.mirror import Mirror
from streams.outbox import Outbox
from streams.pacing import slowest_city_ms, sources_ahead
from streams.pings import Feed
from streams.pings_stage import PingsStage
from streams.preparing import prepare
from streams.reach import BrokerAwayError
from streams.readback import KafkaReader
from streams.settings import Settings
from streams.topics import PATIENCE_S, Difference
from streams.topics import check as check_topics
from streams.transport import TP
from streams.web import Readiness, WebServer, refuse_taken_port

log = logging.getLogger(__name__)

_MEND_INTERVAL_S = 60.0
_CLOCK_LOOK_S = 0.05
_TRIM_INTERVAL_S = 30.0
_BROKER_RETRY_S = 2.0
_SNAPSHOT_AGE_LIMIT = 4  # in snapshot intervals; then /ready says no


def run(settings: Settings) -> int:
    """Run a worker until it is told to stop (0) or can not go on (1)."""
    # The port first: brokers may be waited for without end, and this would only be told behind that.
    refuse_taken_port(settings.deployment.http_host, settings.deployment.http_port)
    refuse_wrong_topics(wait_for_topics(settings))
    prepare(settings.timeline)
    # Decoding makes many small objects that live for a batch: the default thresholds look at all of them again and again.
    gc.set_threshold(200_000, 50, 100)
    worker = Worker(settings)
    gc.collect()
    gc.freeze()
    return transport.run_worker(worker.app, loglevel=settings.deployment.log_level, services=[worker.companions])


def wait_for_topics(settings: Settings) -> list[Difference]:
    """What is wrong with the topics. A broker that is away is waited for: it and its workers may start in any order."""
    while True:
        try:
            return check_topics(settings, patience_s=PATIENCE_S)
        except BrokerAwayError as error:
            print(f"waiting: {error}", file=sys.stderr, flush=True)  # noqa: T201  (logging is set up later, by mode)
            time.sleep(_BROKER_RETRY_S)


def refuse_wrong_topics(differences: Iterable[Difference]) -> None:
    """Topics that are missing or wrong are found here, not by hanging."""
    problems = [str(difference) for difference in differences if difference.fatal]
    if problems:
        raise ConfigurationError(problems)


class Worker:
    """All parts of one worker, connected."""

    def __init__(self, settings: Settings) -> None:
        deployment, timeline, names = settings.deployment, settings.timeline, settings.topics
        self.settings = settings
        self._scratch = tempfile.TemporaryDirectory(prefix="urban-brain-")  # Faust makes a folder, and nothing is in it
        self.metrics = Metrics(timeline, version=version("urban-brain"), clock=deployment.clock)
        self.metrics.configuration(epoch.hash for epoch in timeline.epochs)
        client = deployment.aiokafka()
        self.outbox = Outbox(client)
        self.reader = KafkaReader(client)
        common: dict[str, Any] = {
            "timeline": timeline,
            "sources": settings.sources,
            "facts_topic": names.facts,
            "quarantine_topic": names.quarantine,
            "quarantine_cap": deployment.quarantine_cap,
            "sink": self.outbox,
            "metrics": self.metrics,
        }
        feeds = [Feed(f.topic, f.operator, f.coordinates, f.format, dict(f.providers)) for f in settings.feeds]
        self.pings = PingsStage(feeds=feeds, **common)
        self.control = ControlStage(controls=settings.controls, **common)
        self.city = CityStage(
            timeline=timeline,
            sources=settings.sources,
            feeds=settings.feed_sources,
            topics=AlertTopics(names.alerts, names.alerts_open, names.alerts_shadow, names.operator_topic),
            density_topic=names.density,
            report_topic=names.report,
            progress_topic=names.progress,
            sink=self.outbox,
            metrics=self.metrics,
            clock=deployment.clock,
            reader=self.reader,
        )
        topics = [feed.topic for feed in settings.feeds]
        controls = [control.topic for control in settings.controls]
        self.keeper = Keeper(
            stages={**dict.fromkeys(topics, self.pings), **dict.fromkeys(controls, self.control), names.facts: self.city},
            changelog=names.changelog,
            reader=self.reader,
            sink=self.outbox,
            epochs=[(epoch.from_tick, epoch.hash) for epoch in timeline.epochs],
            metrics=self.metrics,
            interval_s=deployment.snapshot_interval.total_seconds(),
        )
        self.app = transport.build_app(
            app_id=deployment.app_id,
            brokers=",".join(deployment.brokers),
            owner=self.keeper,
            batch_topics=frozenset([*topics, *controls, names.facts]),
            instance_id=deployment.instance_id,
            session_timeout_s=deployment.session_timeout.total_seconds(),
            heartbeat_interval_s=deployment.session_timeout.total_seconds() / 3,
            credentials=faust_credentials(settings),
            datadir=Path(self._scratch.name),
        )
        self.keeper.commit = lambda offsets: transport.commit(self.app, offsets)
        self.keeper.committed = lambda tps: transport.committed(self.app, tps)
        self.keeper.topic_ids = lambda topics: transport.topic_ids(self.app, topics)
        self.keeper.dropped = self._dropped
        pings.register(self.app, topics=topics, keeper=self.keeper, stage=self.pings)
        if controls:
            control.register(self.app, topics=controls, keeper=self.keeper, stage=self.control)
        city.register(self.app, topic=names.facts, keeper=self.keeper, stage=self.city)
        self.web = WebServer(self.metrics, self.readiness, version=version("urban-brain"))
        self.companions = Companions(self)

    async def mend(self, partition: int) -> None:
        """What `CityStage.mend` does, while nothing is taken into the state; only to read back needs no such care."""
        await self.city.read_back(partition)
        await self.keeper.work(TP(self.settings.topics.facts, partition), lambda _: self.city.put_right(partition))

    def _dropped(self, tps: Iterable[TP]) -> None:
        for tp in tps:
            self.metrics.forget_source(tp.topic, tp.partition)
        held = self.keeper.held
        self.pings.forget((tp.topic, tp.partition) for tp in held)
        self.control.forget((tp.topic, tp.partition) for tp in held)
        self.city.forget(tp.partition for tp in held if tp.topic == self.settings.topics.facts)

    def readiness(self) -> Readiness:
        """Why this worker is not doing its work, if it is not."""
        reasons = []
        if self.keeper.recovering:
            reasons.append("state is being loaded, or no partitions were assigned yet")
        interval_s = self.settings.deployment.snapshot_interval.total_seconds()
        oldest = self.keeper.oldest_snapshot_age_s()
        if oldest > _SNAPSHOT_AGE_LIMIT * interval_s:
            reasons.append(f"the oldest snapshot is {oldest:.0f} s old, {interval_s:.0f} s is the interval")
        return Readiness((*reasons, *self.city.watch()))


class Companions(Service):  # type: ignore[misc]
    """What runs beside the agents. Started before the app, stopped after it."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.worker = worker

    async def on_start(self) -> None:
        deployment = self.worker.settings.deployment
        await self.worker.web.start(deployment.http_host, deployment.http_port)
        await self.worker.outbox.start()
        tasks = [self._snapshots, self._mend, self._report_lag, self._pace, self._trim]
        if deployment.clock == "live":
            tasks.append(self._keep_time)
        for task in tasks:
            self.add_future(self._guarded(task))

    async def on_stop(self) -> None:
        await asyncio.gather(self.worker.reader.stop(), self.worker.outbox.stop())
        await self.worker.web.stop()

    async def _snapshots(self) -> None:
        await self.worker.keeper.run(lambda: self.should_stop)

    async def _mend(self) -> None:
        while not self.should_stop:
            await self.sleep(_MEND_INTERVAL_S)
            for partition in list(self.worker.city.states):
                if not self.worker.keeper.recovering:
                    await self.worker.mend(partition)

    async def _trim(self) -> None:
        while not self.should_stop:
            await self.sleep(_TRIM_INTERVAL_S)
            transport.give_back_freed_memory()

    async def _report_lag(self) -> None:
        while not self.should_stop:
            await self.sleep(1.0)
            for tp, held in list(self.worker.keeper.held.items()):
                end = transport.log_end(self.worker.app, tp)
                if end is not None:
                    self.worker.metrics.lag(tp.topic, tp.partition, max(0, end - held.state.position))

    async def _pace(self) -> None:
        worker, topic = self.worker, self.worker.settings.topics.progress
        mirrors = [Mirror(worker.reader, (topic, p)) for p in sorted(set(worker.settings.facts_partition.values()))]
        waiting: set[TP] = set()
        while not self.should_stop:
            await self.sleep(1.0)
            clocks = worker.pings.clocks() | worker.control.clocks()
            if worker.keeper.recovering or not clocks:
                waiting = set()  # a rebalance lets all of them go on
                continue
            for mirror in mirrors:
                await mirror.refresh()
            ahead = {TP(*s) for s in sources_ahead(clocks, slowest_city_ms(mirrors, worker.settings.facts_partition))}
            if ahead != waiting:
                transport.pause(worker.app, ahead - waiting)
                transport.resume(worker.app, waiting - ahead)
                waiting = ahead

    async def _keep_time(self) -> None:
        worker = self.worker
        asked: dict[TP, int] = {}
        while not self.should_stop:
            await self.sleep(_CLOCK_LOOK_S)
            mine = [tp for tp in worker.keeper.held if tp.topic != worker.settings.topics.facts]
            if worker.keeper.recovering or not mine:
                continue
            ends = {tp: end for tp in mine if (end := transport.log_end(worker.app, tp)) is not None}
            unknown = [tp for tp in mine if tp not in ends]
            if unknown:  # nothing was ever fetched from these: the broker knows where they end
                try:
                    asked = {tp: end for tp, (_, end) in (await transport.log_bounds(worker.app, unknown)).items()}
                except KafkaError as error:  # a broker is away for long: what time it is, is told when it is back
                    log.warning("the ends of %s could not be asked for: %r", unknown, error)
                    continue
            known = {(tp.topic, tp.partition): ends.get(tp, asked.get(tp, 0)) for tp in mine}
            now_ms = time.time_ns() // 1_000_000
            await worker.pings.keep_time(now_ms, known)
            await worker.control.keep_time(now_ms, known)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """An error here ends the worker: half of it must not go on without the other."""
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if self.worker.app.should_stop or self.should_stop:  # what it worked with is closed already
                return
            await transport.fail(self.worker.app, error)


def faust_credentials(settings: Settings) -> Any:
    """How Faust logs in."""
    deployment = settings.deployment
    context = deployment.ssl_context()
    if deployment.sasl_mechanism:
        return faust.SASLCredentials(
            username=deployment.sasl_username,
            password=deployment.sasl_password.get_secret_value() if deployment.sasl_password else "",
            mechanism=deployment.sasl_mechanism,
            ssl_context=context,
        )
    return context
