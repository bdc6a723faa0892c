"""One city, every tick: sections 5, 6 and 8 of docs/semantics.md."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from geo.params import City, Epoch, Rule, Timeline
from tests.oracle import bodies, silence
from tests.oracle.bike import ELSEWHERE, ON_TRIP, Fact
from tests.oracle.plane import Point, near
from tests.oracle.stage import Said

CAUSES = ("moved", "ridden", "status_only", "expired")  # of equals the first
Spot = tuple[tuple[str, str], str, str]
"""(rule key, cell, operator)."""


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


@dataclass
class Episode:
    """Pending while `sequence` is 0, else open."""

    resolution: int
    pending_since: int
    below: int | None = None
    opened: int = 0
    sequence: int = 0
    last_tick: int = 0
    last_excess: int = 0
    severity: str = ""
    departures: Counter[str] = field(default_factory=Counter)


@dataclass
class FeedEpisode:
    opened: int
    threshold: int


class CityTruth:
    """`tick` is to be called for every tick from the smallest non-empty one of any source on, without a hole."""

    def __init__(self, name: str, timeline: Timeline) -> None:
        self.name, self.timeline = name, timeline
        self.roster: dict[tuple[str, str], Row] = {}
        self.voices: dict[str, silence.Voice] = {}
        self.feeds: dict[str, FeedEpisode] = {}  # by operator, "" is the city
        self.episodes: dict[Spot, Episode] = {}
        self.cooldown: dict[Spot, int] = {}
        self.epoch: Epoch | None = None
        self.k = -1
        self.said: list[bodies.TrueEvent] = []
        self.tables: dict[int, Counter[tuple[str, str]]] = {}  # resolution -> (cell, operator) -> bikes; {}: to be counted

    # --- a tick --------------------------------------------------------------------------------------------------------

    def tick(self, k: int, sections: Sequence[tuple[int, Said]]) -> list[bodies.TrueEvent]:
        """Works tick k; sections as (source index, what it says), and gives the tick's events in their order."""
        before, self.epoch, self.k, self.said = self.epoch, self.timeline.at(k), k, []
        turned = before is not None and before is not self.epoch
        self._watch(before)
        heard: Counter[str] = Counter()
        for _, said in sections:
            heard.update(said.heard)
        change = silence.work(self.voices, self.watched(), heard, dict(self.epoch.silent_after_ms), k, self.timeline.tick_ms)
        self._facts(sections)
        self._expire()
        self._feeds(change)
        if turned:
            assert before is not None
            self._drop_operators()
            self._drop_rules(before)
        for rule in self.rules():
            self._judge(rule)
        return self.said

    def city(self, epoch: Epoch | None = None) -> City | None:
        epoch = epoch or self.epoch
        assert epoch is not None
        return next((city for city in epoch.cities if city.name == self.name), None)

    def rules(self, epoch: Epoch | None = None) -> tuple[Rule, ...]:
        city = self.city(epoch)
        return city.rules if city else ()

    def allowed(self) -> tuple[str, ...]:
        assert self.epoch is not None
        return self.epoch.operators

    def watched(self, epoch: Epoch | None = None) -> set[str]:
        """Operators that can be silent here."""
        epoch = epoch or self.epoch
        assert epoch is not None
        city = self.city(epoch)
        return set(city.operators) & set(epoch.operators) if city else set()

    # --- facts, expiry -------------------------------------------------------------------------------------------------

    def _facts(self, sections: Sequence[tuple[int, Said]]) -> None:
        greatest: dict[tuple[str, str], tuple[tuple[int, int, int], Fact]] = {}
        for source, said in sections:
            for fact in said.facts:
                key, version = (fact.operator, fact.bike), (fact.version, source, self.k)
                if key not in greatest or version > greatest[key][0]:
                    greatest[key] = (version, fact)
        for key, (version, fact) in greatest.items():
            row = self.roster.get(key)
            if row is None or version > row.version:
                self._act(key, version, fact)

    def _act(self, key: tuple[str, str], version: tuple[int, int, int], fact: Fact) -> None:
        row = self.roster.get(key)
        end = (self.k + 1) * self.timeline.tick_ms
        h = self.voices[key[0]].spoken - (end - fact.version)
        if row is not None:
            h = max(h, row.h)
            if row.stands:
                self._depart(key[0], row.at, _cause(row.at, fact), fact.at if fact.stands else None)
        self.roster[key] = Row(fact.at, fact.stands, fact.state, fact.vehicle, fact.since, version, h)
        self.tables = {}

    def _depart(self, operator: str, old: Point, cause: str, new: Point | None) -> None:
        """Remembers the cause in every open episode whose cell the bike has left."""
        for (_, cell, owner), episode in self.episodes.items():
            if owner != operator or not episode.sequence or bodies.cell_of(old, episode.resolution) != cell:
                continue
            if new is None or bodies.cell_of(new, episode.resolution) != cell:
                episode.departures[cause] += 1

    def _expire(self) -> None:
        assert self.epoch is not None
        for key, row in list(self.roster.items()):
            voice = self.voices[key[0]]
            if not voice.silent and voice.spoken - row.h >= self.epoch.bike.ttl_ms:
                del self.roster[key]
                self.tables = {}
                if row.stands:
                    self._depart(key[0], row.at, "expired", None)

    # --- silence -------------------------------------------------------------------------------------------------------

    def _watch(self, before: Epoch | None) -> None:
        """Who is watched from this tick on begins as at a city's first tick; who is not any more is not silent."""
        if not self.voices:
            self.voices = {operator: silence.Voice(self.k) for operator in self.timeline.operators}
        if before is None:
            return
        for operator in self.watched() ^ self.watched(before):
            self.voices[operator] = silence.Voice(self.k, spoken=self.voices[operator].spoken)

    def _threshold(self, operator: str) -> int:
        assert self.epoch is not None
        override = dict(self.epoch.silent_after_ms).get(operator)
        return silence.threshold(self.voices[operator], override, self.timeline.tick_ms)

    def _feeds(self, change: silence.Change) -> None:
        watched = self.watched()
        silent = {operator for operator in watched if self.voices[operator].silent}
        cleared: dict[str, str] = {}
        for operator in [name for name in self.feeds if name]:
            if operator not in watched:
                cleared[operator] = "policy"
            elif operator in change.returned:
                cleared[operator] = "returned"
        opening = set(change.silenced)
        if "" in self.feeds:
            if change.returned:
                cleared[""] = "returned"
                opening |= {operator for operator in silent if operator not in self.feeds}
            elif not silent:
                cleared[""] = "policy"
        elif len(watched) >= 2 and silent == watched == opening:
            opening = {""}
        for operator in sorted(cleared.keys() | opening):
            if operator in cleared:
                self._say_feed(operator, self.feeds.pop(operator), cleared[operator])
            if operator in opening:
                members = sorted(watched) if operator == "" else [operator]
                self.feeds[operator] = FeedEpisode(self.k, max(self._threshold(member) for member in members))
                self._say_feed(operator, self.feeds[operator], None)

    # --- epochs --------------------------------------------------------------------------------------------------------

    def _drop_operators(self) -> None:
        for key in [key for key in self.roster if key[0] not in self.allowed()]:
            del self.roster[key]
            self.tables = {}

    def _drop_rules(self, before: Epoch) -> None:
        """Episodes of rules that are gone or have another resolution now, in the old order and with the old texts."""
        now = {rule.key: rule.resolution for rule in self.rules()}
        for rule in self.rules(before):
            if now.get(rule.key) != rule.resolution:
                for spot in self._spots(rule):
                    self._end_by_policy(rule, spot)
        for spot in [spot for spot in self.cooldown if spot[2] not in self.allowed()]:
            del self.cooldown[spot]

    def _spots(self, rule: Rule) -> list[Spot]:
        spots = self.episodes.keys() | self.cooldown.keys()
        return sorted(spot for spot in spots if spot[0] == rule.key)

    def _end_by_policy(self, rule: Rule, spot: Spot) -> None:
        self.cooldown.pop(spot, None)
        episode = self.episodes.pop(spot, None)
        if episode is not None and episode.sequence:
            self._say(rule, spot, episode, "cleared", "policy")

    # --- rules ---------------------------------------------------------------------------------------------------------

    def _table(self, resolution: int) -> Counter[tuple[str, str]]:
        if resolution not in self.tables:
            cells = ((bodies.cell_of(row.at, resolution), operator) for (operator, _), row in self.roster.items() if row.stands)
            self.tables[resolution] = Counter(cells)
        return self.tables[resolution]

    def _judge(self, rule: Rule) -> None:
        table = self._table(rule.resolution)
        spots = {(rule.key, cell, operator) for cell, operator in table}
        spots |= {spot for spot in self.episodes if spot[0] == rule.key}
        for spot in sorted(spots):
            if spot[2] not in self.allowed():
                self._end_by_policy(rule, spot)
            elif not self.voices[spot[2]].silent:
                self._judge_spot(rule, spot, table[spot[1:]])

    def _judge_spot(self, rule: Rule, spot: Spot, count: int) -> None:
        most = bodies.maximum(rule, spot[1])
        spoken = self.voices[spot[2]].spoken
        episode = self.episodes.get(spot)
        if episode is not None and episode.sequence:
            return self._judge_open(rule, spot, episode, count, spoken)
        if count <= most:
            self.episodes.pop(spot, None)
            return None
        if episode is None:
            if self.k < self.cooldown.get(spot, self.k):
                return None
            episode = self.episodes[spot] = Episode(rule.resolution, spoken)
        if spoken - episode.pending_since >= rule.for_ms:
            episode.opened = self.k
            self._say(rule, spot, episode, "raised", None)
        return None

    def _judge_open(self, rule: Rule, spot: Spot, episode: Episode, count: int, spoken: int) -> None:
        most = bodies.maximum(rule, spot[1])
        if count < max(1, math.ceil(most * rule.clear_ratio)):
            episode.below = spoken if episode.below is None else episode.below
            if spoken - episode.below >= rule.keep_firing_for_ms:
                del self.episodes[spot]
                ticks = -(-rule.cooldown_ms // self.timeline.tick_ms)
                self.cooldown[spot] = self.k + ticks
                cause = max(CAUSES, key=lambda name: episode.departures[name])
                return self._say(rule, spot, episode, "cleared", cause)
        else:
            episode.below = None
        excess = max(0, count - math.floor(most * rule.target_ratio))
        delta = abs(excess - episode.last_excess)
        due = (self.k - episode.last_tick) * self.timeline.tick_ms >= rule.update_interval_ms
        if due and delta > 0 and (delta >= 3 or 5 * delta >= episode.last_excess):
            self._say(rule, spot, episode, "updated", None)
        return None

    # --- events --------------------------------------------------------------------------------------------------------

    def _say(self, rule: Rule, spot: Spot, episode: Episode, state: str, cleared_by: str | None) -> None:
        key, cell, operator = spot
        table = self._table(rule.resolution)
        count, most = table[cell, operator], bodies.maximum(rule, cell)
        excess = 0 if state == "cleared" else max(0, count - math.floor(most * rule.target_ratio))
        bikes = bodies.listed(rule, excess, self._standing(rule, cell, operator))
        if state != "cleared":
            episode.severity = bodies.severity(count, most)
            episode.last_tick, episode.last_excess = self.k, excess
        episode.sequence += 1
        opened_at = (episode.opened + 1) * self.timeline.tick_ms
        body = {
            "severity": episode.severity,
            "kind": "overcrowded",
            "rule": bodies.rule_part(rule, cell),
            "area": bodies.area_part(rule, cell, bikes),
            "count": count,
            "excess": excess,
            "bikes": [bodies.bike_part(bike) for bike in bikes],
            "respond_by": bodies.rfc_3339(opened_at + rule.respond_within_ms),
            "resolve_by": bodies.rfc_3339(opened_at + rule.resolve_within_ms),
            "links": bodies.links_part(cell),
        }
        everyone = sum(n for (where, _), n in table.items() if where == cell)
        self._emit(key, cell, operator, episode.opened, episode.sequence, state, cleared_by, body, everyone)

    def _standing(self, rule: Rule, cell: str, operator: str) -> list[bodies.Standing]:
        return [
            bodies.Standing(bike, row.at, row.since, row.version[0], row.state, row.vehicle)
            for (owner, bike), row in self.roster.items()
            if owner == operator and row.stands and bodies.cell_of(row.at, rule.resolution) == cell
        ]

    def _say_feed(self, operator: str, episode: FeedEpisode, cleared_by: str | None) -> None:
        rule: dict[str, Any] = dict.fromkeys(("per_hectare", "window"))
        rule |= {"policy_id": "built-in", "rule_id": "feed_silent", "name": "Feed silent", "unit": "s"}
        rule["threshold"] = episode.threshold // 1000
        area: dict[str, Any] = dict.fromkeys(("h3", "resolution", "centroid", "boundary", "area_ha", "hot_spot"))
        area |= {"type": "city", "name": self.name}
        body: dict[str, Any] = dict.fromkeys(("count", "excess", "respond_by", "resolve_by", "links"))
        body |= {"kind": "feed_silent", "severity": "major", "rule": rule, "area": area, "bikes": []}
        state, sequence = ("cleared", 2) if cleared_by else ("raised", 1)
        self._emit(bodies.FEED_SILENT, "city", operator, episode.opened, sequence, state, cleared_by, body, None)

    def _emit(
        self,
        rule: tuple[str, str],
        area: str,
        operator: str,
        opened: int,
        sequence: int,
        state: str,
        cleared_by: str | None,
        body: dict[str, Any],
        everyone: int | None,
    ) -> None:
        episode_id = bodies.id_of(self.name, rule, area, operator, opened)
        body |= {
            "schema": "urban-brain/alert/1",
            "event_id": f"{episode_id}/{sequence}",
            "episode_id": episode_id,
            "sequence": sequence,
            "state": state,
            "city": self.name,
            "operator": operator,
            "moves": [],
            "opened_at": bodies.rfc_3339((opened + 1) * self.timeline.tick_ms),
            "observed_at": bodies.rfc_3339((self.k + 1) * self.timeline.tick_ms),
            "cleared_by": cleared_by,
        }
        copy = bodies.dumps(body) if operator else None
        whole = bodies.dumps(body | {"count_all_operators": everyone})
        event = bodies.TrueEvent(operator, self.k, state, body["event_id"], sequence, area, rule, whole, copy, cleared_by)
        self.said.append(event)


def _cause(old: Point, fact: Fact) -> str:
    """Why a bike is not where it stood."""
    if fact.stands:
        return "ridden" if fact.rode else "moved"
    if fact.state == ON_TRIP:
        return "ridden"
    if fact.state == ELSEWHERE:
        return "ridden" if fact.rode else "moved"
    if fact.rode:
        return "ridden"
    return "status_only" if near(old, fact.at, 100_000) else "moved"
