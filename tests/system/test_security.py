"""On brokers as in production: encrypted, with passwords, and with the rights of docs/operations.md."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from deploy.kafka_local import KafkaCluster
from deploy.kafka_secure import make_certificate
from tests.system.harness import System
from tests.system.secured import (
    PASSWORDS,
    PLAIN_PASSWORD,
    PLAIN_USER,
    load_as,
    login,
    secured_cluster,
    secured_system,
)

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.usefixtures("kafka")]

TICKS = 40
WRONG = "secret-but-wrong"
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with secured_cluster(tmp_path_factory.mktemp("secured")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def system(cluster: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Its topics made by the administrator, pings of both operators replayed and worked on, one worker by SCRAM, one by PLAIN."""
    system = secured_system(cluster, tmp_path_factory.mktemp("system"))
    try:
        succeed(system, "topics", "create", user="city-admin")
        workers = [
            system.worker(log_level="debug", sasl_username="city-worker", sasl_password=PASSWORDS["city-worker"]),
            system.worker(log_level="debug", sasl_username=PLAIN_USER, sasl_password=PLAIN_PASSWORD, sasl_mechanism="PLAIN"),
        ]
        system.wait_ready(*workers)
        succeed(system, "replay", pings(system.directory), "--speed", "max", user="city-worker")
        system.wait_progress(TICKS - 1)
        yield system
    finally:
        system.close()


def pings(directory: Path) -> Path:
    """Eight bikes of each operator that stand in one place and speak every tick."""
    file = directory / "pings.ndjson"
    with file.open("wb") as sink:
        for tick in range(TICKS):
            for bike in range(8):
                for operator in ("amber", "blue"):
                    ping = {
                        "bike_id": f"{operator}{bike}",
                        "operator": operator,
                        "ts": tick * 5000 + bike,
                        "lat": 39.9,
                        "lng": 116.4,
                    }
                    sink.write(orjson.dumps(ping | {"status": "available"}) + b"\n")
    return file


def run(system: System, *arguments: str | Path, user: str, password: str | None = None, **environment: str) -> Done:
    return system.command(*arguments, timeout_s=40, **{**login(user, password), **environment})


def succeed(system: System, *arguments: str | Path, user: str) -> str:
    done = run(system, *arguments, user=user)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(180)
def test_a_ping_becomes_an_alert_and_no_password_is_told(system: System) -> None:
    backtest = system.backtest()
    assert {event.operator for event in backtest if event.state == "raised"} == {"amber", "blue"}
    system.assert_events_are(backtest)
    for operator in ("amber", "blue"):
        told = succeed(system, "alerts", "--operator", operator, "--json", "--from-beginning", user=operator).splitlines()
        own = [event.operator_body.decode() for event in backtest if event.operator == operator and event.operator_body]
        assert told == own
    everything = succeed(system, "alerts", "--json", "--from-beginning", user="city-desk").splitlines()
    assert sorted(everything) == sorted(event.body.decode() for event in backtest)
    assert "All 21 topics" in succeed(system, "topics", "check", user="city-worker")
    assert "brokers: 127.0.0.1" in succeed(system, "doctor", user="city-worker")
    one, other = system.workers
    assert one.running and other.running
    logs = one.text() + other.text()
    assert "Authenticated as city-worker via SCRAM-SHA-512" in logs
    assert f"Authenticated as {PLAIN_USER} via PLAIN" in logs
    assert "DEBUG" in logs, "the level at which clients tell most"
    assert_no_secret(logs)
    settings = load_as("city-worker", system.config)
    assert_no_secret(f"{settings!r} {settings} {settings.deployment!r} {settings.deployment.model_dump()}")


def assert_no_secret(text: str) -> None:
    for secret in (*PASSWORDS.values(), PLAIN_PASSWORD, WRONG):
        assert secret not in text


# --- what the documented rights do not allow ----------------------------------------------------------------------------


def client(system: System, user: str) -> dict[str, Any]:
    deployment = system.settings.deployment
    own = {"sasl.username": user, "sasl.password": PASSWORDS[user], "log_level": 0}
    return deployment.librdkafka() | own


def write(system: System, user: str, topic: str) -> int | None:
    """None: it was written; else the code of the error."""
    told: list[KafkaError | None] = []
    producer = Producer({**client(system, user), "message.timeout.ms": 20_000})
    newest_ms = TICKS * 5000  # of the log's clock: nothing but a malformed ping is added
    producer.produce(topic, b"{}", b"key", 0, timestamp=newest_ms, on_delivery=lambda error, _: told.append(error))
    assert producer.flush(20) == 0
    return None if told[0] is None else told[0].code()


def read(system: System, user: str, topic: str, group: str | None = None) -> int | None:
    """None: records, or the group's answer, came; else the code of the error. Without a group: the topic only."""
    own = {"group.id": group or "no.group", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer(client(system, user) | own)
    try:
        if (unseen := consumer.list_topics(topic, timeout=20).topics[topic].error) is not None:
            return int(unseen.code())
        if group is None:
            consumer.assign([TopicPartition(topic, 0, 0)])
        else:
            consumer.subscribe([topic])
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                return None
            if message is not None and (group or message.error().code() != KafkaError.GROUP_AUTHORIZATION_FAILED):
                return int(message.error().code())
            if group is not None and consumer.assignment():
                return None
        raise AssertionError(f"{user} neither read {topic} nor was refused")
    except KafkaException as error:
        return error.args[0].code()
    finally:
        consumer.close()


@pytest.mark.timeout(180)
def test_an_operator_can_neither_read_what_is_not_its_own_nor_write_it(system: System) -> None:
    no_topic, no_group = KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED
    own, rivals, names = "brain.alerts.amber", "brain.alerts.blue", system.settings.topics
    assert write(system, "amber", "pings.amber") is None
    assert write(system, "amber", names.responses("amber")) is None
    assert read(system, "amber", names.responses("amber")) == no_topic, "what it wrote, it knows"
    assert read(system, "amber", own) is None
    assert read(system, "amber", own, "amber.dispatch") is None
    for group in ("blue.dispatch", "urban-brain", "amber"):
        assert read(system, "amber", own, group) == no_group
    outputs = [names.facts, names.progress, names.alerts, names.alerts_open, names.alerts_shadow, names.quarantine]
    outputs += [names.density, names.report, names.changelog("pings.amber"), names.changelog(names.facts)]
    outputs += [names.policies, names.responses("blue")]
    with ThreadPoolExecutor(8) as at_once:
        assert {*at_once.map(lambda topic: read(system, "amber", topic), [rivals, "pings.amber", "pings.blue", *outputs])} == {
            no_topic
        }
        assert {*at_once.map(lambda topic: write(system, "amber", topic), [own, rivals, "pings.blue", *outputs])} == {no_topic}
        assert {
            *at_once.map(
                lambda topic: write(system, "city-desk", topic),
                ["pings.blue", rivals, names.alerts_open, names.responses("blue")],
            )
        } == {no_topic}
    assert read(system, "city-desk", rivals) is None
    assert read(system, "city-desk", names.report, "city-desk.rates") is None


# --- who is refused is told, and is not kept waiting --------------------------------------------------------------------


def refused(system: System, *arguments: str | Path, user: str, said: str, status: int = 1, **how: Any) -> None:
    began = time.monotonic()
    done = run(system, *arguments, user=user, **how)
    told = done.stdout + done.stderr
    assert done.returncode == status, told
    assert said in told, told
    assert_no_secret(told)
    assert time.monotonic() - began < 35


def bridge(system: System, name: str, operator: str, group: str) -> System:
    config = system.directory / f"{name}.toml"
    table = f'\n[webhook]\nurl = "http://127.0.0.1:9/"\noperator = "{operator}"\ngroup = "{group}"\ndead_letter_file = "{config}.dead"\n'
    config.write_text(system.config.read_text().split("[network]")[0] + table)
    return System(system.bootstrap, system.directory, system.settings, config)


BRIDGE = {"URBAN_BRAIN_WEBHOOK_SECRET": "w" * 32, "URBAN_BRAIN_HTTP_PORT": "0"}
WORKER = {"URBAN_BRAIN_HTTP_PORT": "0"}


@pytest.mark.timeout(240)
def test_whoever_is_refused_is_told_why_and_what_to_do_and_ends(system: System) -> None:
    file = system.directory / "pings.ndjson"
    another = str(make_certificate(system.directory, "another"))
    webhook, own = bridge(system, "webhook", "blue", "amber.webhook"), bridge(system, "own", "amber", "blue.webhook")
    login_refused, not_safe = "refuse the login of 'amber': ", "no encrypted connection to the brokers at 127.0.0.1:"
    wrong = {"user": "amber", "password": WRONG, "said": login_refused}
    untrusted = {"user": "amber", "said": not_safe, "URBAN_BRAIN_TLS_CA": another}
    checks: list[tuple[System, tuple[str | Path, ...], dict[str, Any]]] = [
        (system, ("topics", "check"), wrong),
        (system, ("topics", "create"), wrong),
        (system, ("replay", file), wrong),
        (system, ("doctor",), wrong),
        (system, ("alerts",), wrong),
        (system, ("alerts", "--follow"), wrong),
        (system, ("worker",), wrong | WORKER),
        (webhook, ("bridge", "webhook"), wrong | BRIDGE),
        (system, ("topics", "check"), untrusted),
        (system, ("alerts",), untrusted),
        (system, ("worker",), untrusted | WORKER),
        (webhook, ("bridge", "webhook"), untrusted | BRIDGE),
        (system, ("alerts", "--operator", "blue"), {"user": "amber", "said": "Grant this user Read on it."}),
        (system, ("alerts", "--operator", "blue", "--follow"), {"user": "amber", "said": "Grant this user Read on it."}),
        (system, ("alerts", "--operator", "blue", "--follow"), {"user": "city-admin", "said": "Grant this user Read on it."}),
        (system, ("topics", "create"), {"user": "amber", "said": "could not be made: "}),
        (system, ("replay", file), {"user": "city-admin", "said": "(grant this user Write on the feeds)"}),
        (system, ("replay", file), {"user": "amber", "said": "grant this user Describe on it.", "status": 2}),
        (system, ("worker",), {"user": "amber", "said": "grant this user Describe on it.", "status": 2} | WORKER),
        (system, ("worker",), {"user": "city-admin", "said": "grant the workers' user what it needs"} | WORKER),
        (webhook, ("bridge", "webhook"), {"user": "amber", "said": "brain.alerts.blue", "status": 2} | BRIDGE),
        (own, ("bridge", "webhook"), {"user": "amber", "said": "Check the rights of the bridge"} | BRIDGE),
    ]
    with ThreadPoolExecutor(4) as at_once:
        for done in [at_once.submit(refused, who, *what, **how) for who, what, how in checks]:
            done.result()
