"""Bikes that move, lie, repeat themselves and fall silent; what they send, in the words of the feeds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from geo.params import Timeline
from tests.laws.blackouts import Blackouts
from tests.laws.garbage import bytes_of, spoil

PARKED = ("available", "available", "available", "reserved", "non_operational", "non_contactable")
AWAY = ("removed", "missing", "elsewhere")
NAMES = ("1", "2", "3", "車-7", "a b", "x" * 128, "0042", "B-9", "Ω", "9", "10", "11", "é", "zz", "Z1", "q/1", "q|2", "🚲")
VEHICLES = ("bicycle", "bicycle", "moped", "cargo_bicycle", "hoverboard", "other")
EVENTS = ("unlock", "lock", "trip_end", "maintenance_pick_up", "telemetry", "located", "")
METRE = 90  # 1e-7 degrees of latitude, about


class FeedOf(Protocol):
    @property
    def topic(self) -> str: ...
    @property
    def operator(self) -> str | None: ...
    @property
    def coordinates(self) -> str: ...


@dataclass(frozen=True)
class Sent:
    """A record as it was written; key: the bike's id, by which it goes to a partition. value None: a clock record."""

    topic: str
    key: str
    record_ms: int
    value: bytes | None


@dataclass
class Thing:
    """A real bike."""

    operator: str
    name: str
    at: tuple[int, int]
    status: str | None
    echo: tuple[int, int]  # from where a reflection makes it seem to be, as long as it stands
    echoes: bool = False
    lie: tuple[int, tuple[int, int]] | None = None
    said: list[tuple[FeedOf, dict[str, Any], tuple[int, int]]] = field(default_factory=list)


class Fleet:
    def __init__(
        self,
        r: random.Random,
        timeline: Timeline,
        feeds: Sequence[FeedOf],
        anchor: tuple[int, int],
        start: int,
        spread: int | None = None,
    ) -> None:
        """spread: how far bikes are parked from the hot spots, tenths of a metre, and then they are many; None: any."""
        self.r, self.timeline, self.feeds, self.anchor, self.now = r, timeline, feeds, anchor, start
        self.ttl = timeline.epochs[0].bike.ttl_ms
        drawn = r.choice((0, 150, 400))
        self.hot = [self._somewhere(r.choice((20_000, 200_000))) for _ in range(r.choice((1, 2, 4)))]
        self.spread = drawn if spread is None else spread
        operators = sorted({o for epoch in timeline.epochs for o in epoch.operators})
        names = r.sample(NAMES, r.choice((2, 4, 6, 8, len(NAMES))))
        if spread is not None:
            names, self.hot = list(NAMES), self.hot[:2]
        statusless = {o for o in operators if r.random() < 0.25}
        self.things = [
            Thing(o, name, self._parking(), None if o in statusless else r.choice(PARKED), self._offset())
            for o in operators
            for name in names
        ]
        self.tide = "in"
        self.muted: dict[str, int] = {}  # operator -> until
        self.sent: list[Sent] = []
        self.blackouts: Blackouts | None = None

    def run(self, size: int, span_ms: int, *, is_sorted: bool) -> list[Sent]:
        """About `size` records over about `span_ms`."""
        r, end = self.r, self.now + span_ms
        step = max(1, span_ms // max(1, size))
        while len(self.sent) < size and self.now < end:
            self.now += int(r.expovariate(1 / step)) if r.random() < 0.6 else 0
            if r.random() < 0.03:
                self._turn(span_ms)
            if self.blackouts is not None:
                self.blackouts.strike(self)
            thing = r.choice(self.things) if r.random() < 0.8 else self.things[0]
            if self.muted.get(thing.operator, 0) > self.now:
                continue
            for _ in range(r.choice((1, 1, 1, 1, 1, 1, 2, 4))):
                self.sent.append(self._record(thing))
            if not is_sorted and r.random() < 0.15:
                self._jumble()
        return self.sent

    def _jumble(self) -> None:
        """A record with an earlier time than those before it, or a clock record that runs ahead."""
        r = self.r
        i = r.randrange(max(0, len(self.sent) - 5), len(self.sent))
        if r.random() < 0.5:
            earlier = self.sent[i].record_ms - r.randint(0, 6 * self.timeline.tick_ms)
            self.sent[i] = replace(self.sent[i], record_ms=earlier)
        else:
            ahead = self.now + r.randint(0, 2 * self.timeline.tick_ms)
            self.sent.append(replace(self.sent[i], record_ms=ahead, value=None))

    def _turn(self, span_ms: int) -> None:
        """Once in a while the whole city does something else, or nothing at all."""
        r = self.r
        x = r.random()
        if x < 0.6:
            self.tide = r.choice(("in", "in", "ride", "ride", "away", "away", "move"))
        elif x < 0.75:  # everybody speaks once more, and then nobody does
            for operator in sorted({thing.operator for thing in self.things}):
                mine = [thing for thing in self.things if thing.operator == operator]
                self.sent += [self._record(r.choice(mine)) for _ in range(3)]
            self.now += r.choice((span_ms // 20, span_ms // 8, min(2 * self.ttl, span_ms // 3)))
        elif x < 0.9:
            self.muted[r.choice(self.things).operator] = self.now + r.randint(1, max(2, span_ms // 4))
        else:
            self.now += r.choice((1, 10)) * self.timeline.tick_ms

    def send(self, thing: Thing, fields: dict[str, Any]) -> None:
        """It says just this, and where it is."""
        feed = self._feed(thing)
        thing.said.append((feed, fields, thing.at))
        self.sent.append(self._sent(thing, feed, fields, thing.at))

    def moved(self, at: tuple[int, int], metres: int) -> tuple[int, int]:
        return self._moved(at, metres * METRE)

    # --- where ---------------------------------------------------------------------------------------------------------

    def _somewhere(self, within: int) -> tuple[int, int]:
        return self._moved(self.anchor, within)

    def _moved(self, at: tuple[int, int], by: int) -> tuple[int, int]:
        lng = at[1] + self.r.randint(-by, by)
        if lng > 1_800_000_000:
            lng -= 3_600_000_000
        elif lng < -1_800_000_000:
            lng += 3_600_000_000
        return (max(-900_000_000, min(900_000_000, at[0] + self.r.randint(-by, by))), lng)

    def _offset(self) -> tuple[int, int]:
        """16 to 45 m to the west."""
        return (self.r.randint(-10, 10) * METRE, -self.r.randint(16, 45) * METRE)

    def _parking(self) -> tuple[int, int]:
        return self._moved(self.r.choice(self.hot), self.spread * METRE // 10)

    # --- what happens --------------------------------------------------------------------------------------------------

    def _record(self, thing: Thing) -> Sent:
        r = self.r
        x = r.random()
        if x < 0.08 and thing.said:
            feed, fields, at = r.choice(thing.said[-4:])  # the very same again
            return self._sent(thing, feed, fields, at)
        feed = self._feed(thing)
        if x > 0.97 and thing.said:  # the same moment once more, told otherwise, maybe by another feed
            return self._sent(thing, feed, {**self._scene(thing)[0], "ts": thing.said[-1][1]["ts"]}, thing.at)
        fields, at = self._scene(thing)
        if x < 0.13:
            fields, at = self._lie(thing, fields)
        elif x < 0.18:
            fields = self._late(thing, fields)
        elif x < 0.21:
            fields["accuracy"] = r.choice((100.0, 100.0005, 100.001, 101, 5000.0))
        elif x < 0.24:
            fields["ts"] = self.now + r.choice((60_000, 60_001, 59_999, 200_000))
        elif x < 0.27:
            fields["ts"] = self.now - self.ttl + r.choice((0, -1, 1, -100_000))
        elif x < 0.30:
            fields["operator"] = r.choice(("nobody", "alfa", "bravo", "carla", "Alfa"))
        thing.said.append((feed, fields, at))
        return self._sent(thing, feed, fields, at)

    def _feed(self, thing: Thing) -> FeedOf:
        mine = [feed for feed in self.feeds if feed.operator in (None, thing.operator)]
        return self.r.choice(mine or list(self.feeds))

    def _sent(self, thing: Thing, feed: FeedOf, fields: dict[str, Any], at: tuple[int, int]) -> Sent:
        value = bytes_of(self.r, fields, at, feed.coordinates)
        if self.r.random() < 0.04:
            value = spoil(self.r, value)
        return Sent(feed.topic, thing.name, self.now, value)

    def _scene(self, thing: Thing) -> tuple[dict[str, Any], tuple[int, int]]:
        """What the bike does, and what it says of it."""
        r = self.r
        x = r.random()
        if self.tide != "in" and r.random() < 0.6:
            self._leave(thing)
        elif r.random() < 0.06:
            thing.echoes = not thing.echoes
        elif thing.echoes and r.random() < 0.7:
            if x < 0.2:
                thing.status = r.choice((*PARKED, "on_trip", "on_trip")) if thing.status else None
            there = (thing.at[0] + thing.echo[0], thing.at[1] + thing.echo[1])
            return self._words(thing), self._moved(there, r.choice((0, 3, 8, 12)) * METRE)
        elif x < 0.30:
            pass  # still here
        elif x < 0.60:
            at = self._moved(thing.at, r.choice((3, 8, 30, 55, 75, 120)) * METRE)  # jitter
            return self._words(thing), at
        elif x < 0.75:
            thing.at = self._parking()
            thing.status = r.choice(PARKED) if thing.status else None
        elif x < 0.82:
            thing.status = "on_trip" if thing.status else None
            thing.at = self._moved(thing.at, r.choice((0, 0, 200, 900)) * METRE)
        elif x < 0.87:
            thing.status = r.choice(AWAY) if thing.status else None
        elif x < 0.92:
            thing.status = r.choice(PARKED) if thing.status else None
        elif x < 0.96:
            thing.at = self._somewhere(r.choice((10_000, 400_000)))
        else:
            thing.at = self._moved(thing.at, r.choice((10, 20, 60, 99)) * METRE)
        return self._words(thing), thing.at

    def _leave(self, thing: Thing) -> None:
        """As the tide has it: on a trip, taken away, or found elsewhere."""
        if self.tide == "ride":
            thing.status = "on_trip" if thing.status else None
            thing.at = self._moved(thing.at, 900 * METRE)
        elif self.tide == "away":
            thing.status = self.r.choice(AWAY) if thing.status else None
            thing.at = self._moved(thing.at, self.r.choice((0, 10, 80, 300)) * METRE)
        else:
            thing.at = self._somewhere(100_000)

    def _words(self, thing: Thing) -> dict[str, Any]:
        r = self.r
        ts = self.now
        if r.random() < 0.3:
            ts -= r.choice((r.randint(0, 3_000), r.randint(0, self.timeline.tick_ms), r.randint(-5_000, 0)))
        elif r.random() < 0.05:
            ts -= r.randint(-50_000, 90_000)
        fields: dict[str, Any] = {"bike_id": thing.name, "operator": thing.operator, "ts": ts, "status": thing.status}
        if r.random() < 0.5:
            fields["accuracy"] = r.choice((0, 2, 4.5, 7.4, 7.5, 15, 25, 30.0, 50, 80, 0.0004, None))
        if r.random() < 0.2:
            fields["vehicle_type"] = r.choice(VEHICLES)
        if r.random() < 0.1:
            fields["event"] = r.choice(EVENTS)
        return fields

    def _late(self, thing: Thing, fields: dict[str, Any]) -> dict[str, Any]:
        """Older than it could be, or kept back since just after what was said last."""
        if thing.said and self.r.random() < 0.5:
            return {**fields, "ts": max(self.now - self.ttl, thing.said[-1][1]["ts"] + self.r.randint(1, 2_000))}
        return {**fields, "ts": fields["ts"] - self.r.randint(0, min(self.ttl, 120_000))}

    def _lie(self, thing: Thing, fields: dict[str, Any]) -> tuple[dict[str, Any], tuple[int, int]]:
        """Far away all at once; then the same again, or something near it, or the truth."""
        if thing.lie is not None and self.r.random() < 0.7:
            ts, at = thing.lie
            if self.r.random() < 0.4:
                return {**fields, "ts": ts}, self._moved(at, self.r.choice((0, 0, 50)) * METRE)
            return fields, self._moved(at, self.r.choice((0, 50, 100, 150, 300)) * METRE)
        at = self._moved(thing.at, self.r.choice((3_000, 40_000, 4_000_000)) * METRE)
        thing.lie = (fields["ts"], at)
        return fields, at
