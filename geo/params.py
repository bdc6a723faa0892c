"""What decides, as frozen values: numbers of the bike's judgement, rules, cities, and which of them are in force when.

Values only: reading them from files and telling a user what is wrong with them is the edge's work (`streams/settings.py`).
Times are int64 milliseconds of stream time, lengths are integer millimetres, positions are 1e-7 degrees, latitude first.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from geo.policy import Boundary, Geography, Policy, Rule
from geo.windows import Offsets

__all__ = ["FOR_EVER", "SEMANTICS", "BikeParams", "City", "Epoch", "Planning", "Rule", "Timeline"]

SEMANTICS = 5
"""Version of the meaning of `geo/`: raised whenever the same log would give other alerts. Part of every hash."""

DEGRADED_HOLD_MS, DEGRADED_FEWEST = 1_800_000, 20
"""Half an hour: longer than a feed takes to be mended by a restart, shorter than an hour, the usual `resolve_within`. And bikes
enough that chance does not take them at once."""

DENSITY_INTERVAL_MS = 60_000
"""A minute: what a map of a city or a planner can use, and at most one record a minute of each cell that changes."""


@dataclass(frozen=True, slots=True)
class BikeParams:
    """Numbers of stage one. Defaults and their sources: docs/semantics.md and docs/operations.md."""

    ttl_ms: int = 18_000_000  # the legal heartbeat of a locked bike is 4 h, plus slack
    future_ms: int = 60_000
    max_accuracy_mm: int = 100_000
    max_speed_mm_s: int = 50_000


@dataclass(frozen=True, slots=True)
class Planning:
    """How far bikes may be brought, metres as the crow flies, and how often a plan is made. docs/planning.md."""

    max_haul_m: int = 3_000
    interval_ms: int = 120_000


@dataclass(frozen=True, slots=True)
class City:
    """A city as one epoch knows it.

    `boundary` is a tuple of polygons, each a tuple of rings (outer first), each a tuple of (lat_e7, lng_e7), not closed.
    `operators` are those whose silence is watched here. `rules` stand by themselves; `policies` are those that may ever be
    in force, and `geographies` those that their rules name, by id. `offsets` are local time; empty: UTC.
    `density_interval_ms`: how often the counts of cells are told; 0: never.
    `planning`: None: alerts do not say where to bring bikes.
    `degraded_hold_ms`, `degraded_fewest`: how long a loss of most of a fleet, at least of so many bikes, is not believed; 0: it is at once.
    """

    name: str
    partition: int  # of city.facts and of every output topic
    time_zone: str
    boundary: Boundary
    rules: tuple[Rule, ...]
    operators: tuple[str, ...]
    policies: tuple[Policy, ...] = ()
    geographies: tuple[Geography, ...] = ()
    offsets: Offsets = ()
    density_interval_ms: int = DENSITY_INTERVAL_MS
    planning: Planning | None = None
    degraded_hold_ms: int = DEGRADED_HOLD_MS
    degraded_fewest: int = DEGRADED_FEWEST

    @property
    def all_rules(self) -> tuple[Rule, ...]:
        """Those that stand by themselves, and those of policies."""
        return self.rules + tuple(rule for policy in self.policies for rule in policy.rules)


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is in force from `from_tick` on, until the next epoch begins."""

    from_tick: int  # the first epoch's is -2**62: for ever
    hash: str
    bike: BikeParams
    operators: tuple[str, ...]  # allowed ones, sorted by name
    silent_after_ms: tuple[tuple[str, int], ...]  # overrides by operator
    cities: tuple[City, ...]  # sorted by name


@dataclass(frozen=True, slots=True)
class Timeline:
    """All epochs in order of time, and what must never change within one log."""

    tick_ms: int
    epochs: tuple[Epoch, ...]
    responses: bool = False  # whether operators have topics on which they can answer
    operators: tuple[str, ...] = field(init=False)  # of all epochs, sorted: the index of an operator in arrays
    cities: tuple[str, ...] = field(init=False)  # names of all epochs, sorted: the index of a city in arrays

    def __post_init__(self) -> None:
        ticks = [epoch.from_tick for epoch in self.epochs]
        if not ticks or ticks != sorted(set(ticks)):
            raise ValueError(f"epochs must rise strictly by from_tick, got {ticks}")
        object.__setattr__(self, "operators", tuple(sorted({o for e in self.epochs for o in e.operators})))
        object.__setattr__(self, "cities", tuple(sorted({c.name for e in self.epochs for c in e.cities})))

    def index_at(self, tick: int) -> int:
        """Index of the epoch that is in force at a tick."""
        return bisect_right([epoch.from_tick for epoch in self.epochs], tick) - 1

    def at(self, tick: int) -> Epoch:
        """The epoch that is in force at a tick."""
        return self.epochs[self.index_at(tick)]


FOR_EVER = -(2**62)
