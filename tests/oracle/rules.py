"""What a city's rules find, and the episodes they have: sections 6 and 7 of docs/semantics.md, and docs/policies.md."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from geo.params import Epoch, Rule, Timeline
from tests.oracle import bodies, places, silence
from tests.oracle.bike import ELSEWHERE, Fact
from tests.oracle.places import Force
from tests.oracle.plane import Point
from tests.oracle.responses import Answer, Handling

CAUSES = ("moved", "ridden", "status_only", "expired", "policy")  # of equals the first
KINDS = ("overcrowded", "deficit")
REMOVED, MISSING = 6, 7
Bike = tuple[str, str]


class Spot(NamedTuple):
    """What an episode is about. policy: key of `Force`."""

    policy: str
    kind: str
    rule: tuple[str, str]
    area: str
    operator: str


Table = dict[Bike, tuple[tuple[str, str], str]]
"""(rule, area) of each bike that counts anywhere."""


class Numbers(NamedTuple):
    """What is found at a spot."""

    limit: int
    bikes: int
    over: bool
    below: bool
    excess: int
    severity: str


@dataclass
class Row:
    """One bike of the roster, standing or not."""

    at: Point
    stands: bool
    state: int
    vehicle: int
    since: int
    version: tuple[int, int, int]
    h: int


class Haul(NamedTuple):
    """A move of an episode. to: H3 index, 0 for the depot; at: the point there."""

    to: int
    at: Point
    bikes: int
    distance_m: int


@dataclass
class Episode:
    """Pending while `sequence` is 0, else open. hauls: its moves by the plan that acts; told: those of its last event."""

    pending_since: int
    below: int | None = None
    opened: int = 0
    sequence: int = 0
    last_tick: int = 0
    last_excess: int = 0
    severity: str = ""
    departures: Counter[str] = field(default_factory=Counter)
    hauls: list[Haul] = field(default_factory=list)
    told: list[Haul] = field(default_factory=list)
    handling: Handling = field(default_factory=Handling)


class RulesTruth:
    """A city's roster and episodes at tick k, and the rules that judge them."""

    def __init__(self, name: str, timeline: Timeline) -> None:
        self.name, self.timeline = name, timeline
        self.roster: dict[Bike, Row] = {}
        self.voices: dict[str, silence.Voice] = {}
        self.episodes: dict[Spot, Episode] = {}
        self.cooldown: dict[Spot, int] = {}
        self.epoch: Epoch | None = None
        self.k = -1
        self.said: list[bodies.TrueEvent] = []
        self.force: dict[str, Force] = {}  # policies in force, in order
        self.tables: dict[str, Table] = {}  # by policy; {}: to be counted
        self.unheeded = 0  # responses that joined no episode

    def allowed(self) -> tuple[str, ...]:
        assert self.epoch is not None
        return self.epoch.operators

    def _note(self, policy: str, was: tuple[tuple[str, str], str], operator: str, cause: str) -> None:
        for kind in KINDS:
            episode = self.episodes.get(Spot(policy, kind, *was, operator))
            if episode is not None and episode.sequence:
                episode.departures[cause] += 1

    def _change_force(self, now: dict[str, Force]) -> None:
        """Ends what may not go on, in the old order and with the old texts; then bikes stand where the new rules have them."""
        before, old_tables = self.force, {policy: self._table(force) for policy, force in self.force.items()}
        for force in before.values():
            for kind in KINDS:
                for rule in force.rules:
                    ended = set[str]()
                    for spot in self._spots(force, kind, rule):
                        if not self._goes_on(force, rule, spot, now.get(spot.policy)):
                            self._end_by_policy(force, rule, spot)
                            ended.add(spot.operator)
                    self._end_incidents(force, rule, ended)
        self.force, self.tables = now, {}
        for policy, old in old_tables.items():
            if policy in now:
                places_now = self._table(now[policy])
                for bike, was in old.items():
                    if places_now.get(bike) != was:
                        self._note(policy, was, bike[0], "policy")

    def _goes_on(self, force: Force, rule: Rule, spot: Spot, now: Force | None) -> bool:
        heir = next((one for one in now.rules if one.key == rule.key), None) if now else None
        if now is None or heir is None:
            return False
        if (rule.area, rule.all_operators, rule.shadow, rule.merge) != (heir.area, heir.all_operators, heir.shadow, heir.merge):
            return False
        if rule.area == "cell" and rule.resolution != heir.resolution:
            return False
        if spot.operator not in self._concerned(now, spot.kind):
            return False
        if not _has_limit(heir, spot.kind):
            return False
        return rule.area == "cell" or spot.area in [zone.id for zone in places.zones_of(heir, now.city)]

    def _concerned(self, force: Force, kind: str) -> tuple[str, ...]:
        """Operators whom a policy is about."""
        if force.policy.operators:
            return force.policy.operators
        return force.city.operators if kind == "deficit" else self.timeline.operators

    def _spots(self, force: Force, kind: str, rule: Rule) -> list[Spot]:
        """Those that have an episode or a cooldown, in the order of their events."""
        policy = force.policy.policy_id
        spots = [s for s in self.episodes.keys() | self.cooldown.keys() if s[:3] == (policy, kind, rule.key)]
        return self._in_order(force, rule, spots)

    def _in_order(self, force: Force, rule: Rule, spots: Iterable[Spot]) -> list[Spot]:
        zones = [zone.id for zone in places.zones_of(rule, force.city)]
        return sorted(spots, key=lambda s: (zones.index(s.area) if zones else s.area, s.operator))

    def _end_by_policy(self, force: Force, rule: Rule, spot: Spot) -> None:
        self.cooldown.pop(spot, None)
        episode = self.episodes.pop(spot, None)
        if episode is not None and episode.sequence:
            self._say(force, rule, spot, episode, "cleared", "policy")

    # --- rules ---------------------------------------------------------------------------------------------------------

    def _table(self, force: Force) -> Table:
        """Where every bike counts."""
        policy = force.policy.policy_id
        if policy not in self.tables:
            found = {bike: placed(force, bike[0], row) for bike, row in self.roster.items() if row.stands}
            self.tables[policy] = {bike: place for bike, place in found.items() if place is not None}
        return self.tables[policy]

    def _counts(self, force: Force) -> Counter[tuple[tuple[str, str], str, str]]:
        return Counter((*place, bike[0]) for bike, place in self._table(force).items())

    def _fleet(self, operators: Iterable[str]) -> int:
        gone = (REMOVED, MISSING, ELSEWHERE)
        return sum(1 for bike, row in self.roster.items() if bike[0] in operators and row.state not in gone)

    def _judge(self, force: Force, kind: str, rule: Rule) -> None:
        if not _has_limit(rule, kind):
            return
        counts, policy = self._counts(force), force.policy.policy_id
        spots = {Spot(policy, kind, rule.key, area, operator) for key, area, operator in counts if key == rule.key}
        if kind == "deficit":
            zones = places.zones_of(rule, force.city)
            concerned = self._concerned(force, kind)
            spots = {Spot(policy, kind, rule.key, zone.id, operator) for zone in zones for operator in concerned}
        spots |= {spot for spot in self.episodes if spot[:3] == (policy, kind, rule.key)}
        for spot in self._in_order(force, rule, spots):
            if spot.operator not in self.allowed():
                self._end_by_policy(force, rule, spot)
            elif not self.voices[spot.operator].silent:
                self._judge_spot(force, rule, spot)
            elif spot in self.episodes and self.episodes[spot].sequence:
                self._tell_handling(force, rule, spot, self.episodes[spot])
        if rule.merge:
            self._tell_incidents(force, rule)

    def _numbers(self, force: Force, rule: Rule, spot: Spot) -> Numbers:
        counts = self._counts(force)
        here = {name: counts[rule.key, spot.area, name] for name in self.timeline.operators}
        own = here[spot.operator]
        if spot.kind == "deficit":
            least = rule.minimum or 0
            severity = "critical" if 2 * own <= least else "major" if 3 * own <= 2 * least else "minor"
            return Numbers(least, own, own < least, own >= least, max(0, least - own), severity)
        most = self._maximum(force, rule, spot)
        clear, target = max(1, math.ceil(most * rule.clear_ratio)), math.floor(most * rule.target_ratio)
        if not rule.all_operators:
            return Numbers(most, own, own > most, own < clear, max(0, own - target), bodies.severity(own, most))
        total = sum(here.values())
        excess = places.shares(max(0, total - target), here)[spot.operator]
        below = total < clear or own == 0
        return Numbers(most, own, total > most and excess > 0, below, excess, bodies.severity(total, most))

    def _maximum(self, force: Force, rule: Rule, spot: Spot) -> int:
        everybody = force.policy.operators or self.timeline.operators
        fleet = self._fleet(everybody if rule.all_operators else (spot.operator,))
        if rule.area == "cell":
            most = places.maximum(rule, bodies.area_e4(spot.area), 0, fleet)
        else:
            zone = self._zone(force, rule, spot.area)
            most = places.maximum(rule, places.size_e4(zone.polygons), zone.places, fleet)
        assert most is not None
        return most

    @staticmethod
    def _zone(force: Force, rule: Rule, area: str) -> places.Zone:
        return next(zone for zone in places.zones_of(rule, force.city) if zone.id == area)

    def _judge_spot(self, force: Force, rule: Rule, spot: Spot) -> None:
        found = self._numbers(force, rule, spot)
        spoken = self.voices[spot.operator].spoken
        episode = self.episodes.get(spot)
        if episode is not None and episode.sequence:
            return self._judge_open(force, rule, spot, episode, found, spoken)
        if not found.over:
            self.episodes.pop(spot, None)
            return None
        if episode is None:
            if self.k < self.cooldown.get(spot, self.k):
                return None
            episode = self.episodes[spot] = Episode(spoken)
        if spoken - episode.pending_since >= rule.for_ms:
            episode.opened = self.k
            self._say(force, rule, spot, episode, "raised", None)
        return None

    def _judge_open(self, force: Force, rule: Rule, spot: Spot, episode: Episode, found: Numbers, spoken: int) -> None:
        if found.below:
            episode.below = spoken if episode.below is None else episode.below
            if spoken - episode.below >= rule.keep_firing_for_ms:
                del self.episodes[spot]
                ticks = -(-rule.cooldown_ms // self.timeline.tick_ms)
                self.cooldown[spot] = self.k + ticks
                cause = max(CAUSES, key=lambda name: episode.departures[name])
                return self._say(force, rule, spot, episode, "cleared", "restocked" if spot.kind == "deficit" else cause)
        else:
            episode.below = None
        if self._tell_handling(force, rule, spot, episode):
            return None
        delta = abs(found.excess - episode.last_excess)
        due = (self.k - episode.last_tick) * self.timeline.tick_ms >= rule.update_interval_ms
        graver = episode.handling.severity(found.severity) != episode.severity
        if due and (graver or enough(delta, episode.last_excess) or lead_elsewhere(episode.told, episode.hauls)):
            self._say(force, rule, spot, episode, "updated", None)
        return None

    def _tell_handling(self, force: Force, rule: Rule, spot: Spot, episode: Episode) -> bool:
        """Whether there was something to tell of deadlines or of a response."""
        state = self._handled(force, rule, episode.handling, episode.opened)
        if state is not None:
            self._say(force, rule, spot, episode, state, None)
        return state is not None

    def _handled(self, force: Force, rule: Rule, handling: Handling, since: int) -> str | None:
        """As what deadlines and a response are to be told, if there is anything to tell of them."""
        answerable = self.timeline.responses and not rule.shadow
        deadlines = self._deadlines(force, rule, since)
        causes = handling.new_causes(deadlines, self.k * self.timeline.tick_ms, answerable=answerable)
        handling.escalations += tuple((cause, self.k) for cause in causes)
        return "escalated" if causes else "updated" if handling.news else None

    def _answer(self, answer: Answer) -> None:
        """A response of tick k, after all that happens at it."""
        for spot, episode in self.episodes.items():
            more = ("deficit",) if spot.kind == "deficit" else ()
            name = bodies.id_of(self.name, spot.rule, spot.area, spot.operator, episode.opened, *more)
            rule = next(rule for rule in self.force[spot.policy].rules if rule.key == spot.rule)
            told = episode.sequence and not rule.shadow and not rule.merge
            if told and name == answer.episode_id and spot.operator == answer.operator:
                episode.handling.take(answer, self.k)
                return
        if not self._answer_incident(answer):
            self.unheeded += 1

    # --- cells that are told of as one (tests/oracle/incidents.py) -----------------------------------------------------

    def _hush(self, spot: Spot, episode: Episode, state: str) -> None:
        """What would be told of a cell."""

    def _tell_incidents(self, force: Force, rule: Rule) -> None:
        """After the cells of a rule were judged."""

    def _end_incidents(self, force: Force, rule: Rule, operators: set[str]) -> None:
        """After the episodes of these operators were ended by policy."""

    def _answer_incident(self, answer: Answer) -> bool:
        """Whether a response has joined one."""
        return False

    # --- events --------------------------------------------------------------------------------------------------------

    def _say(self, force: Force, rule: Rule, spot: Spot, episode: Episode, state: str, cleared_by: str | None) -> None:
        found = self._numbers(force, rule, spot)
        excess = 0 if state == "cleared" else found.excess
        bikes = [] if spot.kind == "deficit" else bodies.listed(rule, excess, self._standing(force, spot))
        if state != "cleared":
            episode.severity = episode.handling.severity(found.severity)
            episode.last_tick, episode.last_excess, episode.told = self.k, excess, episode.hauls
        episode.sequence += 1
        episode.handling.news = False
        if rule.merge:
            return self._hush(spot, episode, state)
        if rule.area == "cell":
            area = bodies.cell_part(rule, spot.area, bikes)
        else:
            area = bodies.zone_part(self._zone(force, rule, spot.area), bikes)
        respond_by, resolve_by = self._deadlines(force, rule, episode.opened)
        body = {
            "severity": episode.severity,
            "kind": spot.kind,
            "rule": bodies.rule_part(rule, found.limit, force.city.time_zone),
            "area": area,
            "count": found.bikes,
            "excess": 0 if spot.kind == "deficit" else excess,
            "bikes": [bodies.bike_part(bike) for bike in bikes],
            "moves": bodies.moves_part([] if state == "cleared" else episode.hauls),
            "respond_by": bodies.rfc_3339(respond_by),
            "resolve_by": bodies.rfc_3339(resolve_by),
            "links": bodies.links_part(area["centroid"]),
        }
        body |= episode.handling.part(self.timeline.tick_ms)
        if spot.kind == "deficit":
            body["missing"] = excess
        if rule.shadow:
            body["mode"] = "shadow"
        here = [n for (key, where, _), n in self._counts(force).items() if (key, where) == (rule.key, spot.area)]
        known = rule.all_operators and len(here) >= 3
        self._emit(spot, episode.opened, episode.sequence, state, cleared_by, body, sum(here), known=known, shadow=rule.shadow)
        return None

    def _deadlines(self, force: Force, rule: Rule, since: int) -> tuple[int, int]:
        start = since * self.timeline.tick_ms
        opened = start + self.timeline.tick_ms
        respond, resolve = opened + rule.respond_within_ms, opened + rule.resolve_within_ms
        window = places.window_of(rule, force.city.offsets, start) if rule.window else None
        if window is not None and start < window[0]:
            resolve = min(resolve, window[0])
            respond = min(respond, resolve)
        return respond, resolve

    def _standing(self, force: Force, spot: Spot) -> list[bodies.Standing]:
        standing = []
        for bike, place in self._table(force).items():
            if place == (spot.rule, spot.area) and bike[0] == spot.operator:
                row = self.roster[bike]
                standing.append(bodies.Standing(bike[1], row.at, row.since, row.version[0], row.state, row.vehicle))
        return standing

    def _emit(
        self,
        spot: Spot,
        opened: int,
        sequence: int,
        state: str,
        cleared_by: str | None,
        body: dict[str, Any],
        everyone: int | None,
        *,
        known: bool = False,
        shadow: bool = False,
        more: tuple[str, ...] = (),
    ) -> None:
        """known: the operator may know `everyone`."""
        more = ("deficit",) if spot.kind == "deficit" else more
        episode_id = bodies.id_of(self.name, spot.rule, spot.area, spot.operator, opened, *more)
        body |= {
            "schema": "urban-brain/alert/1",
            "event_id": f"{episode_id}/{sequence}",
            "episode_id": episode_id,
            "sequence": sequence,
            "state": state,
            "city": self.name,
            "operator": spot.operator,
            "opened_at": bodies.rfc_3339((opened + 1) * self.timeline.tick_ms),
            "observed_at": bodies.rfc_3339((self.k + 1) * self.timeline.tick_ms),
            "cleared_by": cleared_by,
        }
        whole = bodies.dumps(body | {"count_all_operators": everyone})
        copy = (whole if known else bodies.dumps(body)) if spot.operator and not shadow else None
        event = bodies.TrueEvent(
            kind=spot.kind,
            operator=spot.operator,
            tick=self.k,
            state=state,
            event_id=body["event_id"],
            sequence=sequence,
            area=spot.area,
            rule=spot.rule,
            body=whole,
            operator_body=copy,
            cleared_by=cleared_by,
            shadow=shadow,
        )
        self.said.append(event)


def placed(force: Force, operator: str, bike: Row | Fact) -> tuple[tuple[str, str], str] | None:
    """(rule, area) where a standing bike counts."""
    place = places.place_of(force, operator, bike.at, bike.state, bike.vehicle)
    return None if place is None else (place[0].key, place[1])


def enough(delta: int, told: int) -> bool:
    return delta > 0 and (delta >= 3 or 5 * delta >= told)


def lead_elsewhere(told: list[Haul], now: list[Haul]) -> bool:
    """Whether moves have changed enough to tell."""
    before, after = ({haul.to: haul.bikes for haul in hauls} for hauls in (told, now))
    if any(to != 0 and to not in after for to in before):
        return True
    deltas = [after.get(to, 0) - before.get(to, 0) for to in before | after]
    return enough(max(sum(d for d in deltas if d > 0), -sum(d for d in deltas if d < 0)), sum(before.values()))


def _has_limit(rule: Rule, kind: str) -> bool:
    if kind == "deficit":
        return bool(rule.minimum)
    return places.maximum(rule, 0, 0, 0) is not None
