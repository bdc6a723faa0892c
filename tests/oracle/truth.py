"""The slow truth: docs/semantics.md in plain Python, one record, one bike, one tick at a time.

Shares with the core only the values of `geo/params.py`, orjson and H3. Integers and `Fraction` decide; nothing is
vectorised, skipped, or clever.

Here: the whole system on whole logs, every partition, then every city, tick by tick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geo.params import Timeline
from tests.oracle.bodies import TrueEvent
from tests.oracle.city import CityTruth
from tests.oracle.decrees import Written
from tests.oracle.density import DensityTruth, TrueTelling
from tests.oracle.report import ReportTruth, TrueReport
from tests.oracle.responses import Answer
from tests.oracle.stage import FeedLike, Record, SourceTruth

Logs = Mapping[tuple[str, int], Sequence[Record]]
"""(topic, partition) -> its records in order."""


@dataclass(frozen=True)
class Truth:
    sources: list[SourceTruth]  # in order of (topic, partition)
    events: dict[str, list[TrueEvent]]  # by city
    cities: dict[str, CityTruth]  # as they are after the last tick
    density: dict[str, list[TrueTelling]]  # by city
    standing: dict[str, dict[str, TrueTelling]]  # by city, what was told last by key
    reports: dict[str, list[TrueReport]]  # by city
    unfinished: dict[str, list[TrueReport]]  # by city, those that may be told again


def whole_truth(
    feeds: Mapping[str, FeedLike], timeline: Timeline, logs: Logs, written: Sequence[Written | Answer] = ()
) -> Truth:
    """feeds: topic -> feed; logs: of every partition of every feed, and of control topics; written: what their records mean."""
    meaning = {(one.topic if isinstance(one, Answer) else None, one.value): one for one in written}
    answered = {topic for topic, _ in meaning}
    controls = [
        _by_tick(log, timeline, topic if topic in answered else None)
        for (topic, _), log in sorted(logs.items())
        if topic not in feeds
    ]
    logs = {name: log for name, log in logs.items() if name[0] in feeds}
    sources = [SourceTruth(feeds[topic], timeline, logs[topic, partition]) for topic, partition in sorted(logs)]
    through = min([*(source.through for source in sources), *(through for through, _ in controls)])
    by_tick: dict[int, list[tuple[int, int]]] = {}  # tick -> (source index, position among its ticks)
    for index, source in enumerate(sources):
        for position, truth in enumerate(source.ticks):
            by_tick.setdefault(truth.tick, []).append((index, position))
    events: dict[str, list[TrueEvent]] = {}
    cities = {name: CityTruth(name, timeline) for name in timeline.cities}
    maps = {name: DensityTruth(cities[name]) for name in timeline.cities}
    rates = {name: ReportTruth(cities[name]) for name in timeline.cities}
    for name in timeline.cities:
        events[name] = []
        born = min(e.from_tick for e in timeline.epochs if name in [c.name for c in e.cities])
        first = min((k for k in by_tick if k >= born), default=through + 1)
        documents = _of_city(name, born, [said for _, said in controls], meaning)
        for k in range(min([first, *documents]), through + 1):
            if k >= first:
                told = [(i, sources[i].ticks[p]) for i, p in by_tick.get(k, [])]
                events[name] += cities[name].tick(k, [(i, truth.cities[name]) for i, truth in told if name in truth.cities])
                maps[name].tick(k)
                rates[name].tick(k, cities[name].said)
            events[name] += cities[name].told(k, documents.get(k, ()))
    density = {name: each.told for name, each in maps.items()}
    standing = {name: each.last for name, each in maps.items()}
    reports = {name: each.told for name, each in rates.items()}
    unfinished = {name: list(each.open()) for name, each in rates.items()}
    return Truth(sources, events, cities, density, standing, reports, unfinished)


def _of_city(
    name: str, born: int, controls: Sequence[dict[int, list[Key]]], meaning: Mapping[Key, Written | Answer]
) -> dict[int, list[Written | Answer]]:
    """What a city is told, by tick; of one tick in the order of the topics. Ticks at which others are told are there, too."""
    found: dict[int, list[Written | Answer]] = {}
    for control in controls:
        for k, keys in control.items():
            if k >= born:
                found.setdefault(k, []).extend(one for one in map(meaning.__getitem__, keys) if _concerns(one, name))
    return found


def _concerns(one: Written | Answer, name: str) -> bool:
    return one.city == name or (one.city is None and isinstance(one, Written))


Key = tuple[str | None, bytes]
"""A value, and the topic that it stands on if it is an operator's."""


def _by_tick(log: Sequence[Record], timeline: Timeline, topic: str | None) -> tuple[int, dict[int, list[Key]]]:
    """The last closed tick, and the values of each."""
    clock, found = -1, dict[int, list[Key]]()
    for record in log:
        clock = max(clock, record.timestamp_ms, 0)
        if record.value is not None:
            found.setdefault(clock // timeline.tick_ms, []).append((topic, record.value))
    return clock // timeline.tick_ms - 1, found
