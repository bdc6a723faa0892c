"""Broken records on real Kafka: only they go to quarantine, with reason and origin; what stands beside them counts."""

from __future__ import annotations

from hashlib import sha256
from itertools import count

import orjson
import pytest

from tests.kafka_fixtures import Kafka
from tests.system.conftest import MakeSystem

pytestmark = pytest.mark.kafka

NOW_MS = 1_700_000_000_000
_bikes = count()


def ping(**fields: object) -> bytes:
    """A good one, of a bike of its own, unless the fields spoil it."""
    good = {"bike_id": f"b{next(_bikes)}", "operator": "alpha", "ts": NOW_MS, "lat": 39.9, "lng": 116.4, "status": "available"}
    return orjson.dumps(good | fields)


BROKEN: list[tuple[bytes, str]] = [
    (b"junk", "malformed"),
    (b"", "malformed"),
    (bytes(range(256)) * 4, "malformed"),
    (b"\xff\xfe" + ping(), "malformed"),
    (b"[" * 100_000, "malformed"),
    (b'{"bike_id":' * 50_000, "malformed"),
    (b"1],[2", "malformed"),
    (b"}{", "malformed"),
    (b"null", "malformed"),
    (b"[" + ping() + b",]", "malformed"),
    (ping() + b"," + ping(), "malformed"),
    (b"x" * 1_000_000, "malformed"),
    (ping(bike_id="b" * 10_240), "malformed"),
    (ping(bike_id="two\nlines"), "malformed"),
    (ping(bike_id="two\r\nlines"), "malformed"),
    (ping(bike_id="\u2028"), "malformed"),
    (ping(bike_id=""), "malformed"),
    (ping(bike_id=7), "malformed"),
    (ping(lat=91), "malformed"),
    (ping(lat=0, lng=0), "malformed"),
    (ping(lat="39.9"), "malformed"),
    (ping(lat=0).replace(b'"lat":0', b'"lat":NaN'), "malformed"),
    (ping(lat=0).replace(b'"lat":0', b'"lat":1e999'), "malformed"),
    (ping(ts=None), "malformed"),
    (ping(ts=NOW_MS + 0.5), "malformed"),
    (ping(ts=-1), "malformed"),
    (ping(ts=0).replace(b'"ts":0', b'"ts":' + b"9" * 400), "malformed"),
    (ping(status="flying"), "malformed"),
    (ping(operator="nobody"), "unknown_operator"),
    (ping(operator="alpha\nbeta"), "malformed"),
    (ping(ts=NOW_MS + 61_000), "future"),
]


def test_only_the_broken_record_goes_to_quarantine_wherever_it_stands_in_a_batch(deploy: MakeSystem, kafka: Kafka) -> None:
    system = deploy(partitions=1, deployment="quarantine_cap = 1000")
    topic = system.settings.feeds[0].topic
    log: list[tuple[bytes, str | None]] = [
        (ping(padding="x" * 900_000), None)
    ]  # what is not known is ignored, whatever its size
    for number, broken in enumerate(BROKEN):
        batch: list[tuple[bytes, str | None]] = [(ping(), None) for _ in range(5)]
        batch.insert(number % 6, broken)
        log += batch
    log += [*BROKEN, (ping(), None)]
    producer = kafka.producer(message_max_bytes=1_048_000, linger_ms=200)
    for value, _ in log:
        producer.produce(topic, value, b"the key", partition=0, timestamp=NOW_MS)
    for name in (topic, *(control.topic for control in system.settings.controls)):
        producer.produce(name, None, partition=0, timestamp=NOW_MS + 5_000)
    assert producer.flush(30) == 0

    worker = system.worker()
    system.wait_progress(NOW_MS // 5_000)
    good = [offset for offset, (_, reason) in enumerate(log) if reason is None]
    assert system.roster(worker) == len(good)
    told = [(record, orjson.loads(record.value or b"")) for record in system.read(system.settings.topics.quarantine)]
    told.sort(key=lambda item: item[1]["origin"]["offset"])
    assert [body["origin"]["offset"] for _, body in told] == [o for o, (_, reason) in enumerate(log) if reason is not None]
    for record, body in told:
        value, reason = log[body["origin"]["offset"]]
        assert body["reason"] == reason
        assert body["text"]
        assert body["origin"] == {"topic": topic, "partition": 0, "offset": body["origin"]["offset"]}
        assert record.key == b"the key"
        assert (body["value_bytes"], body["value_sha256"]) == (len(value), sha256(value).hexdigest())
        assert len(body["value"]) <= 4 * 65_536
        assert body["value"].startswith(value[:10].decode("utf-8", "backslashreplace"))
    assert worker.running
    counted = worker.metric("urban_brain_quarantined_records_total")
    assert sum(counted.values()) == len(told), counted
    worker.stop()


def test_only_the_broken_ping_of_a_record_goes_to_quarantine_and_says_which_it_was(deploy: MakeSystem, kafka: Kafka) -> None:
    """Arrays, lines and single pings in one topic, the poison once at each place of each."""
    system = deploy(partitions=1, deployment="quarantine_cap = 1000")
    topic = system.settings.feeds[0].topic
    poison = [(b'{"lat": 1}', "malformed"), (ping(operator="nobody"), "unknown_operator"), (ping(ts=NOW_MS + 61_000), "future")]
    log: list[bytes | None] = [b"[]", b"[" + ping() + b",{"]
    wanted = {(1, None): (log[1], "malformed")}
    good = 0
    for bad, reason in poison:
        for at in range(4):
            pings = [ping() for _ in range(3)]
            pings.insert(at, bad)
            for value in (b"[" + b", ".join(pings) + b"]", b"\n".join(pings)):
                wanted[len(log), at] = (bad, reason)
                log += [value, ping()]
            good += 5  # the three, which come twice, and two by themselves
    producer = kafka.producer(linger_ms=200)
    for value in log:
        producer.produce(topic, value, b"the key", partition=0, timestamp=NOW_MS)
    for name in (topic, *(control.topic for control in system.settings.controls)):
        producer.produce(name, None, partition=0, timestamp=NOW_MS + 5_000)
    assert producer.flush(30) == 0

    worker = system.worker()
    system.wait_progress(NOW_MS // 5_000)
    assert system.roster(worker) == good
    told = {}
    for record in system.read(system.settings.topics.quarantine):
        body = orjson.loads(record.value or b"")
        origin = body["origin"]
        assert (origin["topic"], origin["partition"], record.key) == (topic, 0, b"the key")
        assert body["value_sha256"] == sha256(body["value"].encode()).hexdigest()
        told[origin["offset"], origin.get("index")] = (body["value"].encode(), body["reason"])
    assert told == wanted
    assert worker.running
    worker.stop()
