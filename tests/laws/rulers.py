"""Policies out of a seed: zones over the hot spots, windows that open and close while the log runs, rules of every kind."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from geo.params import City
from geo.policy import Geography, Policy, Rule, without_replaced
from geo.windows import DAY_S, Offsets, Window

DAY_MS = 86_400_000
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Ruler:
    """Who makes policies: for a place, and for a time from `start` on (ms) in ticks."""

    r: random.Random
    anchor: tuple[int, int]
    operators: tuple[str, ...]
    start: int
    tick_ms: int
    ticks: int

    def rule(self, city: City) -> City:
        """The city with policies."""
        geographies = tuple(self._geography(i) for i in range(self.r.choice((1, 2, 4))))
        city = replace(city, geographies=geographies, offsets=self._offsets())
        policies = [self._policy(f"policy-{i}", city) for i in range(self.r.choice((1, 1, 2, 3)))]
        return replace(city, policies=without_replaced(policies))

    def change(self, city: City) -> City:
        """The next version of them."""
        r = self.r
        if not city.geographies:
            return self.rule(city) if r.random() < 0.3 else city
        if r.random() < 0.4:
            shift = r.randrange(len(city.geographies))
            moved = [self._geography(i) if i == shift else one for i, one in enumerate(city.geographies)]
            city = replace(city, geographies=tuple(moved))
        policies = [self._other(policy, city) for policy in city.policies]
        if r.random() < 0.3 and policies:
            del policies[r.randrange(len(policies))]
        if r.random() < 0.4:
            policies.insert(r.randint(0, len(policies)), self._policy(f"policy-{r.randrange(10**6)}", city))
        return replace(city, policies=without_replaced(policies))

    def _other(self, policy: Policy, city: City) -> Policy:
        r, rules = self.r, list(policy.rules)
        if r.random() < 0.4:
            i = r.randrange(len(rules))
            fresh = self._rule(policy.policy_id, rules[i].rule_id, city)
            # Often only the numbers change, and episodes go on.
            same: dict[str, Any] = {"area": rules[i].area, "resolution": rules[i].resolution} if r.random() < 0.6 else {}
            kept = replace(rules[i], geographies=fresh.geographies, window=fresh.window, prepare_ms=fresh.prepare_ms, **same)
            rules[i] = _sound(r.choice((fresh, kept)))
        if r.random() < 0.3:
            r.shuffle(rules)
        if r.random() < 0.2:
            policy = replace(policy, operators=self._some_operators())
        return replace(policy, rules=tuple(rules))

    # --- one policy ----------------------------------------------------------------------------------------------------

    def _policy(self, name: str, city: City) -> Policy:
        r = self.r
        rules = tuple(self._rule(name, f"rule-{i}", city) for i in range(r.choice((1, 2, 3, 4))))
        if r.random() < 0.25:  # all operators meet in the whole city
            whole = replace(rules[0], area="zone", geographies=(), states=(), vehicles=(), window=None, all_operators=True)
            few = r.choice((1, 2, 4))
            none: dict[str, Any] = {
                "minimum": None,
                "per_hectare": None,
                "per_hectare_text": None,
                "capacity": None,
                "share_of_fleet": None,
            }
            return Policy(name, name.title(), (replace(whole, maximum=few, **none),))
        return Policy(
            policy_id=name,
            name=name.title(),
            rules=rules,
            operators=self._some_operators(),
            from_ms=self._moment() if r.random() < 0.2 else None,
            until_ms=self._moment() if r.random() < 0.2 else None,
            replaces=("policy-0",) if name != "policy-0" and r.random() < 0.3 else (),
        )

    def _some_operators(self) -> tuple[str, ...]:
        if self.r.random() < 0.7:
            return ()
        return tuple(self.r.sample(self.operators, self.r.randint(1, len(self.operators))))

    def _rule(self, policy: str, name: str, city: City) -> Rule:
        r = self.r
        together = r.random() < 0.4
        plain = together and r.random() < 0.7  # several operators must meet somewhere, and often
        area = r.choice(("cell", "zone", "zone", "each_zone"))
        ids = [geography.geography_id for geography in city.geographies]
        listed = () if plain or r.random() < 0.25 else tuple(r.sample(ids, r.randint(1, len(ids))))
        limits = self._limits(area, listed)
        if area != "cell" and not together and r.random() < 0.5:
            limits["minimum"] = r.choice((1, 2, 5))
        return _sound(
            Rule(
                policy_id=policy,
                rule_id=name,
                name=f"Rule {name}",
                resolution=r.choice((9, 9, 10, 8)),
                area=area,  # type: ignore[arg-type]
                geographies=listed,
                states=() if plain or r.random() < 0.7 else tuple(sorted(r.sample(range(1, 7), r.randint(1, 4)))),
                vehicles=() if r.random() < 0.8 else tuple(sorted(r.sample((1, 2, 5, 10), 2))),
                all_operators=together,
                window=self._window() if not plain and r.random() < 0.5 else None,
                prepare_ms=r.choice((0, 0, 20 * self.tick_ms)),
                shadow=r.random() < 0.15,
                clear_ratio=Fraction(r.choice(("0.8", "0.5", "1"))),
                target_ratio=Fraction(r.choice(("0.5", "0.35"))),
                for_ms=r.choice((0, 0, 1, 3)) * self.tick_ms,
                keep_firing_for_ms=r.choice((0, 1, 4)) * self.tick_ms,
                cooldown_ms=r.choice((0, 3, 20)) * self.tick_ms,
                update_interval_ms=r.choice((0, 2, 8)) * self.tick_ms,
                bikes_cap=r.choice((100, 2)),
                **limits,
            )
        )

    def _limits(self, area: str, listed: tuple[str, ...]) -> dict[str, Any]:
        r = self.r
        kind = r.choice((*["maximum"] * 4, "per_hectare", "share_of_fleet", "share_of_fleet", "capacity", None))
        if kind == "maximum":
            return {"maximum": r.choice((0, 0, 1, 1, 2, 3))}
        if kind == "per_hectare":
            text = r.choice(("0.1", "0.02", "0.001"))
            return {"per_hectare": Fraction(text), "per_hectare_text": text}
        if kind == "share_of_fleet":
            return {"share_of_fleet": Fraction(r.choice(("0.1", "0.1", "0.3", "0.5")))}
        if kind == "capacity" and area != "cell" and listed:
            return {"capacity": Fraction(r.choice(("0.5", "1", "1.5")))}
        return {}

    # --- where and when ------------------------------------------------------------------------------------------------

    def _geography(self, number: int) -> Geography:
        r = self.r
        boxes = [self._box() for _ in range(r.choice((1, 1, 2)))]
        if len(boxes) == 2 and _meet(*boxes):
            boxes.pop()
        polygons = tuple(self._rings(box) for box in boxes)
        return Geography(f"zone-{number}", f"Zone {number}", polygons, r.choice((0, 1, 2, 3)))

    def _box(self) -> tuple[int, int, int, int]:
        """South, west, north, east."""
        r, (lat, lng) = self.r, self.anchor
        height, width = r.choice((30_000, 300_000, 600_000)), r.choice((30_000, 300_000, 600_000))
        south, west = lat - r.randint(0, height), lng - r.randint(0, width)
        return south, west, south + height, min(west + width, 1_800_000_000)

    def _rings(self, box: tuple[int, int, int, int]) -> tuple[tuple[tuple[int, int], ...], ...]:
        """A square, a kite or a triangle, sometimes with a hole in the middle."""
        (south, west, north, east), r = box, self.r
        middle_lat, middle_lng = (south + north) // 2, (west + east) // 2
        square = ((south, west), (south, east), (north, east), (north, west))
        if r.random() < 0.3:
            return (((south, west), (south, east), (north, middle_lng)),)
        if r.random() < 0.3:
            return (((south, middle_lng), (middle_lat, east), (north, middle_lng), (middle_lat, west)),)
        step_lat, step_lng = (north - south) // 8, (east - west) // 8
        hole = tuple((middle_lat + i * step_lat, middle_lng + j * step_lng) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1)))
        return (square, hole) if r.random() < 0.4 else (square,)

    def _moment(self) -> int:
        return self.start + self.r.randint(0, self.ticks * self.tick_ms)

    def _offsets(self) -> Offsets:
        """The clocks change once while the log runs, some of the time."""
        r = self.r
        if r.random() < 0.3:
            return ()
        first, second = r.choice(((0, HOUR_MS), (HOUR_MS, 0), (-5 * HOUR_MS, -4 * HOUR_MS), (12_600_000, 9_000_000)))
        return ((0, first), (self._moment(), second))

    def _window(self) -> Window:
        r = self.r
        day = (self.start // DAY_MS + 3) % 7
        days = tuple(range(7)) if r.random() < 0.6 else tuple(sorted({(day + r.choice((-1, 0, 0, 1))) % 7, r.randrange(7)}))
        starts, ends = (self._moment() % DAY_MS // 1000 for _ in range(2))
        if r.random() < 0.5:  # near the change of the clocks, or shifted by an hour
            starts = (starts + r.choice((-3600, 3600))) % DAY_S
        return Window(days, starts, DAY_S if r.random() < 0.1 else ends)


def _meet(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _sound(rule: Rule) -> Rule:
    """What a configuration would not refuse."""
    if rule.area == "cell" or rule.all_operators:
        rule = replace(rule, minimum=None)
    if rule.capacity is not None and (rule.area == "cell" or not rule.geographies):
        rule = replace(rule, capacity=None)
    if rule.minimum is not None and rule.maximum is not None:
        rule = replace(rule, maximum=max(rule.minimum, rule.maximum))
    return rule
