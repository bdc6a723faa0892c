"""One source's log to what it says of each closed, non-empty tick: sections 1, 2 and 4 of docs/semantics.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from geo.params import Epoch, Timeline
from tests.oracle.bike import ON_TRIP, Bike, Fact, Winner, judge
from tests.oracle.packs import pings_in
from tests.oracle.ping import Malformed, Ping, parse


@dataclass(frozen=True)
class Record:
    """One record of a partition as the broker keeps it. value None: a clock record.

    Or a ping of a record that holds several, the item-th of it.
    """

    offset: int
    timestamp_ms: int
    value: bytes | None
    item: int = -1


class FeedLike(Protocol):
    """What the oracle wants to know of a feed."""

    @property
    def operator(self) -> str | None: ...
    @property
    def coordinates(self) -> str: ...


@dataclass
class Said:
    """What a source says of one city in one tick."""

    facts: list[Fact] = field(default_factory=list)
    heard: Counter[str] = field(default_factory=Counter)


@dataclass
class TickTruth:
    tick: int
    previous: int
    cities: dict[str, Said] = field(default_factory=dict)
    elsewhere: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)  # by (operator or "", outcome)
    refused: list[tuple[int, int, str]] = field(default_factory=list)  # (offset, item, outcome) of all that go to quarantine


def _each(record: Record) -> list[Record]:
    assert record.value is not None
    pings = pings_in(record.value)
    if pings is None:
        return [record]
    return [Record(record.offset, record.timestamp_ms, ping, item) for item, ping in enumerate(pings)]


class SourceTruth:
    """All that one partition says, in order; `through` is the last tick that its clock has closed, -1 before any."""

    def __init__(self, feed: FeedLike, timeline: Timeline, log: Sequence[Record]) -> None:
        self.feed, self.timeline = feed, timeline
        self.bikes: dict[tuple[str, str], Bike] = {}
        self.ticks: list[TickTruth] = []
        self.through = -1
        clock = -1
        by_tick: dict[int, list[Record]] = {}
        for record in log:
            clock = max(clock, record.timestamp_ms, 0)
            tick = clock // timeline.tick_ms
            if record.value is not None:
                by_tick.setdefault(tick, []).extend(_each(record))
        if log:
            self.through = clock // timeline.tick_ms - 1
        for tick in sorted(by_tick):
            if tick <= self.through and by_tick[tick]:
                self._close(tick, by_tick[tick])

    def _close(self, tick: int, records: list[Record]) -> None:
        truth = TickTruth(tick, previous=self.ticks[-1].tick if self.ticks else -1)
        epoch = self.timeline.at(tick)
        groups: dict[tuple[str, str], list[tuple[Record, Ping, bool]]] = {}
        for record in records:
            outcome, operator, ping = self._by_itself(record, epoch)
            if outcome in ("malformed", "unknown_operator", "future"):
                truth.refused.append((record.offset, record.item, outcome))
            if outcome is not None and outcome != "inaccurate":
                truth.outcomes[operator, outcome] += 1
                continue
            assert ping is not None
            groups.setdefault((operator, ping.bike), []).append((record, ping, outcome is None))
        winners = []
        for key, group in groups.items():
            good = [(record, ping) for record, ping, passed in group if passed]
            truth.outcomes[key[0], "inaccurate"] += len(group) - len(good)
            if not good:
                continue
            truth.outcomes[key[0], "superseded"] += len(good) - 1
            record, ping = max(good, key=lambda pair: (pair[1].ts, pair[0].offset, pair[0].item))
            winner = Winner(
                ts=ping.ts,
                at=(ping.lat, ping.lng),
                accuracy=ping.accuracy,
                state=ping.state,
                vehicle=ping.vehicle,
                rode=any(p.state == ON_TRIP for _, p, _ in group),
                touched=any(p.touched for _, p, _ in group),
            )
            winners.append(((record.offset, record.item), key, winner))
        end = (tick + 1) * self.timeline.tick_ms
        for _, key, winner in sorted(winners, key=lambda item: item[0]):
            self._judge(truth, key, winner, end, epoch)
        truth.outcomes += Counter()  # drops zeros
        self.ticks.append(truth)

    def _by_itself(self, record: Record, epoch: Epoch) -> tuple[str | None, str, Ping | None]:
        """(outcome or None if it passes all five tests, operator to count under, the ping if it is one)."""
        assert record.value is not None
        try:
            ping = parse(record.value, self.feed.coordinates)
            if self.feed.operator is None and ping.operator is None:
                raise Malformed("operator")
        except Malformed:
            return "malformed", "", None
        operator = ping.operator if ping.operator is not None else self.feed.operator
        assert operator is not None
        if operator not in epoch.operators or self.feed.operator not in (None, operator):
            return "unknown_operator", "", ping
        if ping.ts > record.timestamp_ms + epoch.bike.future_ms:
            return "future", operator, ping
        if ping.ts < record.timestamp_ms - epoch.bike.ttl_ms:
            return "stale", operator, ping
        if ping.accuracy > epoch.bike.max_accuracy_mm:
            return "inaccurate", operator, ping
        return None, operator, ping

    def _judge(self, truth: TickTruth, key: tuple[str, str], winner: Winner, end: int, epoch: Epoch) -> None:
        verdict = judge(self.bikes, key, winner, end, epoch)
        truth.outcomes[key[0], verdict.outcome] += 1
        for city, fact in verdict.facts.items():
            truth.cities.setdefault(city, Said()).facts.append(fact)
        if verdict.heard == "":
            truth.elsewhere[key[0]] += 1
        elif verdict.heard is not None:
            truth.cities.setdefault(verdict.heard, Said()).heard[key[0]] += 1
