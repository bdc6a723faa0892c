"""The simulated city: the same for the same seed, and alive enough for alerts to come and go."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import h3.api.basic_str as h3
import orjson
import pytest

from streams.feeds.records import FeedRecord
from streams.feeds.simulate import DEFAULT_START_MS, Plan, simulate
from streams.settings import Settings, loads

SETTINGS = """
[network]
operators = ["amber", "cobalt", "jade", "ruby"]
[[network.feeds]]
topic = "pings.amber"
operator = "amber"
partitions = 1
[[network.feeds]]
topic = "pings.gateway"
gateway = true
partitions = 1
[[city]]
name = "rivertown"
time_zone = "UTC"
boundary = { south = 52, west = 9.9, north = 52.25, east = 10.2 }
[[city]]
name = "hilltown"
time_zone = "UTC"
boundary = { south = 48, west = 9.0, north = 48.01, east = 9.01 }
"""


@pytest.fixture(scope="module")
def settings() -> Settings:
    return loads(SETTINGS)


@pytest.fixture(scope="module")
def hour(settings: Settings) -> list[FeedRecord]:
    return list(simulate(settings, Plan(seconds=1_200, bikes=1_500)))


def test_the_same_seed_gives_the_same_bytes(settings: Settings) -> None:
    first = list(simulate(settings, Plan(seed=4, seconds=120, bikes=200)))
    assert first == list(simulate(settings, Plan(seed=4, seconds=120, bikes=200)))
    assert first != list(simulate(settings, Plan(seed=5, seconds=120, bikes=200)))


def test_a_longer_run_begins_with_the_shorter_one(settings: Settings) -> None:
    short = list(simulate(settings, Plan(seconds=60, bikes=200)))
    assert list(simulate(settings, Plan(seconds=120, bikes=200)))[: len(short)] == short


def test_records_are_in_order_of_time_and_within_the_time_that_was_asked_for(hour: list[FeedRecord]) -> None:
    assert all(before.record_ms <= after.record_ms for before, after in pairwise(hour))
    assert hour[0].record_ms >= DEFAULT_START_MS
    assert hour[-1].record_ms < DEFAULT_START_MS + 1_200_000


def test_three_operators_ride_in_every_city_each_through_its_own_feed(hour: list[FeedRecord]) -> None:
    pings = [orjson.loads(record.value) for record in hour]
    assert {ping["operator"] for ping in pings} == {"amber", "cobalt", "jade"}
    assert {ping["bike_id"].split("-")[0] for ping in pings} == {"rivertown", "hilltown"}
    own = {(record.topic, ping["operator"] == "amber") for record, ping in zip(hour, pings, strict=True)}
    assert own == {("pings.amber", True), ("pings.gateway", False)}


def test_bikes_stay_about_the_city(hour: list[FeedRecord]) -> None:
    """Within it but for the noise of their fixes."""
    for record in hour:
        ping = orjson.loads(record.value)
        south, west, north, east = (52, 9.9, 52.25, 10.2) if ping["bike_id"][0] == "r" else (48, 9.0, 48.01, 9.01)
        assert south - 0.005 < ping["lat"] < north + 0.005
        assert west - 0.005 < ping["lng"] < east + 0.005


def test_cells_fill_with_the_tide_and_empty_again(hour: list[FeedRecord]) -> None:
    cells: dict[tuple[str, str], tuple[str, str]] = {}
    fullest: dict[int, int] = {}
    for record in hour:
        ping = orjson.loads(record.value)
        bike = (ping["operator"], ping["bike_id"])
        if ping["status"] in ("available", "non_operational"):
            cells[bike] = (ping["operator"], h3.latlng_to_cell(ping["lat"], ping["lng"], 9))
        else:
            cells.pop(bike, None)
        minute = (record.record_ms - DEFAULT_START_MS) // 60_000
        if minute not in fullest:
            fullest[minute] = max(Counter(cells.values()).values(), default=0)
    assert fullest[1] < fullest[5] > 25, "no cell would pass a maximum of 25"
    assert fullest[14] < 0.8 * fullest[5], "no alert would clear"
