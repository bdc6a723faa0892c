"""The topics of a deployment: what they must be like, making them, and finding what is wrong before anything hangs on it.

Nothing else makes topics: brokers should run with `auto.create.topics.enable=false`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from streams.errors import UrbanBrainError
from streams.reach import TIMEOUT_S, Access
from streams.settings import Deployment, Settings

PATIENCE_S = 2.0
"""For `check` by those that may be started right after the topics were made."""
FOR_EVER = "-1"
_LOOK_AGAIN_S = 0.2
_EMBEDDED = "mockCluster"  # so librdkafka calls it; it does not answer when it is asked for settings
_MS = timedelta(milliseconds=1)
_ANY_TIME = str(2**63 - 1)

# Else compaction lags, and recovery with it: the active segment is never compacted.
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.bytes": str(8 << 20),
    "segment.ms": str(5 * 60_000),
    "min.cleanable.dirty.ratio": "0.1",
}
# Wrong ones of these change results or lose state; the others cost only space or time.
_FATAL = ("cleanup.policy", "message.timestamp.type", "message.timestamp.after.max.ms")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it must be. config: the settings that differ from the broker's defaults, as Kafka's texts."""

    name: str
    purpose: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing about one topic that is not as configured. fatal: a worker must not start with it."""

    topic: str
    rule: str
    found: str
    remedy: str
    kind: Literal["missing", "partitions", "replication", "config"]
    fatal: bool

    def __str__(self) -> str:
        return f"topic {self.topic}: {self.rule}, found {self.found}. {self.remedy}"


def wanted(settings: Settings) -> tuple[Topic, ...]:
    """All topics of a deployment, input topics first."""
    names, deployment, cities = settings.topics, settings.deployment, settings.city_partitions
    kept = {"cleanup.policy": "delete", "retention.ms": str(deployment.retention // _MS)}
    plan: list[tuple[str, str, int, Mapping[str, str]]] = []
    plan += [(feed.topic, "input", feed.partitions, _input_config(deployment)) for feed in settings.feeds]
    plan += [(control.topic, "input", 1, _control_config(deployment)) for control in settings.controls]
    plan.append((names.facts, "facts", cities, kept))
    plan += [(names.changelog(feed.topic), "changelog", feed.partitions, COMPACTED) for feed in settings.feeds]
    plan += [(names.changelog(control.topic), "changelog", 1, COMPACTED) for control in settings.controls]
    plan.append((names.changelog(names.facts), "changelog", cities, COMPACTED))
    plan.append((names.progress, "progress", cities, COMPACTED))
    plan.append((names.alerts, "alerts", cities, kept))
    plan += [(names.operator_topic(name), "alerts", cities, kept) for name in settings.timeline.operators]
    plan.append((names.alerts_open, "alerts", cities, COMPACTED))
    plan.append((names.alerts_shadow, "alerts", cities, kept))
    plan.append((names.density, "density", cities, COMPACTED))
    plan.append((names.report, "report", cities, COMPACTED))
    plan.append((names.quarantine, "quarantine", 1, kept))
    insync = {"min.insync.replicas": str(deployment.min_insync_replicas)}
    copies = deployment.replication_factor
    return tuple(Topic(name, purpose, count, copies, {**config, **insync}) for name, purpose, count, config in plan)


def _input_config(deployment: Deployment) -> dict[str, str]:
    """Live: the broker's clock is the source's clock. Replay: the producer's, of any year.

    Kafka counts retention from the newest record time: recorded pings of last year would be gone within minutes.
    """
    if deployment.clock == "live":
        retention = str(deployment.retention // _MS)
        return {"cleanup.policy": "delete", "retention.ms": retention, "message.timestamp.type": "LogAppendTime"}
    return {
        "cleanup.policy": "delete",
        "retention.ms": FOR_EVER,
        "message.timestamp.type": "CreateTime",
        "message.timestamp.after.max.ms": _ANY_TIME,
    }


def _control_config(deployment: Deployment) -> dict[str, str]:
    """As any input, but nothing is ever deleted: what was in force is part of the record."""
    return {**_input_config(deployment), "retention.ms": FOR_EVER}


def check(settings: Settings, *, timeout_s: float = TIMEOUT_S, patience_s: float = 0.0) -> list[Difference]:
    """Everything that is not as configured. Raises BrokerAwayError if no broker answers in time, RefusedByBrokersError if one refuses.

    patience_s: how long to look again for topics that are missing; brokers hear of new ones one after another.
    The embedded broker cannot be asked for settings; of its topics only existence and partitions are looked at.
    """
    client = _Client(settings.deployment, timeout_s)
    found = client.topics()
    topics = wanted(settings)
    deadline = time.monotonic() + patience_s
    while (missing := [topic for topic in topics if topic.name not in found]) and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN_S)
        found = client.topics()
    present = [topic for topic in topics if topic.name in found]
    differences = [_missing(topic) for topic in missing]
    for topic in present:
        differences += _shape(topic, *found[topic.name])
    configs = client.configs([topic.name for topic in present])
    for topic in present:
        differences += _settings(topic, configs.get(topic.name))
    return differences


def create(settings: Settings, *, alter: bool = False, timeout_s: float = TIMEOUT_S) -> list[str]:
    """Make what is missing; with `alter` also set the settings that differ. Returns the names of what was done to.

    Idempotent. Partition counts and copies of existing topics are never touched: that needs a person.
    """
    client = _Client(settings.deployment, timeout_s)
    found = client.topics()
    done = client.create([topic for topic in wanted(settings) if topic.name not in found])
    if alter:
        wrong = {difference.topic for difference in check(settings, timeout_s=timeout_s) if difference.kind == "config"}
        done += client.alter([topic for topic in wanted(settings) if topic.name in wrong])
    return done


def _missing(topic: Topic) -> Difference:
    rule = f"must exist with {topic.partitions} partitions"
    remedy = "Run: urban-brain topics create. If it is there, grant this user Describe on it."
    return Difference(topic.name, rule, "no such topic", remedy, "missing", fatal=True)


def _shape(topic: Topic, partitions: int, copies: int) -> Iterator[Difference]:
    if partitions != topic.partitions:
        remedy = (
            "Set the configuration to what is there, or make the topic anew (its records are lost)."
            if topic.purpose in ("input", "changelog") or partitions > topic.partitions
            else f"Run: kafka-topics.sh --alter --topic {topic.name} --partitions {topic.partitions}."
        )
        yield Difference(
            topic.name, f"must have {topic.partitions} partitions", str(partitions), remedy, "partitions", fatal=True
        )
    if copies < topic.replication_factor:
        rule, remedy = f"must have {topic.replication_factor} copies", "Run: kafka-reassign-partitions.sh."
        yield Difference(topic.name, rule, str(copies), remedy, "replication", fatal=False)


def _settings(topic: Topic, config: Mapping[str, str] | None) -> Iterator[Difference]:
    if config is None:
        return
    for key, value in topic.config.items():
        found = config.get(key)
        if found is not None and found != value:
            remedy = "Run: urban-brain topics create --alter."
            yield Difference(topic.name, f"must have {key}={value}", found, remedy, "config", fatal=key in _FATAL)


class _Client:
    """Kafka's admin calls with bounded waits and our errors."""

    def __init__(self, deployment: Deployment, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._embedded = False
        self._access = Access(deployment)
        self._admin = AdminClient(self._access.options)

    def topics(self) -> dict[str, tuple[int, int]]:
        """Name -> (partitions, copies) of all topics that this user may see."""
        found = self._access.metadata(self._admin, timeout_s=self._timeout_s)
        self._embedded = found.cluster_id.startswith(_EMBEDDED)
        return {
            name: (len(topic.partitions), min((len(p.replicas) for p in topic.partitions.values()), default=0))
            for name, topic in found.topics.items()
            if topic.error is None
        }

    def configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Name -> settings; nothing of a topic whose settings cannot be asked for (embedded broker, missing rights)."""
        if not names or self._embedded:
            return {}
        asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        answers = self._admin.describe_configs(asked, request_timeout=self._timeout_s)
        found: dict[str, dict[str, str]] = {}
        for resource, answer in answers.items():
            try:
                entries = answer.result()
            except KafkaException:
                continue
            found[resource.name] = {key: entry.value for key, entry in entries.items()}
        return found

    def create(self, topics: Sequence[Topic]) -> list[str]:
        if not topics:
            return []
        new = [NewTopic(topic.name, topic.partitions, topic.replication_factor, config=dict(topic.config)) for topic in topics]
        answers = self._admin.create_topics(new, operation_timeout=self._timeout_s, request_timeout=self._timeout_s)
        return [name for name, answer in answers.items() if self._made(name, answer)]

    def _made(self, name: str, answer: Future[None]) -> bool:
        try:
            answer.result()
        except KafkaException as error:
            if error.args[0].name() == "TOPIC_ALREADY_EXISTS":  # somebody else was faster
                return False
            raise UrbanBrainError(
                f"topic {name} could not be made: {error.args[0].str()}. Check the rights and the number of brokers "
                "(deployment.replication_factor)."
            ) from None
        return True

    def alter(self, topics: Sequence[Topic]) -> list[str]:
        if not topics:
            return []
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                topic.name,
                incremental_configs=[
                    ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in topic.config.items()
                ],
            )
            for topic in topics
        ]
        for resource, answer in self._admin.incremental_alter_configs(resources).items():
            try:
                answer.result()
            except KafkaException as error:
                raise UrbanBrainError(
                    f"topic {resource.name} could not be altered: {error.args[0].str()}. Check the rights."
                ) from None
        return [topic.name for topic in topics]
