"""Who waits while a city catches up."""

from __future__ import annotations

from streams.mirror import Mirror
from streams.pacing import Progress, slowest_city_ms, sources_ahead
from tests.simulation.world import Kafka


def test_a_source_more_than_an_hour_ahead_of_the_slowest_city_waits() -> None:
    clocks = {("p", 0): 3_600_000 + 10_000, ("p", 1): 3_600_000 + 10_001, ("p", 2): 0}
    assert sources_ahead(clocks, 10_000) == {("p", 1)}


def test_nobody_waits_before_every_city_has_said_how_far_it_is() -> None:
    assert sources_ahead({("p", 0): 10**12}, None) == set()


async def test_the_slowest_city_counts() -> None:
    import msgspec

    from streams.outbox import Record

    kafka = Kafka()
    for city, tick in (("a", 5), ("b", 9), ("a", 7)):
        kafka.append(Record("city.progress", 0, city.encode(), msgspec.json.encode(Progress(tick, 5000))))
    mirror = Mirror(kafka, ("city.progress", 0))
    await mirror.refresh()
    assert slowest_city_ms([mirror], ["a", "b"]) == 40_000
    assert slowest_city_ms([mirror], ["a", "b", "c"]) is None
