"""Room that operators share, put into worlds that were made without: each is crowded in one zone, and on the shore beside it all
together may have a few bikes more. Who is planned for first leaves less to the next, and what lacks bikes, at the shore's far end,
comes before what is nearer. Bikes gather in the zone and on the shore."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from geo.params import City, Timeline
from geo.policy import Geography, Policy, Rule
from tests.laws.fleet import Fleet

OFTEN = 0.15
ENOUGH = 99
"""More bikes than there are."""


@dataclass
class Rivals:
    """What a world's rivalry is about, the same in all versions: the greatest number of each in a cell of the zone, of all on the
    shore, and the least number of each at its far end."""

    anchor: tuple[int, int]
    few: int
    together: int
    needed: int

    @classmethod
    def of(cls, seed: int, anchor: tuple[int, int]) -> Rivals | None:
        """None: not in this world."""
        r = random.Random(f"rivals of {seed}")
        if r.random() > OFTEN:
            return None
        return cls(anchor, r.choice((0, 0, 1)), r.choice((3, 5, 7, 9, 12, 15)), r.choice((0, 1, 2, 5)))

    def timeline(self, timeline: Timeline) -> Timeline:
        epochs = (replace(epoch, cities=tuple(map(self._city, epoch.cities))) for epoch in timeline.epochs)
        return replace(timeline, epochs=tuple(epochs))

    def gather(self, fleet: Fleet) -> None:
        """Before it sets out."""
        lat, lng = self.anchor
        shore = [fleet.moved((lat, lng + 60_000), 250) for _ in range(3)]
        fleet.hot = [self.anchor, self.anchor, *shore, fleet.moved(self.anchor, 1500)]
        fleet.spread = 300
        for thing in fleet.things:
            thing.at = fleet._parking()

    def _city(self, city: City) -> City:
        lat, lng = self.anchor
        crowd, shore, needy = (
            _box("crowd", lat, lng, 20_000),
            _box("shore", lat, lng + 100_000, 75_000),
            _box("needy", lat, lng + 150_000, 15_000),
        )
        none: dict[str, Any] = {"per_hectare": None, "per_hectare_text": None, "share_of_fleet": None}
        rules = tuple(replace(rule, maximum=ENOUGH, **none) for rule in city.rules)
        policies = [
            _policy("crowd", area="cell", geographies=("crowd",), maximum=self.few, for_ms=0),
            _policy("room", area="zone", geographies=("shore",), maximum=self.together, all_operators=True),
        ]
        if self.needed:
            policies.append(_policy("need", area="zone", geographies=("needy",), minimum=self.needed, for_ms=0))
        planning = None if city.planning is None else replace(city.planning, max_haul_m=5_000)
        return replace(city, rules=rules, policies=tuple(policies), geographies=(crowd, shore, needy), planning=planning)


def _box(name: str, lat: int, lng: int, reach: int) -> Geography:
    south, west, north, east = lat - reach, lng - reach, lat + reach, min(lng + reach, 1_800_000_000)
    return Geography(name, name.title(), ((((south, west), (south, east), (north, east), (north, west)),),))


def _policy(name: str, **terms: Any) -> Policy:
    whole = Fraction(1)
    return Policy(name, name.title(), (Rule(name, "rule", "Rule", clear_ratio=whole, target_ratio=whole, **terms),))
