"""The city's three rates: per operator, day and rule, how many episodes were answered, resolved, and on time. docs/reports.md.

Only what has ended is noted here; what is open is looked up in the watches when a record is written. So a response, and whatever else
becomes of an open episode, needs no word to this file. Once a day is told and none of its episodes is open, it is forgotten.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, NamedTuple, Self

import orjson
from numpy.typing import NDArray

from geo.alert import BY_POLICY, CLEARED, MERGED, encode, end_of, rfc3339
from geo.episodes import NEVER, Episode
from geo.ground import CAUSES, EXPIRED, STATUS_ONLY
from geo.params import City, Timeline
from geo.policy import Rule
from geo.verdicts import Verdict
from geo.watch import Watch
from geo.windows import DAY_MS, Offsets, date_at, first_showing

SCHEMA = "urban-brain/report/1"

WITHDRAWALS = (BY_POLICY, MERGED)
"""Cleared by one of these, an episode is nobody's doing: what was in force changed, or another one goes on in its place."""

LAPSES = (CAUSES[STATUS_ONLY], CAUSES[EXPIRED])
"""Cleared by one of these, an episode is over, but nobody has resolved it."""

RATES = {"response_rate": "responded", "resolution_rate": "resolved", "on_time_rate": "resolved_in_time"}
RATE_UNITS = 10_000
"""Rates have four decimals, and are rounded down: only all is 1."""

RuleKey = tuple[str, str]
Packed = dict[str, NDArray[Any] | bytes]

_1970 = date(1970, 1, 1)


class Reported(NamedTuple):
    """One record. date: days since 1970-01-01; at_ms: its stream time."""

    city: str
    operator: str
    date: int
    at_ms: int
    body: bytes

    @property
    def key(self) -> bytes:
        """Of the record in the compacted topic."""
        return f"{self.city}/{self.operator}/{date_text(self.date)}".encode()


def date_text(days: int) -> str:
    """YYYY-MM-DD of days since 1970-01-01."""
    return (_1970 + timedelta(days=days)).isoformat()


def days_of(text: str) -> int | None:
    """Days since 1970-01-01 of YYYY-MM-DD; None: it is no date."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return (found - _1970).days if found.isoformat() == text else None


@dataclass(slots=True)
class Tally:
    """Counts of episodes, as docs/reports.md names them, and how long each took (ms)."""

    opened: int = 0
    withdrawn: int = 0
    responded: int = 0
    responded_in_time: int = 0
    resolved: int = 0
    resolved_in_time: int = 0
    lapsed: int = 0
    open: int = 0
    responses: list[int] = field(default_factory=list)
    resolutions: list[int] = field(default_factory=list)

    def add(self, other: Tally) -> Self:
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.responses += other.responses
        self.resolutions += other.resolutions
        return self

    @property
    def rates(self) -> dict[str, float | None]:
        due = self.opened - self.withdrawn
        return {rate: RATE_UNITS * getattr(self, count) // due / RATE_UNITS if due else None for rate, count in RATES.items()}

    @property
    def medians(self) -> dict[str, int | None]:
        """In seconds."""
        return {"median_response_s": _median_s(self.responses), "median_resolution_s": _median_s(self.resolutions)}

    @property
    def counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in _COUNTS}

    def fields(self) -> dict[str, Any]:
        """As a record has them."""
        return self.counts | self.medians | self.rates


_COUNTS = ("opened", "withdrawn", "responded", "responded_in_time", "resolved", "resolved_in_time", "lapsed", "open")

ByRule = dict[RuleKey, Tally]


def _median_s(times_ms: Sequence[int]) -> int | None:
    if not times_ms:
        return None
    ordered = sorted(times_ms)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) // 2000


class Day(NamedTuple):
    """A date, the first tick of it, and the name of the zone by which it began."""

    first: int
    date: int
    time_zone: str


class Told(NamedTuple):
    """A record that may have to be told again: its tick and its body."""

    tick: int
    body: bytes


class Reports:
    """The days of one city of which something is still to be told.

    days     ascending, the last one is that of now; empty before the first tick
    ended    of (date, operator): what has ended, by rule
    told     of (date, operator): the record told last, if it was not complete
    """

    def __init__(self, city: str, timeline: Timeline) -> None:
        self._city, self._timeline = city, timeline
        self._tick_ms = timeline.tick_ms
        self.days: list[Day] = []
        self.ended: dict[tuple[int, str], ByRule] = {}
        self.told: dict[tuple[int, str], Told] = {}
        self._waiting: list[Reported] = []

    # -- time -------------------------------------------------------------------------------------------------------------

    def deadline(self, now: int) -> int | None:
        """The first tick that is of a later day than `now`, by the zone in force."""
        if not self.days:
            return None
        midnight = first_showing((self.days[-1].date + 1) * DAY_MS, self._zone(now).offsets)
        return -(-midnight // self._tick_ms) - 1

    def look(self, tick: int, allowed: Sequence[str], watches: Sequence[Watch]) -> None:
        """A tick was worked: tell of the days that are over, if one ends in it.

        allowed: names of the operators that each get a record, whatever happened.
        """
        zone = self._zone(tick)
        today = date_at(end_of(tick, self._tick_ms), zone.offsets)
        if self.days and today <= self.days[-1].date:
            return
        over = self.days[-1].date if self.days else None
        self.days.append(Day(tick, today, zone.time_zone))
        if over is not None:
            self._tell(tick, over, allowed, watches)

    def _zone(self, tick: int) -> City:
        """The city as the epoch of a tick knows it, or the last one before that knew it."""
        epochs = self._timeline.epochs[: self._timeline.index_at(tick) + 1]
        return next(city for epoch in reversed(epochs) for city in epoch.cities if city.name == self._city)

    def _date_of(self, tick: int) -> int:
        """Of a tick that is not before the first day that is remembered."""
        return self.days[max(0, bisect_right(self.days, tick, key=lambda day: day.first) - 1)].date

    # -- what happened ----------------------------------------------------------------------------------------------------

    def note(self, watch: Watch, verdicts: Sequence[Verdict], offsets: Offsets) -> None:
        """What a watch told at a tick; offsets: those of its rules."""
        for verdict in verdicts:
            rule = watch.rule_of(verdict.pair)
            if verdict.state != CLEARED or rule.shadow:
                continue
            operator = self._timeline.operators[int(watch.counts.operators[verdict.pair])]
            ended = self._ended(verdict.episode, rule, verdict.cleared_by or "", offsets)
            of_day = self.ended.setdefault((self._date_of(verdict.episode.opened), operator), {})
            of_day.setdefault(rule.key, Tally()).add(ended)

    def _ended(self, episode: Episode, rule: Rule, cleared_by: str, offsets: Offsets) -> Tally:
        if cleared_by in WITHDRAWALS:
            return Tally(opened=1, withdrawn=1)
        tally = self._answered(episode, rule, offsets)
        if cleared_by in LAPSES:
            tally.lapsed = 1
            return tally
        tally.resolved = 1
        tally.resolved_in_time = int(end_of(episode.last_event, self._tick_ms) <= self._deadlines(episode, rule, offsets)[1])
        tally.resolutions.append((episode.last_event - episode.since) * self._tick_ms)
        return tally

    def _answered(self, episode: Episode, rule: Rule, offsets: Offsets) -> Tally:
        """Whether it was answered, of one that was not withdrawn."""
        tally = Tally(opened=1)
        if episode.responded != NEVER:
            tally.responded = 1
            respond_by = self._deadlines(episode, rule, offsets)[0]
            tally.responded_in_time = int(end_of(episode.responded, self._tick_ms) <= respond_by)
            tally.responses.append((episode.responded - episode.since) * self._tick_ms)
        return tally

    def _deadlines(self, episode: Episode, rule: Rule, offsets: Offsets) -> tuple[int, int]:
        since_ms = end_of(episode.since, self._tick_ms)
        return rule.deadlines(since_ms, since_ms - self._tick_ms, offsets)

    # -- as records -------------------------------------------------------------------------------------------------------

    def of_today(self, watches: Sequence[Watch], now: int) -> dict[str, ByRule]:
        """By operator, the day that is not over yet, as it stands at the end of tick `now`."""
        if not self.days:
            return {}
        found, today = self._of_days(watches, now), self.days[-1].date
        return {operator: rules for (day, operator), rules in found.items() if day == today}

    def _of_days(self, watches: Sequence[Watch], tick: int) -> dict[tuple[int, str], ByRule]:
        """All days of which anything is known: what has ended, and what is open."""
        found = {key: {rule: Tally().add(one) for rule, one in rules.items()} for key, rules in self.ended.items()}
        for key, rule, tally in self._open(watches, self._zone(tick).offsets):
            found.setdefault(key, {}).setdefault(rule, Tally()).add(tally)
        return found

    def _open(self, watches: Sequence[Watch], offsets: Offsets) -> Iterator[tuple[tuple[int, str], RuleKey, Tally]]:
        for watch in watches:
            for pair, episode, _ in watch.told_of():
                rule = watch.rule_of(pair)
                if not rule.shadow:
                    tally = self._answered(episode, rule, offsets)
                    tally.open = 1
                    operator = self._timeline.operators[int(watch.counts.operators[pair])]
                    yield (self._date_of(episode.opened), operator), rule.key, tally

    def _tell(self, tick: int, over: int, allowed: Collection[str], watches: Sequence[Watch]) -> None:
        """Tell of the day that is over, and of those before what has changed; what is complete is forgotten."""
        found = self._of_days(watches, tick)
        today = self.days[-1].date
        keys = {key for key in found if key[0] < today} | {(over, operator) for operator in allowed}
        zones = {day.date: day.time_zone for day in self.days}
        for key in sorted(keys):
            rules, before = found.get(key, {}), self.told.pop(key, None)
            told_at = before.tick if before else tick
            if before is None or self._body(key, rules, zones[key[0]], told_at) != before.body:
                before = Told(tick, self._body(key, rules, zones[key[0]], tick))
                self._waiting.append(Reported(self._city, key[1], key[0], end_of(tick, self._tick_ms), before.body))
            if any(tally.open for tally in rules.values()):
                self.told[key] = before
        self.ended = {key: rules for key, rules in self.ended.items() if key in self.told or key[0] == today}
        self.days = [day for day in self.days if day.date == today or day.date in {date for date, _ in self.told}]

    def _body(self, key: tuple[int, str], rules: ByRule, time_zone: str, tick: int) -> bytes:
        total = Tally()
        for tally in rules.values():
            total.add(tally)
        return encode(
            {
                "schema": SCHEMA,
                "city": self._city,
                "operator": key[1],
                "date": date_text(key[0]),
                "time_zone": time_zone,
                "rules": [
                    {"policy_id": policy, "rule_id": rule, **rules[policy, rule].fields()} for policy, rule in sorted(rules)
                ],
                "total": total.fields(),
                "complete": not total.open,
                "observed_at": rfc3339(end_of(tick, self._tick_ms)),
            }
        )

    def take(self) -> list[Reported]:
        """What is to be told now, once each, in order."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def newest(self) -> Iterator[Reported]:
        """The records that may be told again, as they were told last."""
        for (day, operator), told in self.told.items():
            yield Reported(self._city, operator, day, end_of(told.tick, self._tick_ms), told.body)

    # -- written down -----------------------------------------------------------------------------------------------------

    def pack(self) -> Packed:
        """What is remembered. What waits to be handed out is none of it: it is handed out before a state is packed."""
        ended = [
            (*key, *rule, [getattr(tally, name) for name in _COUNTS], tally.responses, tally.resolutions)
            for key, rules in self.ended.items()
            for rule, tally in rules.items()
        ]
        told = [(*key, told.tick, told.body.decode()) for key, told in self.told.items()]
        return {"state": orjson.dumps({"days": [tuple(day) for day in self.days], "ended": ended, "told": told})}

    def restore(self, packed: Packed) -> None:
        state = packed["state"]
        assert isinstance(state, bytes)
        kept = orjson.loads(state)
        self.days = [Day(*day) for day in kept["days"]]
        self.told = {(day, operator): Told(tick, body.encode()) for day, operator, tick, body in kept["told"]}
        for day, operator, policy, rule, counts, responses, resolutions in kept["ended"]:
            tally = Tally(**dict(zip(_COUNTS, counts, strict=True)), responses=responses, resolutions=resolutions)
            self.ended.setdefault((day, operator), {})[policy, rule] = tally
