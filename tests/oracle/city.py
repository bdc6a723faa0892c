"""One city, every tick: sections 5, 6 and 8 of docs/semantics.md, and docs/policies.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geo.params import City, Epoch, Timeline
from tests.oracle import bodies, decrees, silence
from tests.oracle.bike import ELSEWHERE, ON_TRIP, Fact
from tests.oracle.degraded import DegradedTruth
from tests.oracle.plane import Point, near
from tests.oracle.rebalancing import planning_of
from tests.oracle.responses import Answer
from tests.oracle.rules import KINDS, Bike, Row, Spot, placed
from tests.oracle.stage import Said


@dataclass
class FeedEpisode:
    opened: int
    threshold: int


class CityTruth(DegradedTruth):
    """`tick` is to be called for every tick from the smallest non-empty one of any source on, without a hole."""

    def __init__(self, name: str, timeline: Timeline) -> None:
        super().__init__(name, timeline)
        self.feeds: dict[str, FeedEpisode] = {}  # by operator, "" is the city
        self.decrees: list[decrees.Said] = []  # accepted documents
        self.refusals: dict[str, list[int]] = {}  # by policy id: tick at which the episode opened, events so far

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
        for key, version, fact in self._end_losses(self.city()):
            self._act(key, version, fact)
        if turned:
            assert before is not None
            self._drop_operators()
        self._change_force(decrees.in_force(self.city(), self.decrees, k * self.timeline.tick_ms))
        self._carry_out(planning_of(self.city()))
        for force in self.force.values():
            for kind in KINDS:
                for rule in force.rules:
                    self._judge(force, kind, rule)
        self._make_plan(planning_of(self.city()))
        return self.said

    def told(self, k: int, documents: Sequence[decrees.Written | Answer]) -> list[bodies.TrueEvent]:
        """Takes in the documents of tick k, after it was worked, or before the city has begun."""
        self.k, self.said = k, []
        epoch = self.timeline.at(k)
        for written in documents:
            if isinstance(written, Answer):
                self._answer(written)
                continue
            problems = decrees.refused(written, epoch, self.city(epoch))
            if problems:
                self._refuse(written.policy_id, problems)
                continue
            self.decrees.append(decrees.said(written, k, self.timeline.tick_ms))
            if written.policy_id in self.refusals:
                self._say_refusal(written.policy_id, "cleared", "replaced" if written.policy else "withdrawn", ())
                del self.refusals[written.policy_id]
        return self.said

    def _refuse(self, policy_id: str, problems: Sequence[str]) -> None:
        state = "updated" if policy_id in self.refusals else "raised"
        self.refusals.setdefault(policy_id, [self.k, 0])
        self._say_refusal(policy_id, state, None, problems)

    def _say_refusal(self, policy_id: str, state: str, cleared_by: str | None, problems: Sequence[str]) -> None:
        episode = self.refusals[policy_id]
        episode[1] += 1
        spot = Spot("", "policy_refused", ("built-in", "policy_refused"), policy_id, "")
        body = dict(decrees.refusal_body(self.name, policy_id, problems))
        self._emit(spot, episode[0], episode[1], state, cleared_by, body, None)

    def city(self, epoch: Epoch | None = None) -> City | None:
        epoch = epoch or self.epoch
        assert epoch is not None
        return next((city for city in epoch.cities if city.name == self.name), None)

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
        acting = self._may_act(greatest)
        self._find_losses(acting, self.city())
        for key, (version, fact) in acting.items():
            if not self._is_held(key, version, fact):
                self._act(key, version, fact)

    def _act(self, key: tuple[str, str], version: tuple[int, int, int], fact: Fact) -> None:
        row = self.roster.get(key)
        end = (self.k + 1) * self.timeline.tick_ms
        h = self.voices[key[0]].spoken - (end - fact.version)
        if row is not None:
            h = max(h, row.h)
            if row.stands:
                self._depart(key, row, _cause(row.at, fact), fact if fact.stands else None)
        self.roster[key] = Row(fact.at, fact.stands, fact.state, fact.vehicle, fact.since, version, h)
        self.tables = {}

    def _depart(self, bike: Bike, old: Row, cause: str, new: Fact | None) -> None:
        """Remembers the cause in every open episode whose area the bike has left."""
        for force in self.force.values():
            was = placed(force, bike[0], old)
            now = placed(force, bike[0], new) if new else None
            if was is not None and was != now:
                self._note(force.policy.policy_id, was, bike[0], cause)

    def _expire(self) -> None:
        assert self.epoch is not None
        for key, row in list(self.roster.items()):
            voice = self.voices[key[0]]
            if not voice.silent and voice.spoken - row.h >= self.epoch.bike.ttl_ms:
                del self.roster[key]
                self.tables = {}
                if row.stands:
                    self._depart(key, row, "expired", None)

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

        for spot in [spot for spot in self.cooldown if spot.operator not in self.allowed()]:
            del self.cooldown[spot]

    def _say_feed(self, operator: str, episode: FeedEpisode, cleared_by: str | None) -> None:
        rule: dict[str, Any] = dict.fromkeys(("per_hectare", "window"))
        rule |= {"policy_id": "built-in", "rule_id": "feed_silent", "name": "Feed silent", "unit": "s"}
        rule["threshold"] = episode.threshold // 1000
        area: dict[str, Any] = dict.fromkeys(("h3", "resolution", "centroid", "boundary", "area_ha", "hot_spot"))
        area |= {"type": "city", "name": self.name}
        body: dict[str, Any] = dict.fromkeys(("count", "excess", "respond_by", "resolve_by", "links"))
        body |= {"kind": "feed_silent", "severity": "major", "rule": rule, "area": area, "bikes": [], "moves": []}
        state, sequence = ("cleared", 2) if cleared_by else ("raised", 1)
        spot = Spot("", "feed_silent", bodies.FEED_SILENT, "city", operator)
        self._emit(spot, episode.opened, sequence, state, cleared_by, body, None)


def _cause(old: Point, fact: Fact) -> str:
    """Why a bike is not where it stood."""
    if fact.stands:
        return "ridden" if fact.rode else "moved" if fact.at != old else "status_only"
    if fact.state == ON_TRIP:
        return "ridden"
    if fact.state == ELSEWHERE:
        return "ridden" if fact.rode else "moved"
    if fact.rode:
        return "ridden"
    return "status_only" if near(old, fact.at, 100_000) else "moved"
