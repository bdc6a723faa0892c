"""What a policy is: which rule counts a bike, where, when and for whom, and how many are too many. docs/policies.md.

Values only. Matching bikes to rules at speed is `geo/layers.py`, the life of what is found wrong `geo/episodes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from geo.windows import Offsets, Window, next_edge, span_at

Boundary = tuple[tuple[tuple[tuple[int, int], ...], ...], ...]
"""Polygons, each of rings (outer first), each of (lat_e7, lng_e7), not closed."""

Area = Literal["cell", "zone", "each_zone"]

UNLIMITED = 2**62
"""The maximum of a rule that has none."""

MOST_CELL_RULES = 511
"""Of one policy: the number of such a rule is part of a word, see `geo/layers.py`."""


@dataclass(frozen=True, slots=True)
class Geography:
    """A zone by its polygons. capacity: places for bikes, None if it does not say."""

    geography_id: str
    name: str
    polygons: Boundary
    capacity: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """How many bikes may be in an area. Durations are stream time, ratios exact rationals.

    The defaults are a rule of `[[city.rules]]`: each operator, each cell of the whole city, always. At most one of
    per_hectare, maximum, capacity and share_of_fleet is given; none of them: no number is too many.
    """

    policy_id: str
    rule_id: str
    name: str
    per_hectare: Fraction | None = None
    per_hectare_text: str | None = None  # as configured; printed in alerts
    resolution: int = 9
    clear_ratio: Fraction = Fraction(8, 10)
    target_ratio: Fraction = Fraction(6, 10)
    for_ms: int = 60_000
    keep_firing_for_ms: int = 300_000
    cooldown_ms: int = 600_000
    update_interval_ms: int = 60_000
    respond_within_ms: int = 900_000
    resolve_within_ms: int = 3_600_000
    bikes_cap: int = 100
    area: Area = "cell"
    geographies: tuple[str, ...] = ()  # ids; empty: the whole city
    states: tuple[int, ...] = ()  # codes of geo.states; empty: all
    vehicles: tuple[int, ...] = ()  # likewise
    maximum: int | None = None  # the greatest allowed number
    minimum: int | None = None  # the least allowed number
    capacity: Fraction | None = None
    share_of_fleet: Fraction | None = None
    all_operators: bool = False
    window: Window | None = None
    prepare_ms: int = 0
    shadow: bool = False
    merge: bool = False  # cells that touch are told of as one

    @property
    def key(self) -> tuple[str, str]:
        return (self.policy_id, self.rule_id)

    @property
    def has_maximum(self) -> bool:
        return any(number is not None for number in (self.per_hectare, self.maximum, self.capacity, self.share_of_fleet))

    def most(self, area_e4: int, places: int, fleet: int) -> int:
        """The greatest allowed number in an area of so many 1e-4 ha, with places for so many bikes, of so great a fleet."""
        if self.per_hectare is not None:
            return self.per_hectare.numerator * area_e4 // (self.per_hectare.denominator * 10_000)
        if self.maximum is not None:
            return self.maximum
        if self.capacity is not None:
            return self.capacity.numerator * places // self.capacity.denominator
        if self.share_of_fleet is not None:
            return self.share_of_fleet.numerator * fleet // self.share_of_fleet.denominator
        return UNLIMITED

    def goes_on_as(self, rule: Rule) -> bool:
        """Whether an episode of this rule may go on under the other one, which has the same ids."""

        def kind(one: Rule) -> tuple[object, ...]:
            return (one.area, one.resolution if one.area == "cell" else None, one.all_operators, one.shadow, one.merge)

        return kind(self) == kind(rule)

    def in_force(self, at_ms: int, offsets: Offsets) -> bool:
        """Whether the rule's window holds a moment; its policy's dates are another matter."""
        return self.window is None or span_at(self.window, self.prepare_ms, offsets, at_ms) is not None

    def deadlines(self, opened_ms: int, from_ms: int, offsets: Offsets) -> tuple[int, int]:
        """(respond by, resolve by) of an episode: opened_ms is the end of its opening tick, from_ms the start, ms."""
        respond, resolve = opened_ms + self.respond_within_ms, opened_ms + self.resolve_within_ms
        if self.window is not None and self.prepare_ms:
            span = span_at(self.window, self.prepare_ms, offsets, from_ms)
            if span is not None and from_ms < span.open:
                resolve = min(resolve, span.open)
                respond = min(respond, resolve)
        return respond, resolve


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules of which the first that a bike fits has it. In force in [from_ms, until_ms); None: unbounded.

    operators: those whose bikes it looks at; empty: all. zones: geographies of its own, by which its rules name them; None: the
    city's.
    """

    policy_id: str
    name: str
    rules: tuple[Rule, ...]
    operators: tuple[str, ...] = ()
    from_ms: int | None = None
    until_ms: int | None = None
    replaces: tuple[str, ...] = ()
    zones: tuple[Geography, ...] | None = None

    def rules_at(self, at_ms: int, offsets: Offsets) -> tuple[Rule, ...]:
        """The rules in force at a moment, in order."""
        if (self.from_ms is not None and at_ms < self.from_ms) or (self.until_ms is not None and at_ms >= self.until_ms):
            return ()
        windows = {(rule.window, rule.prepare_ms): rule for rule in self.rules}  # many rules, few windows
        open_now = {key: rule.in_force(at_ms, offsets) for key, rule in windows.items()}
        return tuple(rule for rule in self.rules if open_now[rule.window, rule.prepare_ms])

    def edges(self, after_ms: int, offsets: Offsets) -> Iterator[int]:
        """Moments after this one, among them the first at which other rules may be in force."""
        yield from (edge for edge in (self.from_ms, self.until_ms) if edge is not None and edge > after_ms)
        windows = {(rule.window, rule.prepare_ms) for rule in self.rules if rule.window is not None}
        yield from (next_edge(window, prepare_ms, offsets, after_ms) for window, prepare_ms in windows if window is not None)


def without_replaced(policies: Sequence[Policy]) -> tuple[Policy, ...]:
    """The policies, each of which ends when one that names it in `replaces` begins; those that never are in force left out."""
    ends: dict[str, list[int | None]] = {}
    for policy in policies:
        for replaced in policy.replaces:
            ends.setdefault(replaced, []).append(policy.from_ms)
    kept = (_ended(policy, ends.get(policy.policy_id, [])) for policy in policies)
    return tuple(policy for policy in kept if policy is not None and policy.rules)


def _ended(policy: Policy, ends: Sequence[int | None]) -> Policy | None:
    """The policy, ended by the first of the moments (None: it never is in force)."""
    moments = [end for end in ends if end is not None]
    return None if len(moments) < len(ends) else ended(policy, *moments)


def ended(policy: Policy, *ends: int) -> Policy | None:
    """The policy, in force until the first of the moments at most; None: that is before it begins."""
    until_ms = min([*ends, *([] if policy.until_ms is None else [policy.until_ms])], default=None)
    if until_ms is not None and policy.from_ms is not None and until_ms <= policy.from_ms:
        return None
    return replace(policy, until_ms=until_ms)
