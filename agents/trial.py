"""What a policy would have done on recorded feeds, beside what is in force: episodes by day and operator, worst places, hours."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import orjson

from geo.alert import CLEARED, RAISED, Event

WORST = 10
HOUR_MS = 3_600_000
Place = tuple[str, str, str]
"""(rule id, area, operator) of an episode."""


@dataclass
class Tally:
    """Episodes of some policies. ms: how long they were open, up to the end of the records; peak: the most bikes too many."""

    policies: frozenset[str]
    zones: dict[str, str]  # city -> time zone, whose days are counted
    episodes: Counter[tuple[str, str, date]] = field(default_factory=Counter)  # by city, operator, day
    ms: Counter[tuple[str, str, date]] = field(default_factory=Counter)  # likewise, by the day of the opening
    raised: Counter[tuple[str, Place]] = field(default_factory=Counter)  # by city and place
    place_ms: Counter[tuple[str, Place]] = field(default_factory=Counter)
    peak: dict[tuple[str, Place], int] = field(default_factory=dict)
    _open: dict[str, Event] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        if event.rule[0] not in self.policies:
            return
        place = (event.city, (event.rule[1], event.area, event.operator))
        if event.state == RAISED:
            self._open[event.episode_id] = event
            self.episodes[event.city, event.operator, self._day(event)] += 1
            self.raised[place] += 1
        body = orjson.loads(event.body)
        self.peak[place] = max(self.peak.get(place, 0), body["excess"] or body.get("missing", 0))
        if event.state == CLEARED:
            self._close(self._open.pop(event.episode_id), event.time_ms)

    def finish(self, end_ms: int) -> None:
        """What is still open was open until the end of the records."""
        for event in self._open.values():
            self._close(event, end_ms)
        self._open.clear()

    def _close(self, raised: Event, at_ms: int) -> None:
        length = max(0, at_ms - raised.time_ms)
        self.ms[raised.city, raised.operator, self._day(raised)] += length
        self.place_ms[raised.city, (raised.rule[1], raised.area, raised.operator)] += length

    def _day(self, event: Event) -> date:
        return datetime.fromtimestamp(event.opened_at_ms / 1000, UTC).astimezone(ZoneInfo(self.zones[event.city])).date()


@dataclass(frozen=True, slots=True)
class Comparison:
    """The tallies of what is in force and of what is tried, over the same records."""

    active: Tally
    tried: Tally

    def days(self) -> list[dict[str, object]]:
        """One row for each city, operator and day with an episode in either."""
        keys = sorted(self.active.episodes.keys() | self.tried.episodes.keys())
        return [
            {
                "city": key[0],
                "operator": key[1],
                "day": key[2].isoformat(),
                "episodes": {"active": self.active.episodes[key], "tried": self.tried.episodes[key]},
                "hours": {"active": _hours(self.active.ms[key]), "tried": _hours(self.tried.ms[key])},
            }
            for key in keys
        ]

    def worst(self) -> list[dict[str, object]]:
        """Of what is tried, the places that were over for longest."""
        longest = sorted(self.tried.place_ms.items(), key=lambda item: (-item[1], item[0]))
        return [
            {
                "city": city,
                "rule_id": rule,
                "area": area,
                "operator": operator,
                "episodes": self.tried.raised[city, (rule, area, operator)],
                "hours": _hours(ms),
                "peak": self.tried.peak[city, (rule, area, operator)],
            }
            for (city, (rule, area, operator)), ms in longest[:WORST]
        ]


def _hours(ms: int) -> float:
    return round(ms / HOUR_MS, 2)
