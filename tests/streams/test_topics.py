"""The topics of a deployment: what is wanted, and on a real Kafka that it is made, checked and mended."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, ResourceType

from streams.errors import UrbanBrainError
from streams.settings import Settings, loads
from streams.topics import Difference, Topic, check, create, wanted

if TYPE_CHECKING:
    from tests.kafka_fixtures import Kafka

TEMPLATE = """
[deployment]
clock = "CLOCK"
brokers = ["BROKERS"]
topic_prefix = "NAME."
[network]
operators = ["amber", "cobalt"]
[[network.feeds]]
topic = "NAME.pings"
gateway = true
partitions = 3
[city]
name = "rivertown"
time_zone = "UTC"
partition = 1
boundary = { south = 52, west = 9.9, north = 52.25, east = 10.2 }
"""


def configured(*, clock: str = "live", brokers: str = "127.0.0.1:1", name: str = "t") -> Settings:
    return loads(TEMPLATE.replace("CLOCK", clock).replace("BROKERS", brokers).replace("NAME", name))


def by_name(settings: Settings) -> dict[str, Topic]:
    return {topic.name: topic for topic in wanted(settings)}


def test_every_topic_of_the_design_is_wanted_with_its_partitions() -> None:
    assert {name: topic.partitions for name, topic in by_name(configured()).items()} == {
        "t.pings": 3,
        "t.urban-brain-t.pings-changelog": 3,
        "t.policies": 1,
        "t.alert.responses.amber": 1,
        "t.alert.responses.cobalt": 1,
        "t.urban-brain-t.alert.responses.amber-changelog": 1,
        "t.urban-brain-t.alert.responses.cobalt-changelog": 1,
        "t.urban-brain-t.policies-changelog": 1,
        "t.city.facts": 2,
        "t.urban-brain-t.city.facts-changelog": 2,
        "t.city.progress": 2,
        "t.alerts": 2,
        "t.alerts.amber": 2,
        "t.alerts.cobalt": 2,
        "t.alerts.open": 2,
        "t.alerts.shadow": 2,
        "t.cell.density": 2,
        "t.operator.report": 2,
        "t.quarantine": 1,
    }


def test_live_inputs_are_stamped_by_the_broker_and_replayed_ones_kept_whatever_their_year() -> None:
    assert by_name(configured(clock="live"))["t.pings"].config["message.timestamp.type"] == "LogAppendTime"
    replayed = by_name(configured(clock="replay"))["t.pings"].config
    assert replayed["message.timestamp.type"] == "CreateTime"
    assert replayed["retention.ms"] == "-1", "Kafka would delete what was recorded longer ago than the retention"


def test_control_topics_are_kept_for_ever_under_either_clock() -> None:
    for clock, stamp in (("live", "LogAppendTime"), ("replay", "CreateTime")):
        config = by_name(configured(clock=clock))["t.policies"].config
        assert (config["retention.ms"], config["cleanup.policy"]) == ("-1", "delete")
        assert config["message.timestamp.type"] == stamp


@pytest.mark.parametrize("name", ["t.urban-brain-t.pings-changelog", "t.alerts.open", "t.cell.density", "t.operator.report"])
def test_what_is_kept_by_key_is_compacted_soon(name: str) -> None:
    config = by_name(configured())[name].config
    assert config["cleanup.policy"] == "compact"
    assert (config["segment.bytes"], config["segment.ms"]) == ("8388608", "300000")
    assert config["min.cleanable.dirty.ratio"] == "0.1"


@pytest.fixture
def settings(kafka: Kafka) -> Settings:
    """A deployment of its own on the real Kafka."""
    return configured(brokers=kafka.bootstrap, name=f"t{uuid.uuid4().hex[:8]}")


def alter(kafka: Kafka, topic: str, key: str, value: str) -> None:
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    kafka.admin.incremental_alter_configs([resource])[resource].result(30)


def wait_for(settings: Settings, topics: int) -> list[Difference]:
    """The brokers' metadata follows the controller a little later."""
    while len(found := check(settings)) != topics:
        pass
    return found


@pytest.mark.kafka
def test_what_is_made_is_as_wanted_and_making_it_again_does_nothing(settings: Settings) -> None:
    assert {difference.kind for difference in check(settings)} == {"missing"}
    assert sorted(create(settings)) == sorted(topic.name for topic in wanted(settings))
    assert wait_for(settings, 0) == []
    assert create(settings) == []


@pytest.mark.kafka
def test_missing_topics_are_told_with_the_remedy(settings: Settings) -> None:
    first = check(settings)[0]
    assert first.fatal
    assert str(first) == (
        f"topic {settings.feeds[0].topic}: must exist with 3 partitions, found no such topic. Run: urban-brain topics create. "
        "If it is there, grant this user Describe on it."
    )


@pytest.mark.kafka
def test_a_setting_that_differs_is_told_and_set_on_request(settings: Settings, kafka: Kafka) -> None:
    create(settings)
    wait_for(settings, 0)
    pings = settings.feeds[0].topic
    alter(kafka, pings, "message.timestamp.type", "CreateTime")
    alter(kafka, settings.topics.alerts, "retention.ms", "1000")
    clock, retention = wait_for(settings, 2)
    assert str(clock) == (
        f"topic {pings}: must have message.timestamp.type=LogAppendTime, found CreateTime. "
        "Run: urban-brain topics create --alter."
    )
    assert (clock.fatal, retention.fatal) == (True, False)
    assert create(settings) == [], "nothing is altered without being asked for"
    assert create(settings, alter=True) == [pings, settings.topics.alerts]
    assert wait_for(settings, 0) == []


@pytest.mark.kafka
def test_a_wrong_number_of_partitions_is_told_and_never_mended(settings: Settings, kafka: Kafka) -> None:
    create(settings)
    wait_for(settings, 0)
    pings, alerts = settings.feeds[0].topic, settings.topics.alerts
    for topic in (pings, alerts):
        kafka.admin.create_partitions([NewPartitions(topic, 4)])[topic].result(30)
    inputs, outputs = wait_for(settings, 2)
    assert (inputs.topic, inputs.found, inputs.fatal) == (pings, "4", True)
    assert (outputs.topic, outputs.found) == (alerts, "4")
    assert create(settings, alter=True) == []


@pytest.mark.kafka
def test_more_copies_than_there_are_brokers_is_one_clear_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URBAN_BRAIN_REPLICATION_FACTOR", "3")
    text = TEMPLATE.replace("CLOCK", "live").replace("BROKERS", settings.deployment.brokers[0])
    with pytest.raises(UrbanBrainError, match=r"could not be made: .*deployment\.replication_factor"):
        create(loads(text.replace("NAME", f"t{uuid.uuid4().hex[:8]}")))
