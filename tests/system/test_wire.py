"""What really stands on the topics of a deployment: everything fits the published documents, and nobody reads of a rival."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import orjson
import pytest
from jsonschema import Draft7Validator

from geo.alert import Event
from streams.feeds.producing import produce
from streams.feeds.records import FeedRecord
from streams.topics import wanted
from tests.kafka_fixtures import Kafka
from tests.schemas.validating import closed, published
from tests.system.configuring import RULE
from tests.system.crowds import SHARED, bike_ids, crowds
from tests.system.harness import System, make_system
from tests.system.reading import Logged

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

OPERATORS = ("amber", "amber-go", "jade")
"""One's name is within another's."""

BIKES = {"amber": 31, "amber-go": 47, "jade": 59}


ON_TRIAL = {
    "policy_id": "trial",
    "name": "On trial",
    "start_date": 0,
    "rules": [
        {"rule_id": "ten", "name": "Ten", "rule_type": "count", "maximum": 10, "urban_brain": {"mode": "shadow", "for": "10s"}}
    ],
}


OTHER_FEEDS = {"mds_feed", "arrow_feed"}
"""Of other formats than this deployment's; what they say is held against flat pings in tests/streams/test_packs.py, test_arrow.py."""


@dataclass
class Deployed:
    """A deployment whose worker has worked through a mixed log and ended."""

    system: System
    log: list[FeedRecord]
    topics: dict[str, list[Logged]]


@pytest.fixture(scope="module")
def deployed(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    directory = tmp_path_factory.mktemp("wire")
    (directory / "policies.json").write_bytes(orjson.dumps({"policies": [ON_TRIAL]}))
    rules = 'policies = ["policies.json"]\n' + RULE.format(per_hectare="0.5")
    system = make_system(kafka.bootstrap, directory, operators=OPERATORS, rules=rules)
    try:
        log = crowds(system.settings.feeds[0].topic, OPERATORS, BIKES, minutes=20)
        withdrawal = b'{"schema": "urban-brain/policy/1", "withdraw": "of-old"}'
        said = FeedRecord(log[0].record_ms, system.settings.topics.policies, b"of-old", withdrawal)
        answer = {"schema": "urban-brain/response/1", "city": "rivertown", "episode_id": str(UUID(int=7)), "status": "done"}
        topic = system.settings.topics.responses(OPERATORS[0])
        answered = FeedRecord(log[0].record_ms, topic, answer["episode_id"].encode(), orjson.dumps(answer))
        worker = system.worker()
        last = log[-1]._replace(value=b"[" + log[-1].value + b"]")  # the same in an array
        produce(system.settings, [said, answered, *log[:-1], last], speed=None)
        system.wait_progress(system.newest_input_ms() // 5000 - 1)
        worker.stop()
        yield Deployed(system, log, {topic.name: system.read(topic.name) for topic in wanted(system.settings)})
    finally:
        system.close()


# --- the documents ------------------------------------------------------------------------------------------------------


@cache
def document() -> dict[str, Any]:
    return published("asyncapi.json")


def channel_of(system: System, topic: str) -> tuple[str, dict[str, Any]]:
    """The channel whose address the topic has."""
    names = {"prefix": re.escape(system.settings.topics.prefix), "app_id": re.escape(system.settings.deployment.app_id)}
    names |= {"operator": "|".join(OPERATORS), "feed": re.escape(system.settings.feeds[0].topic), "topic": ".+"}
    names |= dict.fromkeys(OTHER_FEEDS, "(?!)")
    found = []
    for name, channel in document()["channels"].items():
        pattern = re.sub(r"\\\{(\w+)\\\}", lambda match: f"(?:{names[match[1]]})", re.escape(channel["address"]))
        if re.fullmatch(pattern, topic):
            found.append((name, channel))
    assert len(found) == 1, (topic, [name for name, _ in found])
    return found[0]


def wrong(schema: dict[str, Any], value: Any) -> list[str]:
    whole = closed(schema | {"components": document()["components"]})
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(whole).iter_errors(value)]


def fits(message: dict[str, Any], record: Logged) -> list[str]:
    """What a record has that its message does not say."""
    if record.value is None or message["payload"] == {"type": "null"}:
        return [] if record.value is None and message["payload"] == {"type": "null"} else ["a value, or none"]
    if message["payload"].get("format") == "binary":
        return []
    try:
        found = wrong(message["payload"], orjson.loads(record.value))
    except orjson.JSONDecodeError as error:
        found = [str(error)]
    headers = {name: value.decode() for name, value in record.headers.items()}
    return found + (wrong(message["headers"], headers) if "headers" in message else [f"header {name}" for name in headers])


def test_every_record_of_every_topic_is_a_message_of_its_channel(deployed: Deployed) -> None:
    messages, seen = document()["components"]["messages"], Counter[tuple[str, str]]()
    rubbish = {record.value for record in deployed.log if record.key == b"junk"}
    for topic, records in deployed.topics.items():
        name, channel = channel_of(deployed.system, topic)
        for record in records:
            if record.value in rubbish:
                continue
            verdicts = {kind: fits(messages[kind], record) for kind in channel["messages"]}
            good = [kind for kind, found in verdicts.items() if not found]
            assert len(good) == 1, (topic, record, verdicts)
            seen[name, good[0]] += 1
    channels = {
        name: channel for name, channel in document()["channels"].items() if not channel["parameters"].keys() & OTHER_FEEDS
    }
    told = {(name, kind) for name, channel in channels.items() for kind in channel["messages"]}
    assert told == seen.keys(), "a message that the document tells of and nobody sends"
    assert seen["operatorAlerts", "alert"] > 60
    assert seen["quarantine", "quarantined"] == 2


# --- isolation ----------------------------------------------------------------------------------------------------------


def texts(value: Any) -> Iterator[str]:
    """Every string in a body, keys included."""
    if isinstance(value, dict):
        for key, inside in value.items():
            yield key
            yield from texts(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from texts(inside)
    elif isinstance(value, str):
        yield value


def of(deployed: Deployed, operator: str) -> list[Logged]:
    return deployed.topics[deployed.system.settings.topics.operator_topic(operator)]


def everything(record: Logged) -> list[str]:
    """Every string of a record: key, headers, body."""
    assert record.key is not None and record.value is not None
    return [
        record.key.decode(),
        *record.headers,
        *(v.decode() for v in record.headers.values()),
        *texts(orjson.loads(record.value)),
    ]


@pytest.mark.parametrize("operator", OPERATORS)
def test_no_operator_reads_a_rivals_bike_or_name(deployed: Deployed, operator: str) -> None:
    ids, records = bike_ids(OPERATORS, BIKES), of(deployed, operator)
    rivals = [name for name in OPERATORS if name != operator]
    forbidden = {bike for rival in rivals for bike in ids[rival][SHARED:]}
    mine: set[str] = set()
    for record in records:
        for text in everything(record):
            assert text not in forbidden, record
            left = text.replace(operator, "")
            assert not any(rival in left for rival in rivals if rival not in operator), record
            assert text not in rivals, record
            mine.add(text)
        assert b"count_all_operators" not in (record.value or b"")
    assert len(mine & set(ids[operator])) > 20, "its own bikes are named"
    assert mine & set(ids[operator][:SHARED]), "also those whose ids are everybody's"


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_bike_of_an_id_that_all_have_stands_where_its_own_operators_bike_stands(deployed: Deployed, operator: str) -> None:
    pings = [orjson.loads(record.value) for record in deployed.log if record.value.startswith(b"{")]
    told = {(p["bike_id"], p["lat"], p["lng"]) for p in pings if p["operator"] == operator}
    listed = [bike for record in of(deployed, operator) for bike in orjson.loads(record.value or b"")["bikes"]]
    assert {bike["id"] for bike in listed} & {f"same-{n}" for n in range(SHARED)}
    assert all((bike["id"], bike["lat"], bike["lng"]) in told for bike in listed)


@pytest.mark.parametrize("operator", OPERATORS)
def test_without_its_rivals_an_operator_reads_the_same_bytes(deployed: Deployed, operator: str) -> None:
    """No number depends on a rival: their pings become clock records, and nothing changes."""
    system = deployed.system
    feed = system.settings.feeds[0].topic
    log = [record for record in system.input_log() if record.topic == feed]
    alone = [record if _is_of(record, operator) else record._replace(value=None) for record in log]  # type: ignore[arg-type]
    through = max(system.progress().values())

    def of_operator(events: Iterable[Event]) -> list[Event]:
        """What it was told of; the shadow rule is the city's affair."""
        own = [event for event in events if event.operator == operator and event.tick <= through]
        return [event for event in own if event.operator_body is not None]

    events, together = of_operator(system.backtest(alone)), of_operator(system.backtest())
    assert [event.operator_body for event in events] == [record.value for record in of(deployed, operator)]
    assert len(events) > 20
    assert [event.body for event in together] != [event.body for event in events], (
        "the city's copy knows of rivals: the test can fail"
    )


def _is_of(record: FeedRecord, operator: str) -> bool:
    return record.value is not None and record.value.startswith(b"{") and orjson.loads(record.value)["operator"] == operator
