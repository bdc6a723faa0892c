"""Feeds that take most of a fleet away at once, mean it or not, and bring it back or not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from geo.params import Timeline

if TYPE_CHECKING:
    from tests.laws.fleet import Fleet, Thing

PARKED = ("available", "available", "non_operational")
GONE = ("removed", "missing", "elsewhere", "on_trip")
Place = tuple[int, int]


def with_holds(r: random.Random, timeline: Timeline) -> Timeline:
    """The same versions; cities hold losses of fleets as small as these, for a few ticks or for long, some of them for a time."""
    tick_ms = timeline.tick_ms
    epochs, known = [], dict[str, tuple[int, int]]()
    for epoch in timeline.epochs:
        for city in epoch.cities:
            if city.name not in known or r.random() < 0.5:
                ticks = (0, 0, 0, 6, 25, 400) if city.name in known else (0, 1, 6, 25, 25, 100, 400)
                hold_ms = r.choice(ticks) * tick_ms + r.choice((0, 0, 0, 1, tick_ms // 3))
                known[city.name] = (hold_ms, r.choice((1, 2, 3, 3, 5)))
        cities = []
        for city in epoch.cities:
            hold_ms, fewest = known[city.name]
            cities.append(replace(city, degraded_hold_ms=hold_ms, degraded_fewest=fewest))
        epochs.append(replace(epoch, cities=tuple(cities)))
    return Timeline(tick_ms, tuple(epochs))


class Blackouts:
    """What they make a fleet send, between what it sends by itself."""

    def __init__(self, r: random.Random, timeline: Timeline) -> None:
        self.r, self.tick_ms = r, timeline.tick_ms
        self.versions = [epoch.from_tick * timeline.tick_ms for epoch in timeline.epochs[1:]]
        self.returns: dict[str, int] = {}  # operator -> when its feed is mended

    def strike(self, fleet: Fleet) -> None:
        """At times a feed breaks, or is mended."""
        r = self.r
        for operator in [name for name, at in sorted(self.returns.items()) if at <= fleet.now]:
            del self.returns[operator]
            self._mend(fleet, operator)
        soon = any(0 < begins - fleet.now < 30 * self.tick_ms for begins in self.versions)
        if r.random() > (0.4 if soon else 0.05):
            return
        operator = r.choice(sorted({thing.operator for thing in fleet.things}))
        if operator in self.returns:
            return
        if r.random() < 0.8:  # all of them are there before
            self._say(fleet, self._some(fleet, operator, (1.0, 1.0, 0.8)), PARKED)
            fleet.now += r.randint(1, 15) * self.tick_ms
        self._break(fleet, operator)
        self.returns[operator] = fleet.now + r.choice((60,) if soon else (1, 3, 3, 10, 40, 150)) * self.tick_ms

    def _break(self, fleet: Fleet, operator: str) -> None:
        r = self.r
        lost = self._some(fleet, operator, (1.0, 1.0, 0.9, 0.7, 0.5))
        words = r.choice((GONE, *((word,) for word in GONE)))
        self._say(fleet, lost, words, r.choice((0, 0, 50, 300)))
        if r.random() < 0.15:  # under other names they are all there
            more = [replace(thing, name=f"{thing.name[:100]}'", said=[], lie=None) for thing in lost]
            fleet.things += more
            self._say(fleet, more, PARKED)
        if r.random() < 0.3:
            fleet.muted[operator] = fleet.now + r.choice((1, 8, 60)) * self.tick_ms

    def _mend(self, fleet: Fleet, operator: str) -> None:
        r = self.r
        for share in r.choice(((1.0,), (0.8,), (0.5, 0.9), (0.3, 0.3, 1.0))):
            self._say(fleet, self._some(fleet, operator, (share,)), PARKED, r.choice((0, 0, 0, 400)))
            fleet.now += r.randint(0, 3) * self.tick_ms

    def _some(self, fleet: Fleet, operator: str, shares: Sequence[float]) -> list[Thing]:
        mine = [thing for thing in fleet.things if thing.operator == operator]
        return self.r.sample(mine, max(1, int(len(mine) * self.r.choice(shares))))

    def _say(self, fleet: Fleet, things: Sequence[Thing], words: Sequence[str], metres: int = 0) -> None:
        """All of them at once: within one tick."""
        r = self.r
        for thing in things:
            thing.echoes = False
            if metres:
                thing.at = fleet.moved(thing.at, metres)
            status = r.choice(words)
            thing.status = thing.status and status  # who never says a status says one now, and then goes on as before
            fields: dict[str, Any] = {
                "bike_id": thing.name,
                "operator": thing.operator,
                "ts": fleet.now - r.choice((0, 0, 500)),
            }
            fleet.send(thing, fields | {"status": status})
