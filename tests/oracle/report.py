"""The city's three rates: docs/reports.md. Computed from the events that are told, and what is open in the city's truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson

from geo.params import City
from tests.oracle.bodies import TrueEvent, dumps, rfc_3339
from tests.oracle.city import CityTruth
from tests.oracle.incidents import Incident
from tests.oracle.places import DAY, first_moment
from tests.oracle.rules import Episode, Spot

COUNTS = ("opened", "withdrawn", "responded", "responded_in_time", "resolved", "resolved_in_time", "lapsed", "open")


@dataclass(frozen=True)
class TrueReport:
    key: str
    at_ms: int
    body: bytes


@dataclass
class Case:
    """One episode: who and where, when (ms), and what became of it. cleared_by None: it is open.

    since: the tick from which its deadlines, and how long it took, are counted.
    """

    spot: Spot
    day: int
    opened: int
    since: int
    episode: Episode | Incident
    cleared: int = 0
    cleared_by: str | None = None
    deadlines: tuple[int, int] = (0, 0)  # by which to respond, and to resolve


@dataclass
class ReportTruth:
    """To be asked after every tick of its city. last: by key, the record told last."""

    city: CityTruth
    told: list[TrueReport] = field(default_factory=list)
    last: dict[str, TrueReport] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    zones: dict[int, str] = field(default_factory=dict)  # by day, that by which it began
    day: int | None = None

    def tick(self, k: int, events: Sequence[TrueEvent]) -> None:
        end = (k + 1) * self.city.timeline.tick_ms
        zone, before = self._zone(k), self.day
        self.day = max([date_of(end, zone), *([] if before is None else [before])])
        self.zones.setdefault(self.day, zone.time_zone)
        for event in events:
            self._note(k, event)
        if before is not None and self.day > before:
            self._tell(before, end)

    def _zone(self, k: int) -> City:
        known = [
            city for e in self.city.timeline.epochs if e.from_tick <= k for city in e.cities if city.name == self.city.name
        ]
        return known[-1]

    def _note(self, k: int, event: TrueEvent) -> None:
        if event.kind not in ("overcrowded", "deficit") or event.shadow:
            return
        assert self.day is not None
        body = orjson.loads(event.body)
        opened = at(body["opened_at"])
        if event.state == "raised":
            (spot,) = (s for s in self.city.episodes if is_of(s, event))
            episode: Episode | Incident = self.city.episodes[spot]
            since = k
            for (_, key, operator), incidents in self.city.incidents.items():
                for one in incidents:
                    if (key, operator, one.founder, one.opened) == (event.rule, event.operator, event.area, k):
                        episode, since = one, one.since
            self.cases.append(Case(spot, self.day, opened, since, episode))
        elif event.state == "cleared":
            (case,) = (c for c in self.cases if c.cleared_by is None and c.opened == opened and is_of(c.spot, event))
            case.cleared, case.cleared_by = at(body["observed_at"]), event.cleared_by
            case.deadlines = at(body["respond_by"]), at(body["resolve_by"])

    def _tell(self, over: int, end: int) -> None:
        assert self.city.epoch is not None and self.day is not None
        allowed = self.city.epoch.operators if self.city.city() else ()
        pairs = {(case.day, case.spot.operator) for case in self.cases if case.day < self.day}
        for day, operator in sorted(pairs | {(over, operator) for operator in allowed}):
            key = f"{self.city.name}/{operator}/{written(day)}"
            said = self._says(day, operator)
            if key in self.last and said == {**orjson.loads(self.last[key].body), "observed_at": None}:
                continue
            self.last[key] = TrueReport(key, end, dumps(said | {"observed_at": rfc_3339(end)}))
            self.told.append(self.last[key])

    def _says(self, day: int, operator: str) -> dict[str, Any]:
        cases = [case for case in self.cases if (case.day, case.spot.operator) == (day, operator)]
        rules = sorted({case.spot.rule for case in cases})
        by_rule = [self._figures([case for case in cases if case.spot.rule == rule]) for rule in rules]
        return {
            "schema": "urban-brain/report/1",
            "city": self.city.name,
            "operator": operator,
            "date": written(day),
            "time_zone": self.zones[day],
            "rules": [{"policy_id": p, "rule_id": r} | row for (p, r), row in zip(rules, by_rule, strict=True)],
            "total": self._figures(cases),
            "complete": all(case.cleared_by for case in cases),
            "observed_at": None,
        }

    def _figures(self, cases: Sequence[Case]) -> dict[str, Any]:
        counts = dict.fromkeys(COUNTS, 0)
        answers, ends = [], []
        for case in cases:
            counts["opened"] += 1
            if case.cleared_by in ("policy", "merged"):
                counts["withdrawn"] += 1
                continue
            respond_by, resolve_by = case.deadlines if case.cleared_by else self._deadlines_now(case)
            if case.episode.handling.answered is not None:
                response = (case.episode.handling.answered + 1) * self.city.timeline.tick_ms
                answers.append(response - self._since(case))
                counts["responded"] += 1
                counts["responded_in_time"] += response <= respond_by
            if case.cleared_by is None:
                counts["open"] += 1
            elif case.cleared_by in ("status_only", "expired"):
                counts["lapsed"] += 1
            else:
                ends.append(case.cleared - self._since(case))
                counts["resolved"] += 1
                counts["resolved_in_time"] += case.cleared <= resolve_by
        due = counts["opened"] - counts["withdrawn"]
        shares = {"response_rate": "responded", "resolution_rate": "resolved", "on_time_rate": "resolved_in_time"}
        return {
            **counts,
            "median_response_s": median(answers),
            "median_resolution_s": median(ends),
            **{rate: None if due == 0 else 10_000 * counts[name] // due / 10_000 for rate, name in shares.items()},
        }

    def _deadlines_now(self, case: Case) -> tuple[int, int]:
        force = self.city.force[case.spot.policy]
        (rule,) = (rule for rule in force.rules if rule.key == case.spot.rule)
        return self.city._deadlines(force, rule, case.since)

    def _since(self, case: Case) -> int:
        return (case.since + 1) * self.city.timeline.tick_ms

    def open(self) -> Iterator[TrueReport]:
        """The records told last of days of which something was open then."""
        return (told for told in self.last.values() if not orjson.loads(told.body)["complete"])


def is_of(spot: Spot, event: TrueEvent) -> bool:
    return (spot.kind, spot.rule, spot.area, spot.operator) == (event.kind, event.rule, event.area, event.operator)


def at(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def date_of(moment: int, zone: City) -> int:
    """The last date that has begun."""
    return max(day for day in range(moment // DAY - 3, moment // DAY + 4) if first_moment(day * DAY, zone.offsets) <= moment)


def written(day: int) -> str:
    return str(date(1970, 1, 1) + timedelta(days=day))


def median(times: list[int]) -> int | None:
    if not times:
        return None
    times = sorted(times)
    middle = len(times) // 2
    return (times[middle] + times[middle if len(times) % 2 else middle - 1]) // 2000
