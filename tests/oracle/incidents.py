"""Crowded cells that touch, told of as one: section 13 of docs/policies.md, every component found anew at every tick."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import h3

from geo.params import Rule, Timeline
from tests.oracle import bodies
from tests.oracle.places import Force
from tests.oracle.plane import Point
from tests.oracle.responses import Answer, Handling
from tests.oracle.rules import CAUSES, Episode, Haul, RulesTruth, Spot, enough, lead_elsewhere

FULL_TURN = 3_600_000_000


@dataclass(eq=False)
class Incident:
    """cells: those of the end of the tick before. Of what was told last: tick, excess, severity, moves and cells."""

    founder: str
    opened: int
    since: int
    cells: set[str]
    departures: Counter[str] = field(default_factory=Counter)
    sequence: int = 0
    last_tick: int = 0
    last_excess: int = 0
    severity: str = ""
    told: list[Haul] = field(default_factory=list)
    told_cells: set[str] = field(default_factory=set)
    handling: Handling = field(default_factory=Handling)

    @property
    def age(self) -> tuple[int, int, str]:
        return self.since, self.opened, self.founder


@dataclass
class Telling:
    """What is to be told of an incident, and the cells that it is about."""

    operator: str
    incident: Incident
    state: str
    cells: set[str]
    cleared_by: str | None = None
    split_from: Incident | None = None
    merged_into: Incident | None = None


class IncidentsTruth(RulesTruth):
    """A city's incidents by (policy, rule, operator). cooled: cells that ceased to be hot in this tick, with their episodes."""

    def __init__(self, name: str, timeline: Timeline) -> None:
        super().__init__(name, timeline)
        self.incidents: dict[tuple[str, tuple[str, str], str], list[Incident]] = {}
        self.cooled: dict[Spot, Episode] = {}

    def _hush(self, spot: Spot, episode: Episode, state: str) -> None:
        if state == "cleared":
            self.cooled[spot] = episode

    def _tell_incidents(self, force: Force, rule: Rule) -> None:
        """What is to be told of a rule, after its cells were judged."""
        policy = force.policy.policy_id
        tellings: list[Telling] = []
        for operator in self.timeline.operators:
            mine = self.incidents.setdefault((policy, rule.key, operator), [])
            if operator not in self.allowed():
                tellings += self._give_up(policy, rule, operator)
            elif self.voices[operator].silent:
                tellings += self._handle(force, rule, operator, mine)
            else:
                hot = {
                    spot.area: episode
                    for spot, episode in self.episodes.items()
                    if spot == Spot(policy, "overcrowded", rule.key, spot.area, operator) and episode.sequence
                }
                cooled = {
                    spot.area: episode for spot, episode in self.cooled.items() if self._is_of(spot, policy, rule, operator)
                }
                changes, now = self._change(operator, mine, hot, cooled)
                self.incidents[policy, rule.key, operator] = now
                changed = [change.incident for change in changes]
                handled = self._handle(force, rule, operator, [incident for incident in now if incident not in changed])
                changed += [one.incident for one in handled]
                tellings += changes + handled
                for incident in now:
                    if incident not in changed and self._has_news(force, rule, operator, incident):
                        tellings.append(Telling(operator, incident, "updated", incident.cells))
        self._say_all(force, rule, tellings)
        self._forget_cooled(policy, rule)

    def _handle(self, force: Force, rule: Rule, operator: str, incidents: list[Incident]) -> list[Telling]:
        """What is told of deadlines and responses: section 12."""
        states = [(one, self._handled(force, rule, one.handling, one.since)) for one in incidents]
        return [Telling(operator, incident, state, incident.cells) for incident, state in states if state is not None]

    def _answer_incident(self, answer: Answer) -> bool:
        for (policy, key, operator), incidents in self.incidents.items():
            for incident in incidents:
                name = bodies.id_of(self.name, key, incident.founder, operator, incident.opened, "incident")
                rule = next(rule for rule in self.force[policy].rules if rule.key == key)
                if (name, operator) == (answer.episode_id, answer.operator) and not rule.shadow:
                    incident.handling.take(answer, self.k)
                    return True
        return False

    def _end_incidents(self, force: Force, rule: Rule, operators: set[str]) -> None:
        """What was in force for these operators is not any more."""
        policy = force.policy.policy_id
        if not rule.merge:
            return
        self._say_all(force, rule, [one for operator in operators for one in self._give_up(policy, rule, operator)])
        self._forget_cooled(policy, rule)

    def _forget_cooled(self, policy: str, rule: Rule) -> None:
        self.cooled = {spot: one for spot, one in self.cooled.items() if (spot.policy, spot.rule) != (policy, rule.key)}

    @staticmethod
    def _is_of(spot: Spot, policy: str, rule: Rule, operator: str) -> bool:
        return (spot.policy, spot.rule, spot.operator) == (policy, rule.key, operator)

    def _give_up(self, policy: str, rule: Rule, operator: str) -> list[Telling]:
        gone = self.incidents.pop((policy, rule.key, operator), [])
        return [Telling(operator, incident, "cleared", incident.cells, "policy") for incident in gone]

    # --- rules 1 to 5 --------------------------------------------------------------------------------------------------

    def _change(
        self, operator: str, before: list[Incident], hot: dict[str, Episode], cooled: dict[str, Episode]
    ) -> tuple[list[Telling], list[Incident]]:
        """What is raised and cleared, and the incidents of now."""

        def age(cell: str) -> tuple[int, str]:
            return hot[cell].opened, cell

        changes, now = [], []
        for incident in before:
            for cell in incident.cells & cooled.keys():
                incident.departures += cooled[cell].departures
        parts = components(set(hot))
        goes_to: dict[Incident, int] = {}
        for incident in before:
            left = incident.cells & hot.keys()
            if left:
                oldest = min(left, key=age)
                goes_to[incident] = next(i for i, part in enumerate(parts) if oldest in part)
            else:
                cause = max(CAUSES, key=lambda name: incident.departures[name])
                changes.append(Telling(operator, incident, "cleared", incident.cells, cause))
        for i, part in enumerate(parts):
            going = sorted((one for one, to in goes_to.items() if to == i), key=lambda one: one.age)
            parents = sorted((one for one in before if one.cells & part), key=lambda one: one.age)
            if going:
                heir = going[0]
                for other in going[1:]:
                    heir.departures += other.departures
                    changes.append(Telling(operator, other, "cleared", other.cells, "merged", merged_into=heir))
            else:
                parent = parents[0] if parents else None
                heir = Incident(min(part, key=age), self.k, parent.since if parent else self.k, set())
                if parent:
                    heir.handling = replace(parent.handling)
                changes.append(Telling(operator, heir, "raised", part, split_from=parent))
            now.append((heir, part))
        for heir, part in now:
            heir.cells = part
        return changes, [heir for heir, _ in now]

    def _has_news(self, force: Force, rule: Rule, operator: str, incident: Incident) -> bool:
        if (self.k - incident.last_tick) * self.timeline.tick_ms < rule.update_interval_ms:
            return False
        most, bikes, excess, _ = self._sum(force, rule, operator, incident.cells)
        if incident.handling.severity(bodies.severity(bikes, most)) != incident.severity:
            return True
        if enough(abs(excess - incident.last_excess), incident.last_excess):
            return True
        if lead_elsewhere(incident.told, self._hauls(force, rule, operator, incident.cells)):
            return True
        return incident.cells != incident.told_cells

    # --- what is found -------------------------------------------------------------------------------------------------

    def _sum(self, force: Force, rule: Rule, operator: str, cells: set[str]) -> tuple[int, int, int, int]:
        """Sums over cells: maximum, bikes, excess, bikes of all operators."""
        most = bikes = excess = 0
        for cell in cells:
            found = self._numbers(force, rule, Spot(force.policy.policy_id, "overcrowded", rule.key, cell, operator))
            most, bikes, excess = most + found.limit, bikes + found.bikes, excess + found.excess
        counts = self._counts(force)
        everyone = sum(n for (key, area, _), n in counts.items() if key == rule.key and area in cells)
        return most, bikes, excess, everyone

    def _hauls(self, force: Force, rule: Rule, operator: str, cells: set[str]) -> list[Haul]:
        bikes: Counter[int] = Counter()
        way: Counter[int] = Counter()
        point: dict[int, Point] = {}
        for cell in cells:
            for haul in self.episodes[Spot(force.policy.policy_id, "overcrowded", rule.key, cell, operator)].hauls:
                bikes[haul.to] += haul.bikes
                way[haul.to] += haul.bikes * haul.distance_m
                point[haul.to] = haul.at
        hauls = [Haul(to, point[to], n, (way[to] * 2 + n) // (2 * n)) for to, n in bikes.items()]
        return sorted(hauls, key=lambda haul: (haul.to == 0, haul.distance_m, haul.to))

    # --- what is told --------------------------------------------------------------------------------------------------

    def _say_all(self, force: Force, rule: Rule, tellings: list[Telling]) -> None:
        operators = self.timeline.operators

        def place(one: Telling) -> tuple[str, int, int]:
            opened = one.incident.opened
            return one.incident.founder, operators.index(one.operator), opened

        for one in sorted(tellings, key=place):
            self._say_incident(force, rule, one)

    def _say_incident(self, force: Force, rule: Rule, one: Telling) -> None:
        most, bikes, excess, everyone = self._sum(force, rule, one.operator, one.cells)
        incident, is_over = one.incident, one.state == "cleared"
        if is_over:
            excess = 0
        hauls = [] if is_over else self._hauls(force, rule, one.operator, one.cells)
        if not is_over:
            incident.severity = incident.handling.severity(bodies.severity(bikes, most))
            incident.last_tick, incident.last_excess = self.k, excess
            incident.told, incident.told_cells = hauls, set(one.cells)
        incident.sequence += 1
        incident.handling.news = False
        spots = [Spot(force.policy.policy_id, "overcrowded", rule.key, cell, one.operator) for cell in one.cells]
        listed = bodies.listed(rule, excess, [bike for spot in spots for bike in self._standing(force, spot)])
        area = area_part(rule, incident.founder, one.cells, listed)
        respond_by, resolve_by = self._deadlines(force, rule, incident.since)
        body: dict[str, Any] = {
            "severity": incident.severity,
            "kind": "overcrowded",
            "rule": bodies.rule_part(rule, most, force.city.time_zone),
            "area": area,
            "count": bikes,
            "excess": excess,
            "bikes": [bodies.bike_part(bike) for bike in listed],
            "moves": bodies.moves_part(hauls),
            "respond_by": bodies.rfc_3339(respond_by),
            "resolve_by": bodies.rfc_3339(resolve_by),
            "links": bodies.links_part(area["centroid"]),
        }
        body |= incident.handling.part(self.timeline.tick_ms)
        if rule.shadow:
            body["mode"] = "shadow"
        for key, other in (("split_from", one.split_from), ("merged_into", one.merged_into)):
            if other is not None:
                body[key] = bodies.id_of(self.name, rule.key, other.founder, one.operator, other.opened, "incident")
        spot = Spot(force.policy.policy_id, "overcrowded", rule.key, incident.founder, one.operator)
        self._emit(
            spot,
            incident.opened,
            incident.sequence,
            one.state,
            one.cleared_by,
            body,
            everyone,
            shadow=rule.shadow,
            more=("incident",),
        )


def components(cells: set[str]) -> list[set[str]]:
    """Cells that hang together."""
    parts: list[set[str]] = []
    for cell in sorted(cells):
        touching = [part for part in parts if any(h3.are_neighbor_cells(cell, other) for other in part)]
        parts = [part for part in parts if part not in touching]
        parts.append({cell}.union(*touching))
    return parts


def area_part(rule: Rule, founder: str, cells: set[str], bikes: list[bodies.Standing]) -> dict[str, Any]:
    ordered = sorted(cells)
    return {
        "type": "cells",
        "h3": founder,
        "resolution": rule.resolution,
        "cells": ordered,
        "name": None,
        "centroid": middle(ordered),
        "boundary": outer_ring(cells),
        "area_ha": sum(bodies.area_e4(cell) for cell in cells) / 1e4,
        "hot_spot": bodies.hot_spot(bikes),
    }


def middle(cells: list[str]) -> dict[str, float]:
    points = [(round(at["lat"] * 1e7), round(at["lng"] * 1e7)) for at in map(bodies.centroid, cells)]
    lat0, lng0 = points[0]
    east = []
    for _, lng in points:
        away = lng - lng0
        while away >= FULL_TURN // 2:
            away -= FULL_TURN
        while away < -FULL_TURN // 2:
            away += FULL_TURN
        east.append(away)
    lng = lng0 + sum(east) // len(cells)
    if lng >= FULL_TURN // 2:
        lng -= FULL_TURN
    if lng < -FULL_TURN // 2:
        lng += FULL_TURN
    return {"lat": (lat0 + sum(lat - lat0 for lat, _ in points) // len(cells)) / 1e7, "lng": lng / 1e7}


def outer_ring(cells: set[str]) -> list[list[float]] | None:
    """Walks along the edges that only one cell has, from the southernmost corner."""
    sides: list[tuple[str, str]] = []
    for cell in cells:
        corners = h3.cell_to_vertexes(cell)
        sides += [(corner, corners[(i + 1) % len(corners)]) for i, corner in enumerate(corners)]
    shared = Counter(frozenset(side) for side in sides)
    rim = [side for side in sides if shared[frozenset(side)] == 1]
    at = start = min((corner for corner, _ in rim), key=lambda corner: (h3.vertex_to_latlng(corner)[0], corner))
    ring = []
    while True:
        ring.append([round(x, 7) for x in h3.vertex_to_latlng(at)])
        [at] = [end for begin, end in rim if begin == at]
        if at == start:
            return ring if len(ring) <= 1000 else None
