"""Feeds that take most of a fleet away within one tick: section 10 of docs/semantics.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from geo.params import City, Timeline
from tests.oracle.bike import ON_TRIP, Fact
from tests.oracle.rebalancing import RebalancingTruth
from tests.oracle.rules import Bike, Spot

Version = tuple[int, int, int]


@dataclass
class Loss:
    """An operator is degraded: since when, and how many bikes stood before, and would have stood after."""

    opened: int
    before: int
    after: int


class DegradedTruth(RebalancingTruth):
    def __init__(self, name: str, timeline: Timeline) -> None:
        super().__init__(name, timeline)
        self.losses: dict[str, Loss] = {}
        self.held: dict[Bike, tuple[Version, Fact]] = {}

    def _may_act(self, told: Mapping[Bike, tuple[Version, Fact]]) -> dict[Bike, tuple[Version, Fact]]:
        """Of the greatest facts of a tick those that are newer than all that is known of their bikes."""
        acting = {}
        for bike, (version, fact) in told.items():
            row, held = self.roster.get(bike), self.held.get(bike)
            if row is not None and version <= row.version:
                continue
            if held is None:
                acting[bike] = (version, fact)
            elif version > held[0]:
                rode = fact.rode or held[1].rode or held[1].state == ON_TRIP
                acting[bike] = (version, replace(fact, rode=rode))
        return acting

    def _find_losses(self, acting: Mapping[Bike, tuple[Version, Fact]], city: City | None) -> None:
        if city is None or city.degraded_hold_ms == 0:
            return
        for operator in self.allowed():
            if operator in self.losses:
                continue
            stood = {bike for bike, row in self.roster.items() if bike[0] == operator and row.stands}
            stand = set(stood)
            for bike, (_, fact) in acting.items():
                if bike[0] == operator:
                    stand = stand | {bike} if fact.stands else stand - {bike}
            if 2 * len(stand) < len(stood) and len(stood) - len(stand) >= city.degraded_fewest:
                self.losses[operator] = Loss(self.k, len(stood), len(stand))

    def _is_held(self, bike: Bike, version: Version, fact: Fact) -> bool:
        """Whether a fact that may act does not; it is held then."""
        self.held.pop(bike, None)
        if bike[0] not in self.losses or fact.stands or bike not in self.roster:
            return False
        self.held[bike] = (version, fact)
        row = self.roster[bike]
        row.h = max(row.h, self.voices[bike[0]].spoken - ((self.k + 1) * self.timeline.tick_ms - fact.version))
        return True

    def _ends(self, operator: str, loss: Loss, city: City | None) -> str | None:
        if operator not in self.allowed() or city is None or city.degraded_hold_ms == 0:
            return "policy"
        there = [bike for bike, row in self.roster.items() if bike[0] == operator and row.stands and bike not in self.held]
        if 4 * len(there) >= 3 * loss.before:
            return "recovered"
        if (self.k - loss.opened) * self.timeline.tick_ms >= city.degraded_hold_ms:
            return "accepted"
        return None

    def _end_losses(self, city: City | None) -> list[tuple[Bike, Version, Fact]]:
        """Tells of losses that begin and end now; what was held and acts in this tick."""
        self.held = {bike: held for bike, held in self.held.items() if bike in self.roster}
        released = []
        for operator, loss in sorted(self.losses.items()):
            cause = self._ends(operator, loss, city)
            if cause is not None:
                self._say_loss(operator, loss, cause)
                del self.losses[operator]
                for bike in [bike for bike in self.held if bike[0] == operator]:
                    version, fact = self.held.pop(bike)
                    released.append((bike, version, fact))
            elif loss.opened == self.k:
                self._say_loss(operator, loss, None)
        return released

    def _say_loss(self, operator: str, loss: Loss, cleared_by: str | None) -> None:
        rule: dict[str, Any] = {"policy_id": "built-in", "rule_id": "feed_degraded", "name": "Feed degraded", "unit": "%"}
        rule |= {"threshold": 50, "per_hectare": None, "window": None}
        area: dict[str, Any] = dict.fromkeys(("h3", "resolution", "centroid", "boundary", "area_ha", "hot_spot"))
        area |= {"type": "city", "name": self.name}
        body: dict[str, Any] = dict.fromkeys(("count", "excess", "respond_by", "resolve_by", "links"))
        body |= {"kind": "feed_degraded", "severity": "major", "rule": rule, "area": area, "bikes": [], "moves": []}
        body["lost"] = {"before": loss.before, "after": loss.after}
        state, sequence = ("cleared", 2) if cleared_by else ("raised", 1)
        spot = Spot("", "feed_degraded", ("built-in", "feed_degraded"), "city", operator)
        self._emit(spot, loss.opened, sequence, state, cleared_by, body, None)
