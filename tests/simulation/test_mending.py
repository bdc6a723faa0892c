"""What was written into compacted topics by whoever did not own them any more, or never, is put right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from geo.params import Timeline
from streams.outbox import Record
from tests.simulation.city import START_MS, TICK_MS, TPS, epoch, timeline
from tests.simulation.test_simulation import (
    CITY,
    assert_right,
    expected_density,
    expected_reports,
    new_world,
    worker,
)
from tests.simulation.world import DENSITY, OPEN, REPORT, Kafka, SimWorker


async def test_a_zombie_that_raises_again_what_was_cleared_is_put_right() -> None:
    """Both the newest state of an alert and its deletion are true of their time; only the owner knows which is now."""
    kafka = new_world(5)
    old = worker(kafka)
    await old.own(TPS)
    for source in TPS[:-1]:
        while await old.pump(source, 500):
            pass
    while not kafka.compacted(OPEN):
        assert await old.pump(CITY, 1), "no alert is ever raised"
    new = worker(kafka)
    await new.own(TPS)
    await new.drain()
    cleared = set(new.kafka.compacted(OPEN))
    before = len(kafka.log(OPEN))
    old.zombie = True
    for _ in range(3):
        await old.pump(CITY, 1)
    await old.city.mend(0)  # the zombie, too, believes that it owns the partition
    assert len(kafka.log(OPEN)) > before or set(kafka.compacted(OPEN)) == cleared
    await new.city.mend(0)
    assert_right(kafka, 5, new)


async def in_mid_log(kafka: Kafka) -> SimWorker:
    """A worker that owns everything and has told of cells, with half of the log still to come."""
    one = worker(kafka)
    await one.own(TPS)
    for tp in TPS[:-1]:
        while await one.pump(tp, 10):
            pass
    while len(kafka.log(DENSITY)) < len(expected_density(5)) // 2:
        assert await one.pump(CITY, 1), "nothing is ever told"
    return one


async def test_a_zombie_that_tells_an_old_count_is_put_right() -> None:
    """An old count, a cell that is empty by now and the coverage of an hour ago: all true once, none now."""
    kafka = new_world(5)
    old = await in_mid_log(kafka)
    new = worker(kafka)
    await new.own(TPS)
    await new.drain()
    right = kafka.compacted(DENSITY)
    old.zombie = True
    for _ in range(10):
        await old.pump(CITY, 1)
    assert kafka.compacted(DENSITY) != right, "the zombie does no harm, or this proves nothing"
    await new.city.mend(0)
    assert kafka.compacted(DENSITY) == right
    assert_right(kafka, 5, new)
    before = len(kafka.log(DENSITY))
    await new.city.mend(0)
    assert len(kafka.log(DENSITY)) == before, "what is right is left alone"


async def test_what_nobody_of_us_told_of_cells_is_taken_back_and_what_is_lost_told_again() -> None:
    kafka = new_world(5)
    one = worker(kafka)
    await one.own(TPS)
    await one.drain()
    right = kafka.compacted(DENSITY)
    key = max(right)
    foreign = (b"rivertown/junk", b"rivertown/8931aa42867fff0", b"nowhere", b"rivertown/-1", b"\xff")
    for stranger in foreign:
        for value in (b"{}", b"[]", b"junk", b"\xff"):
            kafka.append(Record(DENSITY, 0, stranger, value))
    kafka.append(Record(DENSITY, 0, key, b'{"observed_at":7}'))
    kafka.append(Record(DENSITY, 0, b"rivertown", None))
    await one.city.mend(0)
    assert kafka.compacted(DENSITY) == right


async def test_whoever_loads_an_older_snapshot_leaves_newer_counts_alone_until_it_is_there() -> None:
    """They are true: the next owner comes to them. Were they taken back, each crash would let the map run backwards."""
    kafka = new_world(5)
    one = await in_mid_log(kafka)
    await one.keeper.write(CITY)
    snapshot = len(kafka.log(DENSITY))
    while len(kafka.log(DENSITY)) < snapshot + 20:
        assert await one.pump(CITY, 1)
    emptied = {stored.key for stored in kafka.log(DENSITY)[snapshot:] if stored.value is None}
    newest = kafka.log(DENSITY)[-1].headers["observed_at"].decode()
    kafka.append(Record(DENSITY, 0, b"rivertown/892a1072b5bffff", f'{{"observed_at":"{newest}"}}'.encode()))
    before = len(kafka.log(DENSITY))
    new = worker(kafka)
    await new.own(TPS)
    assert {stored.key for stored in kafka.log(DENSITY)[before:]} <= emptied
    assert b"rivertown/892a1072b5bffff" in kafka.compacted(DENSITY)
    await new.drain()
    await new.city.mend(0)
    assert b"rivertown/892a1072b5bffff" not in kafka.compacted(DENSITY), "what was ahead is looked at again"
    shown = {told.key: told.body for city in new.city.states[0].cities.values() for told in city.density.newest()}
    assert kafka.compacted(DENSITY) == shown


async def in_the_second_night(kafka: Kafka, line: Timeline | None = None) -> SimWorker:
    """A worker that owns everything and has told of the first day, but not of the second."""
    one = worker(kafka, line)
    await one.own(TPS)
    for tp in TPS[:-1]:
        while await one.pump(tp, 10):
            pass
    while not kafka.log(REPORT):
        assert await one.pump(CITY, 1), "no day ever ends"
    return one


def without_rules() -> Timeline:
    """The same city, but seven minutes after its log begins there is no rule any more: whatever is open is over."""
    one = epoch()
    cities = tuple(replace(city, rules=(), policies=()) for city in one.cities)
    return timeline(one, replace(one, from_tick=(START_MS + 420_000) // TICK_MS, hash="11" * 32, cities=cities))


@pytest.mark.parametrize("line", [timeline(), without_rules()], ids=["still open", "complete"])
async def test_a_zombie_that_tells_of_a_day_as_it_was_is_put_right(line: Timeline) -> None:
    """Of one that may be told again, and of one that is complete, which the city has forgotten: the log has not."""
    kafka = new_world(5)
    old = await in_the_second_night(kafka, line)
    first = list(kafka.log(REPORT))
    new = worker(kafka, line)
    await new.own(TPS)
    await new.drain()
    right = kafka.compacted(REPORT)
    held = {told.key for city in new.city.states[0].cities.values() for told in city.reports.newest()}
    assert {stored.key for stored in first} & held == (set() if line.epochs[1:] else {stored.key for stored in first})
    kafka.log(REPORT).extend(first)
    for key in held:
        kafka.append(Record(REPORT, 0, key, b'{"observed_at":"2020-01-01T00:00:00.000Z"}'))
    old.zombie = True
    assert kafka.compacted(REPORT) != right
    before = len(kafka.log(REPORT))
    await new.city.mend(0)
    assert kafka.compacted(REPORT) == right
    written = {stored.headers["observed_at"] for stored in kafka.log(REPORT)[before:]}
    assert written and written <= {at for _, at, _ in expected_reports(5, line)}
    before = len(kafka.log(REPORT))
    await new.city.mend(0)
    assert len(kafka.log(REPORT)) == before, "what is right is left alone"


async def test_a_worker_that_loads_finds_what_an_older_one_spoiled_before_it() -> None:
    kafka = new_world(5)
    one = await in_the_second_night(kafka)
    first = list(kafka.log(REPORT))
    await one.drain()
    await one.keeper.write(CITY)
    right = kafka.compacted(REPORT)
    kafka.log(REPORT).extend(first)
    assert kafka.compacted(REPORT) != right
    heir = worker(kafka)
    await heir.own(TPS)
    assert kafka.compacted(REPORT) == right


async def test_days_that_are_nobodys_affair_are_left_alone_and_what_is_taken_back_is_told_again() -> None:
    kafka = new_world(5)
    one = worker(kafka)
    await one.own(TPS)
    await one.drain()
    right = kafka.compacted(REPORT)
    strangers = (
        b"rivertown/alpha/2023-02-30",
        b"rivertown/alpha/2019-01-01",
        b"elsewhere/alpha/2023-11-14",
        b"rivertown",
        b"\xff",
    )
    for key in strangers:
        kafka.append(Record(REPORT, 0, key, b"junk"))
    for key in right:
        kafka.append(Record(REPORT, 0, key, None))
    await one.city.mend(0)
    assert kafka.compacted(REPORT) == right | dict.fromkeys(strangers, b"junk")


async def test_whoever_loads_an_older_snapshot_leaves_newer_days_alone_until_it_is_there() -> None:
    kafka = new_world(5)
    one = await in_the_second_night(kafka)
    await one.keeper.write(CITY)
    await one.drain()
    right, before = kafka.compacted(REPORT), len(kafka.log(REPORT))
    new = worker(kafka)
    await new.own(TPS)
    assert len(kafka.log(REPORT)) == before
    await new.drain()
    await new.city.mend(0)
    assert kafka.compacted(REPORT) == right
