"""Kill anything at any moment: the alerts are those of the backtest, byte for byte, none lost, none but repeats added."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from functools import lru_cache
from itertools import count

import pytest

import streams.frames
from agents.backtest import Backtest
from geo.alert import rfc3339
from geo.density import Telling
from geo.params import Timeline
from geo.report import Reported
from streams.errors import OutputError, SnapshotError
from tests.simulation.city import FEEDS, SOURCES, TPS, epoch, fill, pings, timeline
from tests.simulation.world import (
    ALERTS,
    DENSITY,
    FACTS,
    OPEN,
    QUARANTINE,
    REPORT,
    SHADOW,
    TP,
    Kafka,
    Killed,
    SimWorker,
    killed_again_and_again,
)

CITY = TP(FACTS, 0)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of this small city come in several parts, too."""
    monkeypatch.setattr(streams.frames, "PART_BYTES", 300)
    monkeypatch.setattr(streams.frames, "RECORD_BYTES", 600)


@lru_cache
def expected(seed: int, line: Timeline | None = None, *, shadow: bool = False) -> list[bytes]:
    events = Backtest(line or timeline(), FEEDS).run(pings(seed))
    return [event.body for event in events if event.shadow is shadow]


@lru_cache
def expected_density(seed: int, line: Timeline | None = None) -> list[tuple[bytes, bytes, bytes | None]]:
    told: list[Telling] = []
    list(Backtest(line or timeline(), FEEDS, density=told.append).run(pings(seed)))
    return [(one.key, rfc3339(one.at_ms).encode(), one.body) for one in told]


@lru_cache
def expected_reports(seed: int, line: Timeline | None = None) -> list[tuple[bytes, bytes, bytes | None]]:
    told: list[Reported] = []
    list(Backtest(line or timeline(), FEEDS, report=told.append).run(pings(seed)))
    return [(one.key, rfc3339(one.at_ms).encode(), one.body) for one in told]


def distinct_records(kafka: Kafka, topic: str) -> list[tuple[bytes, bytes, bytes | None]]:
    """Records by key and time, first occurrence; one that comes again is the same, or takes back what a zombie wrote."""
    seen: dict[tuple[bytes, bytes], bytes | None] = {}
    for stored in kafka.log(topic):
        assert stored.key is not None
        first = seen.setdefault((stored.key, stored.headers["observed_at"]), stored.value)
        assert stored.value in (first, None)
    return [(key, at, value) for (key, at), value in seen.items()]


def distinct(kafka: Kafka, topic: str = ALERTS) -> list[bytes]:
    """Bodies by event id, first occurrence; a repeat with other bytes is an error."""
    seen: dict[bytes, bytes] = {}
    for stored in kafka.log(topic):
        assert stored.value is not None
        assert seen.setdefault(stored.headers["ce_id"], stored.value) == stored.value
    return list(seen.values())


def new_world(seed: int) -> Kafka:
    kafka = Kafka()
    fill(kafka, pings(seed))
    return kafka


def worker(kafka: Kafka, line: Timeline | None = None) -> SimWorker:
    return SimWorker(kafka, line or timeline(), FEEDS, SOURCES)


def assert_right(kafka: Kafka, seed: int, last: SimWorker, line: Timeline | None = None) -> None:
    want = expected(seed, line)
    assert distinct(kafka) == want
    assert distinct(kafka, SHADOW) == expected(seed, line, shadow=True)
    events = [event for city in last.city.states[0].cities.values() for event in city.open_events().values()]
    opened = {event.episode_id.encode(): event.body for event in events if not event.shadow}
    assert kafka.compacted(OPEN) == opened
    assert distinct_records(kafka, DENSITY) == expected_density(seed, line)
    shown = {told.key: told.body for city in last.city.states[0].cities.values() for told in city.density.newest()}
    assert kafka.compacted(DENSITY) == shown
    days = expected_reports(seed, line)
    assert distinct_records(kafka, REPORT) == days
    assert kafka.compacted(REPORT) == {key: body for key, _, body in days}
    assert len({key for key, _, _ in days}) < len(days), "no day is told again"


async def test_a_run_without_trouble_is_the_backtest() -> None:
    kafka = new_world(1)
    one = worker(kafka)
    await one.own(TPS)
    await one.drain()
    assert len(expected(1)) > 20, "the log must raise alerts, or this proves nothing"
    assert len(expected(1, shadow=True)) > 5 and any(b'"scope":"all_operators"' in body for body in expected(1))
    assert not any(b'"shadow"' in (s.value or b"") for topic in ("alerts.alpha", "alerts.beta", OPEN) for s in kafka.log(topic))
    assert_right(kafka, 1, one)
    assert {s.headers["ce_id"] for s in kafka.log("alerts.alpha")} < {s.headers["ce_id"] for s in kafka.log(ALERTS)}
    assert any(b'"reason":"malformed"' in (s.value or b"") for s in kafka.log(QUARANTINE))


@pytest.mark.parametrize("seed", range(12))
async def test_killing_workers_at_any_send_loses_and_changes_nothing(seed: int, small_parts: None) -> None:
    kafka = new_world(seed)
    last = await killed_again_and_again(lambda: worker(kafka), TPS, random.Random(seed))
    assert_right(kafka, seed, last)


@pytest.mark.parametrize("seed", range(8))
async def test_a_snapshot_never_stands_past_what_was_sent(seed: int, small_parts: None) -> None:
    """Agents and snapshots take turns at every send; then the worker is killed. What was decided is sent, or decided again."""
    r = random.Random(seed)
    kafka = new_world(seed)
    for _ in range(12):
        one = worker(kafka)
        try:
            await one.own(TPS)
            one.sink.kill_at = one.sink.sends + r.randint(5, 150)
            while any(len(kafka.log(*tp)) > one.keeper.held[tp].state.position for tp in TPS):
                tp = r.choice(TPS)
                both = [asyncio.ensure_future(one.pump(tp, 60)), asyncio.ensure_future(one.keeper.write(tp))]
                await asyncio.wait(both)
                for each in both:
                    each.result()
        except Killed:
            continue
    last = worker(kafka)
    await last.own(TPS)
    await last.drain()
    assert_right(kafka, seed, last)


async def test_a_partition_whose_work_was_broken_off_is_loaded_anew_even_if_it_stays_here() -> None:
    """The agent is cancelled between two sends: the state has moved on, its outputs have not."""
    kafka = new_world(1)
    one = worker(kafka)
    await one.own(TPS)
    for at in (1, 2, 5, 9):
        one.sink.stop_at = one.sink.sends + at
        work = asyncio.ensure_future(one.drain())
        await asyncio.wait([work, asyncio.ensure_future(one.sink.stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
        work.cancel()
        await asyncio.wait([work])
        one.sink.stopped.clear()
        await one.own(TPS)
    await one.drain()
    assert_right(kafka, 1, one)


@pytest.mark.parametrize("seed", range(6))
async def test_workers_that_share_and_swap_partitions_agree(seed: int) -> None:
    r = random.Random(seed)
    kafka = new_world(seed)
    workers = [worker(kafka) for _ in range(3)]
    for _ in range(12):
        shares: list[set[TP]] = [set(), set(), set()]
        for tp in TPS:
            shares[r.randrange(3)].add(tp)
        for one, share in zip(workers, shares, strict=True):
            await one.keeper.release(frozenset(one.keeper.held))
            await one.own(share)
        for _ in range(12):
            one = r.choice(workers)
            if one.keeper.held:
                await one.pump(r.choice(sorted(one.keeper.held)), r.choice([1, 7, 60]))
    for one in workers[1:]:
        await one.keeper.release(frozenset(one.keeper.held))
        await one.own([])
    await workers[0].keeper.release(frozenset(workers[0].keeper.held))
    await workers[0].own(TPS)
    await workers[0].drain()
    assert_right(kafka, seed, workers[0])


PART_BYTES = {TPS[0]: 700, CITY: 4000}
"""So that there are several parts of either: those of a city are many more."""


async def steps_of_a_snapshot(tp: TP) -> int:
    kafka = new_world(3)
    one = worker(kafka)
    await one.own(TPS)
    await one.drain(200)
    before = one.sink.sends
    await one.keeper.write(tp)
    return one.sink.sends - before


@pytest.mark.timeout(300)
@pytest.mark.parametrize("tp", [TPS[0], CITY], ids=["source", "city"])
async def test_a_worker_stopped_between_any_two_steps_of_a_snapshot_and_woken_later_does_no_harm(
    tp: TP, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.snapshots.RAW_PART_BYTES", PART_BYTES[tp])
    steps = await steps_of_a_snapshot(tp)
    assert steps > 4
    for step in range(1, steps + 1):
        kafka = new_world(3)
        old = worker(kafka)
        await old.own(TPS)
        for each in TPS:
            await old.pump(each, 150)
            await old.keeper.write(each)
            await old.pump(each, 100)
        old.sink.stop_at = old.sink.sends + step
        writing = asyncio.ensure_future(old.keeper.write(tp))
        stopped = asyncio.ensure_future(old.sink.stopped.wait())
        await asyncio.wait([writing, stopped], return_when=asyncio.FIRST_COMPLETED)
        new = worker(kafka)
        await new.own(TPS)
        await new.drain(100)
        for each in TPS:
            await new.keeper.write(each)
        old.zombie = True
        old.sink.woken.set()
        await writing
        stopped.cancel()
        heir = worker(kafka)
        await heir.own(TPS)
        await heir.drain()
        assert_right(kafka, 3, heir)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("tp", [TPS[0], CITY], ids=["source", "city"])
async def test_whoever_loads_leaves_alone_what_another_worker_is_still_writing(tp: TP, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a rebalance the owner may write on while the next one loads already, more than once in a row."""
    monkeypatch.setattr("streams.snapshots.RAW_PART_BYTES", PART_BYTES[tp])
    for step in range(1, await steps_of_a_snapshot(tp) + 1):
        kafka = new_world(3)
        owner = worker(kafka)
        await owner.own(TPS)
        for each in TPS:
            for _ in range(2):
                await owner.pump(each, 100)
                await owner.keeper.write(each)
        for _ in range(3):
            for each in TPS:
                await owner.pump(each, 60)
            owner.sink.stopped.clear()
            owner.sink.woken.clear()
            owner.sink.stop_at = owner.sink.sends + step
            writing = asyncio.ensure_future(owner.keeper.write(tp))
            stopped = asyncio.ensure_future(owner.sink.stopped.wait())
            await asyncio.wait([writing, stopped], return_when=asyncio.FIRST_COMPLETED)
            await worker(kafka).own(TPS)
            owner.sink.woken.set()
            await writing
            stopped.cancel()
        heir = worker(kafka)
        await heir.own(TPS)
        await heir.drain()
        assert_right(kafka, 3, heir)


@pytest.mark.parametrize("after_loss", [0, 1, 4])
async def test_a_send_that_fails_for_good_in_the_middle_of_a_ticks_parts_is_waited_for(
    after_loss: int, small_parts: None
) -> None:
    """aiokafka may lose one batch and send the next: the city sees later parts, even later frames, before the lost one."""
    for lose_at in range(1 + after_loss, 40, 7):
        kafka = new_world(7)
        old = worker(kafka)
        await old.own(TPS[:-1])
        old.sink.lose_at, old.sink.after_loss = lose_at, after_loss
        with pytest.raises(OutputError):
            for _ in count():
                for tp in TPS[:-1]:
                    await old.pump(tp, 20)
                await old.sink.flush()
        city = worker(kafka)
        await city.own([CITY])
        await city.drain()  # reads what is there, gap and all
        new = worker(kafka)
        await new.own(TPS[:-1])
        await new.drain()
        await city.drain()
        assert_right(kafka, 7, city)


async def test_the_older_snapshot_counts_if_the_newest_is_damaged() -> None:
    kafka = new_world(2)
    old = worker(kafka)
    await old.own(TPS)
    for _ in range(2):
        for tp in TPS:
            await old.pump(tp, 200)
            await old.keeper.write(tp)
    for tp in TPS:
        log = kafka.log(f"{tp.topic}-changelog", tp.partition)
        parts = [s for s in log if s.value is not None and b",-1]" not in (s.key or b"")]
        parts[-1].value = b"damaged"
    new = worker(kafka)
    await new.own(TPS)
    await new.drain()
    assert_right(kafka, 2, new)


async def test_a_city_restarts_with_one_source_half_an_hour_ahead() -> None:
    kafka = new_world(4)
    old = worker(kafka)
    await old.own(TPS)
    while await old.pump(TPS[0], 500):
        pass
    for tp in TPS[1:3]:
        await old.pump(tp, 60)
    while await old.pump(CITY, 1):
        pass
    await old.keeper.write(CITY)
    resume = kafka.committed[CITY][0]
    assert resume < len(kafka.log(FACTS)) - 1, "frames wait, so the city has to read them again"
    new = worker(kafka)
    await new.own(TPS)
    await new.drain()
    assert_right(kafka, 4, new)


async def test_a_log_that_starts_beyond_the_resume_offset_stops_the_worker_with_a_remedy() -> None:
    kafka = new_world(4)
    old = worker(kafka)
    await old.own(TPS)
    await old.pump(TPS[0], 100)
    await old.keeper.write(TPS[0])
    kafka.log_starts[TPS[0]] = 400
    with pytest.raises(SnapshotError, match=r"records\s+were deleted before they were worked on.*Raise the topic's retention"):
        await worker(kafka).own(TPS)


async def test_a_commit_without_a_snapshot_stops_the_worker_with_a_remedy() -> None:
    kafka = new_world(4)
    kafka.committed[TPS[0]] = (50, "")
    with pytest.raises(SnapshotError, match="offset 50 is committed, but the changelog"):
        await worker(kafka).own(TPS)


@pytest.mark.parametrize("seed", range(4))
async def test_a_version_comes_into_force_in_mid_log_with_kills_around_it(seed: int) -> None:
    records = pings(seed)
    middle = records[len(records) // 2].record_ms // 5_000
    line = timeline(epoch(), epoch(middle, digest="11" * 32, per_hectare="0.3"))
    kafka = new_world(seed)
    r = random.Random(seed)
    for _ in range(10):
        one = worker(kafka, line)
        one.sink.kill_at = r.randint(1, 80)
        try:
            await one.own(TPS)
            for _ in range(30):
                tp = r.choice(TPS)
                await one.pump(tp, 40)
                if r.random() < 0.3:
                    await one.keeper.write(tp)
        except Killed:
            continue
    last = worker(kafka, line)
    await last.own(TPS)
    await last.drain()
    assert_right(kafka, seed, last, line)
    assert expected(seed, line) != expected(seed)


async def test_a_version_may_be_added_before_it_starts_and_not_after() -> None:
    records = pings(1)
    middle = records[len(records) // 2].record_ms // 5_000
    line = timeline(epoch(), epoch(middle, digest="11" * 32, per_hectare="0.3"))
    kafka = new_world(1)
    early = worker(kafka)
    await early.own(TPS)
    for tp in TPS:
        await early.pump(tp, 50)
        await early.keeper.write(tp)
    late = worker(kafka, line)
    await late.own(TPS)
    await late.drain()
    assert_right(kafka, 1, late, line)
    for tp in TPS:
        await late.keeper.write(tp)
    other = timeline(epoch(), epoch(middle, digest="22" * 32, per_hectare="0.2"))
    with pytest.raises(SnapshotError, match="knew with other content"):
        await worker(kafka, other).own(TPS)


async def test_every_partition_is_written_when_it_is_due_and_an_error_ends_the_worker() -> None:
    kafka = new_world(1)
    one = SimWorker(kafka, timeline(), FEEDS, SOURCES, interval_s=0.01)
    await one.own(TPS)
    await one.drain()
    await one.keeper.run(lambda: set(kafka.committed) == set(TPS))
    kafka.log(*TPS[0]).append(
        replace(kafka.log(*TPS[0])[-1], value=b"junk", timestamp_ms=kafka.log(*TPS[0])[-1].timestamp_ms + 60_000)
    )
    await one.pump(TPS[0], 1)
    one.sink.lost = True
    with pytest.raises(OutputError):
        await one.keeper.run(lambda: False)
