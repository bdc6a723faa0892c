"""The benchmarks' own arithmetic: a wrong yardstick would measure nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agents.backtest import backtest
from benchmarks.answer import Answer, answer
from benchmarks.feed import OFFSETS, START_MS, WARM_S, World, seconds
from benchmarks.hand_loop import BATCH, Job
from benchmarks.rig import FEED_TOPIC, configuration
from benchmarks.throughput import event_of
from streams.feeds.records import FeedRecord
from streams.settings import loads

BIKES, SECONDS = 12_000, 400


@pytest.fixture(scope="module")
def world() -> World:
    return World(BIKES)


@pytest.fixture(scope="module")
def right(world: World) -> Answer:
    return answer(world, SECONDS)


def records(world: World) -> Iterator[FeedRecord]:
    for s, pings, device in seconds(world, SECONDS):
        values, keys = world.values(pings, device + START_MS), world.keys(pings)
        for ms, key, value in zip(pings.ms.tolist(), keys, values, strict=True):
            yield FeedRecord(START_MS + s * 1000 + ms, FEED_TOPIC, key, value)


def test_the_expected_alerts_are_those_that_the_core_sends(world: World, right: Answer) -> None:
    settings = loads(configuration("localhost:9092"))
    found = sorted(event_of(event.body) for event in backtest(settings, records(world)))
    assert {event[3] for event in right.events} == {"raised", "updated", "cleared"}
    assert found == list(right.events)


def test_the_hand_loop_counts_right(world: World, right: Answer) -> None:
    job, values = Job(), [record.value for record in records(world)]
    for start in range(0, len(values), BATCH):
        job.batch(b"\n".join(values[start : start + BATCH]))
    found = job.result()
    assert found["bikes"] == BIKES
    assert found["standing"] == right.standing
    assert found["digest"] == right.digest


def test_a_fifth_of_the_pings_is_of_moving_bikes_and_the_warm_up_hears_every_bike(world: World) -> None:
    heard: set[int] = set()
    pings = moving = 0
    for _, some, _ in seconds(world, WARM_S):
        heard.update(some.bike.tolist())
        pings += len(some.bike)
        moving += int(some.riding.sum())
    assert len(heard) == BIKES
    assert 0.75 < 1 - moving / pings < 0.85
    assert world.per_second() == pytest.approx(BIKES / 50, rel=0.001)
    assert len(OFFSETS) == 22
