"""Versions of a configuration: from when each is in force, and what its hash says."""

from __future__ import annotations

import pytest

from geo.params import FOR_EVER
from streams.errors import ConfigurationError
from streams.settings import Settings, loads
from tests.streams.test_settings import SMALL, changed, problems


def with_versions(text: str = SMALL, *, network: str = "", city: str = "") -> Settings:
    head, tail = text.split("[city]")
    return loads(f"{head}{network}\n[city]{tail}\n{city}")


NETWORK_VERSION = '[[network.versions]]\neffective_from = "2026-01-01T01:00:00+01:00"\nttl = "4h"\n'
CITY_VERSION = "[[city.versions]]\neffective_from = 2026-01-01T00:00:03Z\nrules = []\n"


def test_a_version_is_in_force_from_the_first_tick_that_starts_at_or_after_it() -> None:
    timeline = with_versions(network=NETWORK_VERSION, city=CITY_VERSION).timeline
    midnight = 1_767_225_600_000 // 5_000
    assert [epoch.from_tick for epoch in timeline.epochs] == [FOR_EVER, midnight, midnight + 1]
    assert [epoch.bike.ttl_ms for epoch in timeline.epochs] == [18_000_000, 14_400_000, 14_400_000]
    assert [len(epoch.cities[0].rules) for epoch in timeline.epochs] == [1, 1, 0]


def test_a_later_ttl_may_only_be_shorter() -> None:
    with pytest.raises(
        ConfigurationError, match=r"versions\[1\]\.ttl: must not be longer than before, got 21600 s after 18000 s"
    ):
        with_versions(network=NETWORK_VERSION.replace('"4h"', '"6h"'))


def test_versions_of_network_and_city_at_one_tick_make_one_epoch() -> None:
    timeline = with_versions(network=NETWORK_VERSION, city=CITY_VERSION.replace("00:03Z", "00:00Z")).timeline
    assert len(timeline.epochs) == 2


def test_a_later_version_leaves_the_hashes_before_it_alone() -> None:
    before = loads(SMALL).timeline.epochs
    after = with_versions(network=NETWORK_VERSION).timeline.epochs
    assert after[0].hash == before[0].hash != after[1].hash


def test_a_version_that_is_slipped_in_before_an_epoch_changes_its_hash() -> None:
    late = "[[city.versions]]\neffective_from = 2027-01-01T00:00:00Z\nrules = []\n"
    without = with_versions(city=late).timeline.epochs[-1]
    slipped = with_versions(city=CITY_VERSION.replace("rules = []", 'time_zone = "UTC"') + late).timeline.epochs[-1]
    again = with_versions(city=CITY_VERSION + late).timeline.epochs[-1]
    assert len({without.hash, slipped.hash, again.hash}) == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("per_hectare = 2.50", "per_hectare = 2.5"),
        ("partitions = 2", "partitions = 3"),
        ("[[city.rules]]", "[city.planning]\nmax_haul_m = 2999\n[[city.rules]]"),
        ("[[city.rules]]", "[city.planning]\nenabled = false\n[[city.rules]]"),
        ("north = 52.25", "north = 52.2500001"),
        ('time_zone = "Europe/Berlin"', 'time_zone = "Europe/Berlin"\ndensity_interval = "90s"'),
        ('time_zone = "Europe/Berlin"', 'time_zone = "Europe/Berlin"\ndegraded_hold = "29m"'),
        ('time_zone = "Europe/Berlin"', 'time_zone = "Europe/Berlin"\ndegraded_fewest = 19'),
        ("gateway = true", 'gateway = true\ncoordinates = "gcj02"'),
        ('operators = ["cobalt", "amber"]', 'operators = ["cobalt", "amber"]\ntick = "1s"'),
    ],
)
def test_whatever_may_change_a_result_changes_the_hash(old: str, new: str) -> None:
    assert loads(changed(old, new)).timeline.epochs[0].hash != loads(SMALL).timeline.epochs[0].hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('clock = "replay"', 'clock = "live"\nhttp_port = 1\ntopic_prefix = "x."'),
        ('["cobalt", "amber"]', '["amber", "cobalt"]'),
    ],
)
def test_what_changes_no_result_leaves_the_hash_alone(old: str, new: str) -> None:
    assert loads(changed(old, new)).timeline.epochs[0].hash == loads(SMALL).timeline.epochs[0].hash


def test_how_often_cells_are_told_is_a_minute_or_as_said_by_version_and_0_is_never() -> None:
    def intervals(settings: Settings) -> list[int]:
        return [epoch.cities[0].density_interval_ms for epoch in settings.timeline.epochs]

    assert intervals(loads(SMALL)) == [60_000]
    assert intervals(with_versions(city=CITY_VERSION)) == [60_000, 60_000]
    assert intervals(with_versions(city=CITY_VERSION + 'density_interval = "0s"\n')) == [60_000, 0]
    refused = SMALL + CITY_VERSION + 'density_interval = "1s"\n'
    assert any("versions[1].density_interval: must not be shorter than network.tick" in text for text in problems(refused))


def test_how_long_a_lost_fleet_is_not_believed_is_half_an_hour_or_as_said_by_version_and_0_is_not_at_all() -> None:
    def terms(settings: Settings) -> list[tuple[int, int]]:
        cities = [epoch.cities[0] for epoch in settings.timeline.epochs]
        return [(city.degraded_hold_ms, city.degraded_fewest) for city in cities]

    assert terms(loads(SMALL)) == [(1_800_000, 20)]
    changes = 'degraded_hold = "0s"\ndegraded_fewest = 7\n'
    assert terms(with_versions(city=CITY_VERSION + changes)) == [(1_800_000, 20), (0, 7)]
    refused = SMALL + CITY_VERSION + "degraded_fewest = 0\n"
    assert any("degraded_fewest" in text and "got 0" in text for text in problems(refused)), problems(refused)


def test_a_city_may_begin_later() -> None:
    timeline = loads(changed('name = "rivertown"', 'name = "rivertown"\neffective_from = 2026-01-01T00:00:00Z')).timeline
    assert [len(epoch.cities) for epoch in timeline.epochs] == [0, 1]


def test_an_operator_that_is_no_longer_allowed_is_no_longer_watched() -> None:
    leaves = NETWORK_VERSION.replace('ttl = "4h"', 'operators = ["amber"]')
    head, tail = SMALL.split("[[city.rules]]")
    text = f'{head}operators = ["amber", "cobalt"]\n[[city.rules]]{tail}'
    epochs = with_versions(text, network=leaves).timeline.epochs
    assert [epoch.cities[0].operators for epoch in epochs] == [("amber", "cobalt"), ("amber",)]


def test_versions_out_of_order_are_told() -> None:
    later = "[[city.versions]]\neffective_from = 2025-01-01T00:00:00Z\nrules = []\n"
    with pytest.raises(ConfigurationError, match="must come into force at least a tick after the version before it"):
        with_versions(city=CITY_VERSION + later)


def test_a_time_without_an_offset_is_told() -> None:
    with pytest.raises(ConfigurationError, match="must be a time with its offset"):
        with_versions(city=CITY_VERSION.replace("03Z", "03"))
