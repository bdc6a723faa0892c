"""The webhook bridge as a process, between a real Kafka with a real worker's alerts and a real HTTP server that fails."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.kafka_local import KafkaCluster
from streams.bridge.event import signature
from tests.kafka_fixtures import Kafka
from tests.streams.bridge.endpoint import Endpoint, status
from tests.system.harness import ROOT, free_port
from tests.system.reading import Logged, read_topic
from tests.system.told import PARTITIONS, Told

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
KEY = b"0123456789abcdef01234567"


class Bridge:
    """One `urban-brain bridge webhook`."""

    def __init__(self, config: Path, output: Path) -> None:
        self.output = output
        self.port = free_port()
        own = {
            "URBAN_BRAIN_WEBHOOK_SECRET": SECRET,
            "URBAN_BRAIN_HTTP_PORT": str(self.port),
            "URBAN_BRAIN_HTTP_HOST": "127.0.0.1",
        }
        with output.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agents", "bridge", "webhook", "--config", str(config)],
                cwd=ROOT, env={**os.environ, **own}, stdout=sink, stderr=subprocess.STDOUT,
            )  # fmt: skip

    async def ended(self, timeout_s: float = 30.0) -> int:
        return await asyncio.to_thread(self.process.wait, timeout_s)

    async def stop(self) -> None:
        self.process.terminate()
        assert await self.ended() == 0, self.text()

    async def kill(self) -> None:
        self.process.kill()
        await self.ended()

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())


@dataclass
class Rig:
    """A topic to read, a group of its own, an endpoint."""

    told: Told
    endpoint: Endpoint
    directory: Path
    bootstrap: str
    group: str = field(default_factory=lambda: f"bridge-{os.urandom(4).hex()}")
    bridges: list[Bridge] = field(default_factory=list)

    def bridge(self, **keys: object) -> Bridge:
        """Start one; keys of [webhook] that differ."""
        table: dict[str, Any] = {
            "url": self.endpoint.url, "operator": "alpha", "group": self.group, "first_retry": "20ms", "longest_retry": "200ms",
            "dead_letter_file": str(self.directory / "dead.ndjson"),
        }  # fmt: skip
        table = {key: value for key, value in (table | keys).items() if value is not None}
        deployment = {
            "brokers": self.bootstrap.split(","), "topic_prefix": self.told.system.settings.topics.prefix, "session_timeout": "3s"
        }  # fmt: skip
        config = self.directory / f"bridge{len(self.bridges)}.toml"
        config.write_text("[deployment]\n" + toml(deployment) + "[webhook]\n" + toml(table))
        self.bridges.append(Bridge(config, self.directory / "bridge.log"))
        return self.bridges[-1]

    async def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 45.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}\n{self.bridges[-1].text()[-3000:]}"
            await asyncio.sleep(0.02)

    async def all_taken(self) -> None:
        await self.until(lambda: set(self.endpoint.taken) >= self.told.ids, "everything is taken", 60)

    def committed(self, topic: str | None = None) -> list[int]:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.group, "log_level": 0})
        try:
            places = [TopicPartition(topic or self.told.topic, partition) for partition in range(PARTITIONS)]
            return [place.offset for place in consumer.committed(places, timeout=10)]
        finally:
            consumer.close()

    def ends(self) -> list[int]:
        return [max(r.offset for r in self.told.records if r.partition == p) + 1 for p in range(PARTITIONS)]

    def assert_episodes_were_told_in_order(self) -> None:
        """By first occurrence: what comes again after a crash is known by its id."""
        newest: dict[str, int] = {}
        for name in dict.fromkeys(self.endpoint.taken):
            episode, sequence = name.split("/")
            assert int(sequence) == newest.get(episode, 0) + 1, name
            newest[episode] = int(sequence)

    def assert_bodies_and_signatures_are_right(self) -> None:
        records = {record.headers["ce_id"].decode(): record for record in self.told.records}
        for arrival in self.endpoint.arrivals:
            record = records[arrival.id]
            assert arrival.body == record.value
            for name in ("type", "source", "subject", "time", "specversion", "dataschema"):
                assert arrival.headers[f"ce-{name}"].encode() == record.headers[f"ce_{name}"]
            assert arrival.headers["content-type"] == "application/json"
            signed_s = int(arrival.headers["webhook-timestamp"])
            assert arrival.headers["webhook-signature"] == signature(KEY, arrival.id, signed_s, arrival.body)


def toml(table: dict[str, Any]) -> str:
    return "".join(f"{key} = {orjson.dumps(value).decode()}\n" for key, value in table.items())


@pytest.fixture
async def rig(told: Told, tmp_path: Path, kafka: Kafka) -> AsyncIterator[Rig]:
    endpoint = Endpoint()
    await endpoint.start()
    rig = Rig(told, endpoint, tmp_path, kafka.bootstrap)
    yield rig
    for bridge in rig.bridges:
        if bridge.process.poll() is None:
            await bridge.kill()
    await endpoint.stop()


async def test_every_alert_arrives_once_as_it_is_on_the_topic_and_a_restart_sends_nothing_again(rig: Rig) -> None:
    bridge = rig.bridge()
    await rig.all_taken()
    assert '"ready": true' in await asyncio.to_thread(bridge.page, "/ready")
    metrics = await asyncio.to_thread(bridge.page, "/metrics")
    assert f'urban_brain_webhook_events_total{{outcome="delivered"}} {len(rig.told.ids)}.0' in metrics
    await bridge.stop()
    rig.assert_bodies_and_signatures_are_right()
    rig.assert_episodes_were_told_in_order()
    assert rig.committed() == rig.ends()
    second = rig.bridge()
    await rig.until(lambda: second.text().count("Setting newly assigned partitions") >= 2, "the second one reads")
    await second.stop()
    assert sorted(rig.endpoint.ids()) == sorted(rig.told.ids)
    assert SECRET not in second.text()
    assert "token=1" not in second.text()


async def test_killed_again_and_again_while_the_endpoint_fails_it_loses_nothing_and_keeps_the_order(rig: Rig) -> None:
    for number, name in enumerate(sorted(rig.told.ids)):
        rig.endpoint.then(name, *[status((500, 429, 404)[number % 3])] * (number % 3))
    for part in (5, 3, 2):
        bridge = rig.bridge(window=8, parallel=2)
        wanted = len(rig.told.ids) // part
        await rig.until(lambda wanted=wanted: len(set(rig.endpoint.taken)) >= wanted, f"{wanted} events")
        assert len(set(rig.endpoint.taken)) < len(rig.told.ids), "the kill must come in mid-stream"
        await bridge.kill()
    bridge = rig.bridge(window=8, parallel=2)
    await rig.all_taken()
    await bridge.stop()
    rig.assert_episodes_were_told_in_order()
    rig.assert_bodies_and_signatures_are_right()
    assert rig.committed() == rig.ends()


async def test_nothing_is_committed_that_was_not_delivered(rig: Rig) -> None:
    """One event of the first partition is refused for ever: the offset stays before it, all others arrive."""
    stuck = next(record for record in rig.told.records if record.partition == 0 and record.offset >= 3)
    name = stuck.headers["ce_id"].decode()
    rig.endpoint.then(name, *[status(500)] * 10_000)
    bridge = rig.bridge(attempts=1000)
    later = {r.headers["ce_id"].decode() for r in rig.told.records if r.key == stuck.key and r.offset >= stuck.offset}
    await rig.until(lambda: set(rig.endpoint.taken) >= rig.told.ids - later, "all others")
    await rig.until(lambda: rig.committed() == [stuck.offset, rig.ends()[1]], "the commit before it")
    await bridge.stop()
    assert rig.committed() == [stuck.offset, rig.ends()[1]]
    assert not later & set(rig.endpoint.taken)


async def test_two_bridges_share_the_partitions_and_one_that_goes_leaves_nothing_behind(rig: Rig) -> None:
    rig.endpoint.always("none", status(200))
    for name in sorted(rig.told.ids):
        rig.endpoint.then(name, status(500))
    one, two = rig.bridge(window=6, parallel=1), rig.bridge(window=6, parallel=1)
    await rig.until(lambda: len(set(rig.endpoint.taken)) > len(rig.told.ids) // 4, "a quarter")
    await one.stop()
    await rig.all_taken()
    await two.stop()
    rig.assert_bodies_and_signatures_are_right()
    assert rig.committed() == rig.ends()


async def test_dead_letters_lie_in_their_topic_and_another_bridge_can_deliver_them(rig: Rig, kafka: Kafka) -> None:
    dead_topic = kafka.create_topic("dead", partitions=PARTITIONS)
    victim = rig.told.records[0]
    episode = (victim.key or b"").decode()
    rig.endpoint.always(episode, status(500))
    bridge = rig.bridge(attempts=2, dead_letter_file=None, dead_letter_topic=dead_topic)
    doomed = {name for name in rig.told.ids if name.startswith(episode)}
    await rig.until(lambda: set(rig.endpoint.taken) >= rig.told.ids - doomed, "all others")
    await rig.until(lambda: rig.committed() == rig.ends(), "all are settled")
    await bridge.stop()
    letters = read_topic(rig.bootstrap, dead_topic)
    assert [letter.headers["ce_id"].decode() for letter in letters] == sorted(doomed, key=lambda name: int(name.split("/")[1]))
    assert (letters[0].key, letters[0].value) == (victim.key, victim.value)
    told = {name: value.decode() for name, value in letters[0].headers.items() if name.startswith("dead_")}
    where = {"dead_topic": rig.told.topic, "dead_partition": str(victim.partition), "dead_offset": str(victim.offset)}
    assert told == {"dead_reason": "HTTP 500", "dead_attempts": "2", **where}

    rig.endpoint.always(episode, None)
    again = rig.bridge(operator=None, topic=dead_topic, group=f"{rig.group}-again")
    await rig.all_taken()
    await again.stop()
    rig.assert_bodies_and_signatures_are_right()
    assert len(read_topic(rig.bootstrap, dead_topic)) == len(letters)


@pytest.mark.parametrize(
    ("keys", "status_code", "message"),
    [
        ({"topic": "nowhere", "operator": None}, 2, "topic nowhere: must exist, found no such topic."),
        ({"dead_letter_topic": "nowhere", "dead_letter_file": None}, 2, "or correct [webhook] dead_letter_topic."),
        ({"url": "ftp://x"}, 2, "must be an http or https address"),
        ({"dead_letter_file": "/nowhere/dead.ndjson"}, 1, "No such file or directory: /nowhere/dead.ndjson"),
    ],
)
async def test_what_can_not_work_is_told_at_once_with_the_remedy(
    rig: Rig, keys: dict[str, Any], status_code: int, message: str
) -> None:
    bridge = rig.bridge(**keys)
    assert await bridge.ended(20) == status_code
    assert message in bridge.text()
    assert "Traceback" not in bridge.text()


async def test_brokers_that_are_away_are_told_with_the_remedy(rig: Rig) -> None:
    rig.bootstrap = "127.0.0.1:1"
    bridge = rig.bridge()
    assert await bridge.ended(60) == 1
    assert "no broker answered within 10 s at 127.0.0.1:1" in bridge.text()
    assert "Traceback" not in bridge.text()


async def test_an_interrupt_ends_it_in_order(rig: Rig) -> None:
    bridge = rig.bridge()
    await rig.all_taken()
    bridge.process.send_signal(signal.SIGINT)
    assert await bridge.ended() == 0
    assert rig.committed() == rig.ends()


async def test_one_that_stood_still_while_another_took_over_commits_nothing_and_goes_on_with_what_it_gets(rig: Rig) -> None:
    """SIGSTOP for longer than the session: what it still sends when it wakes are events that came already, by their ids."""
    for name in sorted(rig.told.ids):
        rig.endpoint.then(name, status(500))
    old = rig.bridge(window=6, parallel=1)
    await rig.until(lambda: len(set(rig.endpoint.taken)) > 10, "some events")
    old.process.send_signal(signal.SIGSTOP)
    new = rig.bridge(window=6, parallel=1)
    before = len(set(rig.endpoint.taken))
    await rig.until(lambda: len(set(rig.endpoint.taken)) > before + 10, "the other one has taken over")
    old.process.send_signal(signal.SIGCONT)
    await rig.all_taken()
    await old.stop()
    await new.stop()
    rig.assert_bodies_and_signatures_are_right()
    rig.assert_episodes_were_told_in_order()
    assert rig.committed() == rig.ends()


@pytest.mark.timeout(180)
async def test_a_broker_that_is_away_is_waited_for(rig: Rig, tmp_path: Path) -> None:
    """A cluster of its own, whose only node is killed and started again while the bridge works."""
    with KafkaCluster(tmp_path / "kafka", short_lived=True) as cluster:
        rig.bootstrap = cluster.bootstrap
        admin, producer = (
            AdminClient({"bootstrap.servers": cluster.bootstrap}),
            Producer({"bootstrap.servers": cluster.bootstrap}),
        )
        admin.create_topics([NewTopic(rig.told.topic, PARTITIONS, 1)])[rig.told.topic].result(30)

        def write(records: list[Logged]) -> None:
            for record in records:
                headers = list(record.headers.items())
                producer.produce(rig.told.topic, record.value, record.key, partition=record.partition, headers=headers)
            assert producer.flush(60) == 0

        write(rig.told.records[:30])
        bridge = rig.bridge()
        await rig.until(lambda: len(rig.endpoint.taken) == 30, "the first ones")
        await asyncio.to_thread(cluster.kill, 1)
        await rig.until(lambda: bridge.text().count("Unable connect to node") > 3, "it notices")
        assert bridge.process.poll() is None, bridge.text()
        await asyncio.to_thread(cluster.start, 1)
        await asyncio.to_thread(write, rig.told.records[30:])
        await rig.all_taken()
        await bridge.stop()
        assert rig.committed() == rig.ends()
        arrived = len(rig.endpoint.arrivals)
        bridge = rig.bridge(group=f"{rig.group}-2")
        await rig.until(lambda: len(rig.endpoint.arrivals) > arrived, "another group reads them, too")
        await asyncio.to_thread(cluster.kill, 1)
        began = time.monotonic()
        await bridge.stop()
        assert time.monotonic() - began < 10, "whoever has to end does not wait for the broker"
    rig.assert_episodes_were_told_in_order()
