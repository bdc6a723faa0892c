"""Cases that once broke a simpler design, each told as a story."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import orjson

from agents.backtest import Backtest
from geo.params import FOR_EVER, BikeParams, City, Epoch, Timeline
from streams.feeds.records import FeedRecord
from streams.frames import Part, Sender, Writer, decode_message
from streams.outbox import Record
from streams.pings import Feed
from tests.simulation.city import FEEDS, SOURCES, START_MS, TICK_MS, TPS, fill, pings, rule, timeline
from tests.simulation.world import ALERTS, FACTS, TP, Kafka, SimWorker, Stored

WEST, EAST = (399_000_000, 1_164_000_000), (399_000_000, 1_168_000_000)


def box(west: int, east: int) -> tuple[tuple[int, int], ...]:
    return ((398_000_000, west), (398_000_000, east), (400_000_000, east), (400_000_000, west))


def two_cities(*, partitions: tuple[int, int] = (0, 1)) -> Timeline:
    low = (rule("0.3"),)
    cities = (
        City("easton", partitions[1], "UTC", ((box(1_166_000_000, 1_170_000_000),),), low, ("alpha", "beta")),
        City("weston", partitions[0], "UTC", ((box(1_162_000_000, 1_166_000_000),),), low, ("alpha", "beta")),
    )
    return Timeline(TICK_MS, (Epoch(FOR_EVER, "00" * 32, BikeParams(), ("alpha", "beta"), (), cities),))


def ping(bike: str, at_s: float, place: tuple[int, int], status: str = "available", operator: str = "alpha") -> FeedRecord:
    ms = START_MS + int(at_s * 1000)
    body = {"bike_id": bike, "operator": operator, "ts": ms, "lat": place[0] / 1e7, "lng": place[1] / 1e7, "status": status}
    return FeedRecord(ms, "bike.pings", bike.encode(), orjson.dumps(body))


async def run(
    line: Timeline, records: list[FeedRecord], *, feeds: list[Feed] = FEEDS, sources: list[tuple[str, int]] = SOURCES
) -> tuple[Kafka, SimWorker]:
    kafka = Kafka()
    end = (records[-1].record_ms // TICK_MS + 1) * TICK_MS
    for record in records:
        mine = [place for place in sources if place[0] == record.topic]
        kafka.log(*mine[sum(record.key) % len(mine)]).append(Stored(record.key, record.value, {}, record.record_ms))
    for place in sources:
        kafka.log(*place).append(Stored(None, None, {}, end))
    worker = SimWorker(kafka, line, feeds, sources)
    facts = {city.partition for epoch in line.epochs for city in epoch.cities}
    await worker.own([*(TP(*place) for place in sources), *(TP(FACTS, partition) for partition in facts)])
    await worker.drain(7)
    return kafka, worker


def events(kafka: Kafka, partition: int = 0) -> list[dict[str, Any]]:
    return [orjson.loads(stored.value or b"") for stored in kafka.log(ALERTS, partition)]


def standing(worker: SimWorker, city: str) -> int:
    state = next(s for s in worker.city.states.values() if city in s.cities)
    return state.cities[city].roster_count()


async def test_a_ride_between_two_cities_leaves_the_one_and_reaches_the_other_in_the_same_tick() -> None:
    stay = [ping(f"b{i}", 1 + i, WEST) for i in range(6)]
    ride = [ping("b0", 60, WEST, "on_trip"), ping("b0", 1000, EAST)]
    kafka, worker = await run(two_cities(), [*stay, *ride])
    assert (standing(worker, "weston"), standing(worker, "easton")) == (5, 1)
    raised = events(kafka, 0)[0]
    assert (raised["city"], raised["count"]) == ("weston", 6)
    assert "weston" not in {event["city"] for event in events(kafka, 1)}


async def test_a_bike_carried_off_to_the_other_city_stands_only_there() -> None:
    """No ride, no goodbye: the first fix in the new city tells the old one, in the old one's own partition or a shared one."""
    for partitions in ((0, 1), (0, 0)):
        records = [ping("b0", 1, WEST), ping("b1", 2, WEST), ping("b0", 2000, EAST)]
        _, worker = await run(two_cities(partitions=partitions), records)
        assert (standing(worker, "weston"), standing(worker, "easton")) == (1, 1)


async def test_cities_that_share_a_partition_say_the_same_as_cities_that_do_not() -> None:
    records = [ping(f"b{i}", 1 + i, WEST if i % 2 else EAST) for i in range(12)]
    records += [ping(f"b{i}", 100 + i, EAST if i % 3 else WEST) for i in range(12)]
    records += [ping("b1", 600, WEST, "on_trip")]
    shared, _ = await run(two_cities(partitions=(0, 0)), records)
    apart, _ = await run(two_cities(), records)
    for city, partition in (("weston", 0), ("easton", 1)):
        mine = [event for event in events(shared) if event["city"] == city]
        assert mine == events(apart, partition)
        assert mine


async def test_two_feeds_with_different_partition_counts_are_one_city() -> None:
    feeds = [Feed("pings.alpha", "alpha", "wgs84", "json"), Feed("pings.beta", "beta", "wgs84", "json")]
    sources = [("pings.alpha", p) for p in range(4)] + [("pings.beta", 0)]
    records = [
        replace_topic(record, "pings.alpha" if b'"alpha"' in record.value else "pings.beta")
        for record in pings(1)
        if record.value != b"junk"
    ]
    kafka, _ = await run(timeline(), records, feeds=feeds, sources=sources)
    want = [event.body for event in Backtest(timeline(), feeds).run(records) if not event.shadow]
    assert [stored.value for stored in kafka.log(ALERTS)] == want
    assert len(want) > 20


def replace_topic(record: FeedRecord, topic: str) -> FeedRecord:
    return record._replace(topic=topic)


async def test_one_bike_in_two_feeds_is_one_bike_where_its_newest_fix_says() -> None:
    feeds = [Feed("a.gateway", None, "wgs84", "json"), Feed("b.gateway", None, "wgs84", "json")]
    sources = [("a.gateway", 0), ("b.gateway", 0)]
    seen_by_a = [replace_topic(ping("b0", 1, WEST), "a.gateway"), replace_topic(ping("b0", 3000, EAST), "a.gateway")]
    seen_by_b = [
        replace_topic(ping("b0", 900, WEST), "b.gateway"),
        replace_topic(ping("b0", 2990, WEST, "on_trip"), "b.gateway"),
    ]
    records = sorted(seen_by_a + seen_by_b)
    _, worker = await run(two_cities(), records, feeds=feeds, sources=sources)
    assert (standing(worker, "weston"), standing(worker, "easton")) == (0, 1)


async def test_frames_of_two_software_versions_in_one_log() -> None:
    """A rolling upgrade: a later version's frames carry more than this one knows, and are read all the same."""
    kafka = Kafka()
    fill(kafka, pings(1))
    worker = SimWorker(kafka, timeline(), FEEDS, SOURCES)
    await worker.own(TPS[:-1])
    await worker.drain()
    log = kafka.log(FACTS)
    for i, stored in enumerate(log):
        if i % 2:
            log[i] = replace(stored, value=as_a_later_version(stored.value or b""))
    await worker.own(TPS)
    await worker.drain()
    assert [stored.value for stored in kafka.log(ALERTS)] == [
        e.body for e in Backtest(timeline(), FEEDS).run(pings(1)) if not e.shadow
    ]


def as_a_later_version(value: bytes) -> bytes:
    """The same record as a version would write it that tells one more column of each fact, under other semantics."""
    message = decode_message(value)
    writer = Writer(Sender(message.sender.topic, message.sender.partition, message.sender.config, message.sender.semantics + 1))
    for entry in message.entries:
        if isinstance(entry, Part):
            document = msgspec.msgpack.decode(entry.body)
            for city in document["cities"].values():
                city["facts"]["battery"] = b"\x64" * len(city["facts"]["state"])
            writer.frame(entry.tick, entry.previous, msgspec.msgpack.encode(document))
        else:
            writer.complete(entry.through, entry.last)
    (only,) = writer.values()
    return only


async def test_what_is_not_a_frame_on_the_facts_topic_is_passed_over() -> None:
    kafka = Kafka()
    fill(kafka, pings(1))
    for junk in (b"", b"{}", b"UBF1", b"\x00" * 50):
        kafka.append(Record(FACTS, 0, None, junk))
    worker = SimWorker(kafka, timeline(), FEEDS, SOURCES)
    await worker.own(TPS)
    await worker.drain()
    assert [stored.value for stored in kafka.log(ALERTS)] == [
        e.body for e in Backtest(timeline(), FEEDS).run(pings(1)) if not e.shadow
    ]
