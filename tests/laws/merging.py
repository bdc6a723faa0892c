"""Rules that tell of touching cells as one, put into worlds that were made without: fine cells, few bikes each, and bikes that
spread over several of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from geo.params import City, Timeline
from geo.policy import Policy, Rule

HECTARES = {8: 74, 9: 10.5, 10: 1.5, 11: 0.21, 12: 0.031}


@dataclass
class Merging:
    """How rules of cells become rules that merge: most of the time one version does as the one before. spread: of bikes."""

    r: random.Random
    known: dict[tuple[str, str, str], dict[str, Any] | None] = field(default_factory=dict)

    @classmethod
    def of(cls, seed: int) -> Merging | None:
        """None: not in this world."""
        r = random.Random(f"merging of {seed}")
        return cls(r) if r.random() < 0.55 else None

    @property
    def spread(self) -> int:
        return random.Random(self.r.random()).choice((200, 400, 400, 800))

    def timeline(self, timeline: Timeline) -> Timeline:
        epochs = []
        for epoch in timeline.epochs:
            epochs.append(replace(epoch, cities=tuple(map(self._city, epoch.cities))))
        return replace(timeline, epochs=tuple(epochs))

    def policy(self, policy: Policy, city: str = "") -> Policy:
        return replace(policy, rules=tuple(self.rule(rule, city) for rule in policy.rules))

    def rule(self, rule: Rule, city: str) -> Rule:
        if rule.all_operators or rule.minimum or (rule.area == "cell" and not rule.has_maximum):
            return rule
        key = (city, *rule.key)
        if key not in self.known or self.r.random() < 0.15:
            self.known[key] = self._terms(rule) if self.r.random() < 0.8 else None
        terms = self.known[key]
        return rule if terms is None else replace(rule, **terms)

    def _city(self, city: City) -> City:
        rules = tuple(self.rule(rule, city.name) for rule in city.rules)
        policies = tuple(self.policy(policy, city.name) for policy in city.policies)
        return replace(city, rules=rules, policies=policies)

    def _terms(self, rule: Rule) -> dict[str, Any]:
        """All that says how many may be where: another version of the rule may say it in another way."""
        r = self.r
        resolution = r.choice((10, 11, 11, 12, 12))
        terms: dict[str, Any] = dict.fromkeys(("maximum", "per_hectare", "per_hectare_text", "capacity", "share_of_fleet"))
        terms |= {"merge": True, "area": "cell", "resolution": resolution}
        if rule.share_of_fleet is not None and r.random() < 0.5:
            return terms | {"share_of_fleet": Fraction("0.02")}
        few = r.choice((0, 0, 0, 0, 0, 1))
        if rule.per_hectare is None:
            return terms | {"maximum": few}
        text = f"{(few + 0.3 if few else 0.1) / HECTARES[resolution]:.4f}"
        return terms | {"per_hectare": Fraction(text), "per_hectare_text": text}
