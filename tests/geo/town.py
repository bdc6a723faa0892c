"""A small town to tell stories in: two operators, one square, and a rule that allows so many bikes on it.

Ticks are of 5 s. Nothing here judges anything: it only puts what a test tells into sections and hands them to a CityState.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import h3.api.basic_int as h3
import numpy as np
import orjson

from geo.alert import Event
from geo.cells import area_e4
from geo.city import CityState
from geo.decrees import Reading
from geo.frame import Document, Facts, Section
from geo.handling import Response
from geo.params import FOR_EVER, BikeParams, City, Epoch, Rule, Timeline
from geo.policy import Geography, Policy, without_replaced
from geo.responses import as_body
from geo.states import ELSEWHERE, ON_TRIP, STATES
from geo.windows import Offsets

TICK_MS = 5_000
START = 1_000_000
HERE = (399_042_000, 1_164_074_000)
THERE = (399_200_000, 1_164_500_000)
CELL = h3.latlng_to_cell(HERE[0] / 1e7, HERE[1] / 1e7, 9)
TTL_MS = 1_000_000_000
OPERATORS = ("ant", "bee")


@dataclass(frozen=True)
class Fact:
    """What a source says of a bike. version: how long before the end of the tick it was heard, ms."""

    bike: str
    operator: str = "ant"
    at: tuple[int, int] = HERE
    stands: bool = True
    state: str = "available"
    rode: bool = False
    since: int = 0
    ago: int = 1_000
    source: int = 0
    vehicle: int = 1


def bikes(n: int, first: int = 0, **told: Any) -> list[Fact]:
    """n facts that are alike, of bikes b00, b01…"""
    return [Fact(f"b{i:02d}", **told) for i in range(first, first + n)]


def taken(facts: Sequence[Fact], state: int = ON_TRIP, **told: Any) -> list[Fact]:
    """The same bikes stand nowhere now."""
    return [replace(fact, stands=False, state=STATES[state], **told) for fact in facts]


def left_town(facts: Sequence[Fact], **told: Any) -> list[Fact]:
    return taken(facts, ELSEWHERE, at=THERE, **told)


def at_most(maximum: int, **told: Any) -> Rule:
    """A rule that allows so many bikes on the square; it waits a minute, and clears below half after half a minute.

    Whoever tells of deadlines says when they are; in other stories nobody is in a hurry.
    """
    per_hectare = Fraction(maximum * 10_000, area_e4(CELL))
    terms: dict[str, Any] = {
        "for_ms": 60_000,
        "keep_firing_for_ms": 30_000,
        "cooldown_ms": 60_000,
        "update_interval_ms": 20_000,
        "clear_ratio": Fraction(1, 2),
        "target_ratio": Fraction(1, 2),
        "resolve_within_ms": 10**10,
    }
    return Rule("policy", told.pop("rule_id", "rule"), "Too many", per_hectare, "x", **(terms | told))


def epoch(
    *rules: Rule,
    from_tick: int = FOR_EVER,
    operators: tuple[str, ...] = OPERATORS,
    watched: tuple[str, ...] | None = (),
    silent_after_ms: int = 60_000,
    ttl_ms: int = TTL_MS,
    policies: Sequence[Policy] = (),
    geographies: Sequence[Geography] = (),
    offsets: Offsets = (),
) -> Epoch:
    """watched: operators that can be silent, none unless a test wants some; None: all."""
    watches = operators if watched is None else watched
    city = City("town", 0, "UTC", (), rules, watches, without_replaced(policies), tuple(geographies), offsets)
    overrides = tuple((operator, silent_after_ms) for operator in operators)
    return Epoch(from_tick, str(from_tick), BikeParams(ttl_ms=ttl_ms), operators, overrides, (city,))


@dataclass
class Town:
    """A CityState and the tick that was worked last."""

    epochs: tuple[Epoch, ...]
    tick: int = START - 1
    responses: bool = False  # whether operators can answer
    told: list[Event] = field(default_factory=list)
    readings: dict[bytes, Reading] = field(default_factory=dict)  # what documents say, by their bytes

    def __post_init__(self) -> None:
        self.timeline = Timeline(TICK_MS, self.epochs, self.responses)
        self.state = CityState("town", self.timeline, self.readings.__getitem__)

    def say(self, *facts: Fact, heard: Sequence[str] = OPERATORS) -> list[str]:
        """The next tick, in which this is said: its events as `told_as` words."""
        self.tick += 1
        return self._note(self.state.advance(self.tick, [(self.tick, self._sections(facts, heard))]))

    def decree(self, *readings: Reading) -> list[str]:
        """The next tick, in which nothing but this is said, on the topic of policies."""
        self.tick += 1
        documents = [Document("policy", -1, f"document {len(self.readings) + i}".encode(), i) for i in range(len(readings))]
        self.readings |= {document.body: reading for document, reading in zip(documents, readings, strict=True)}
        return self._note(self.state.advance(self.tick, (), [(self.tick, tuple(documents))]))

    def answer(self, status: str, operator: str = "ant", episode: str | None = None, **more: Any) -> list[str]:
        """The next tick, in which nothing but this is said, by an operator to the newest event's episode."""
        return self.answers((operator, episode or self.told[-1].episode_id, Response(status, **more)))

    def answers(self, *said: tuple[str, str, Response]) -> list[str]:
        """The same of several in one tick, in this order: (operator, episode, response)."""
        self.tick += 1
        documents = tuple(
            Document("response", self.timeline.operators.index(operator), as_body(episode, response), i)
            for i, (operator, episode, response) in enumerate(said)
        )
        return self._note(self.state.advance(self.tick, (), [(self.tick, documents)]))

    def wait(self, ticks: int, heard: Sequence[str] = OPERATORS) -> list[str]:
        """So many ticks in which operators speak, but say nothing new."""
        return [word for _ in range(ticks) for word in self.say(heard=heard)]

    def nothing(self, ticks: int) -> list[str]:
        """So many ticks without a record."""
        self.tick += ticks
        return self._note(self.state.advance(self.tick, ()))

    def crash(self, timeline: Timeline | None = None) -> None:
        """Another process goes on with what was written down."""
        self.timeline = timeline or self.timeline
        self.state = CityState.restore("town", self.timeline, self.state.pack(), self.readings.__getitem__)

    def count(self, operator: str = "ant") -> int:
        """Bikes on the square."""
        return next((n for cell, owner, n in self.state.counts() if (cell, owner) == (CELL, operator)), 0)

    @property
    def last(self) -> dict[str, Any]:
        """The body of the newest event, the city's copy."""
        body: dict[str, Any] = orjson.loads(self.told[-1].body)
        return body

    def _note(self, events: list[Event]) -> list[str]:
        self.told += events
        return [told_as(event) for event in events]

    def _sections(self, facts: Sequence[Fact], heard: Sequence[str]) -> list[tuple[int, Section]]:
        sources = sorted({fact.source for fact in facts} | {0})
        counts = np.array([operator in heard for operator in self.timeline.operators], np.int64)
        return [
            (source, Section(self._facts([fact for fact in facts if fact.source == source]), counts * (source == 0)))
            for source in sources
        ]

    def _facts(self, facts: Sequence[Fact]) -> Facts:
        end = (self.tick + 1) * TICK_MS
        return Facts(
            operator=np.array([self.timeline.operators.index(fact.operator) for fact in facts], np.int16),
            ids=[fact.bike for fact in facts],
            lat=np.array([fact.at[0] for fact in facts], np.int32),
            lng=np.array([fact.at[1] for fact in facts], np.int32),
            stands=np.array([fact.stands for fact in facts], np.bool_),
            state=np.array([STATES.index(fact.state) for fact in facts], np.uint8),
            vehicle=np.array([fact.vehicle for fact in facts], np.uint8),
            rode=np.array([fact.rode for fact in facts], np.bool_),
            since=np.array([fact.since for fact in facts], np.int64),
            version=np.array([end - fact.ago for fact in facts], np.int64),
        )


def told_as(event: Event) -> str:
    """An event in a few words: "raised ant", "cleared ant moved", "raised ant deficit", "city feed raised",
    "ant feed cleared returned", "ant degraded raised"."""
    body = orjson.loads(event.body)
    words = [event.operator or "city", "feed", event.state] if event.kind == "feed_silent" else [event.state, event.operator]
    if event.kind == "feed_degraded":
        words = [event.operator, "degraded", event.state]
    if event.kind == "policy_refused":
        words = [event.state, "refusal of", body["refused"]["policy_id"]]
    words += ["deficit"] if event.kind == "deficit" else []
    return " ".join([*words, body["cleared_by"]] if body["cleared_by"] else words)
