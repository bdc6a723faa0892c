"""How many are too many, and how many too few: what a rule finds in its areas. docs/policies.md, sections 5 to 7.

A measure looks at the pairs (area, operator) of one layer. `suspects` is asked of many pairs at a time and leaves out those
at which there is nothing to judge; `reading` says what is found at one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geo.alert import CRITICAL, DEFICIT, MAJOR, MINOR, OVERCROWDED, severity_of
from geo.cells import least_area_e4
from geo.counts import Counts, Slots
from geo.episodes import Reading
from geo.layers import Cascade, Codes, Layer
from geo.policy import UNLIMITED, Rule

Fleets = NDArray[np.int64]


class Limits(NamedTuple):
    """A rule's numbers for one area: more than `maximum` is too many, fewer than `clear` is all clear."""

    maximum: int
    clear: int
    target: int

    @classmethod
    def of(cls, rule: Rule, maximum: int) -> Limits:
        clear, target = rule.clear_ratio, rule.target_ratio
        return cls(
            maximum=maximum,
            # an empty cell is below every rule, else a maximum of 0 could never clear
            clear=max(1, -(-maximum * clear.numerator // clear.denominator)),
            target=maximum * target.numerator // target.denominator,
        )

    def over(self, bikes: int) -> bool:
        return bikes > self.maximum

    def below(self, bikes: int) -> bool:
        return bikes < self.clear

    def excess(self, bikes: int) -> int:
        return max(0, bikes - self.target)


class Measure(ABC):
    """Rules over the areas of one layer, and what is found there. `rules` are in the layer's order."""

    kind: str

    def __init__(self, rules: Sequence[Rule], layer: Layer, counts: Counts, operators: NDArray[np.bool_]) -> None:
        """operators: bool (operators,), those that the rules are for."""
        self.rules, self.layer, self.counts, self.operators = rules, layer, counts, operators

    def rule_of(self, pair: int) -> Rule:
        return self.rules[0] if len(self.rules) == 1 else self.rules[self.index_of(pair)]

    def index_of(self, pair: int) -> int:
        """Number of the pair's rule."""
        return int(self.layer.rule_of(self.counts.codes[pair : pair + 1])[0])

    def refresh(self, fleets: Fleets) -> Slots:
        """Fleets, int64 (operators,), are so great now: pairs that are to be judged for it, int32 (n,)."""
        return np.zeros(0, np.int32)

    def related(self, pairs: Slots) -> Slots:
        """All pairs at which something else may be found when these have changed, themselves included: ascending."""
        return pairs

    def forget(self) -> None:
        """The pairs have other numbers now."""
        return

    @abstractmethod
    def applies(self, rule: Rule) -> bool:
        """Whether the rule has a limit of this kind."""

    @abstractmethod
    def suspects(self, pairs: Slots) -> NDArray[np.bool_]:
        """Which of n pairs may be out of bounds: bool (n,)."""

    @abstractmethod
    def reading(self, pair: int) -> Reading:
        """What is found at one pair."""


class Crowding(Measure):
    """Too many: a maximum for each operator, or one for all together.

    _maximum  int64 (capacity,)  of each pair; -1: not computed yet, as hardly any pair ever comes near it
    """

    kind = OVERCROWDED

    def __init__(self, rules: Sequence[Rule], layer: Layer, counts: Counts, operators: NDArray[np.bool_]) -> None:
        super().__init__(rules, layer, counts, operators)
        self._by_fleet = np.array([rule.share_of_fleet is not None for rule in rules], np.bool_)
        self._together = np.array([rule.all_operators for rule in rules], np.bool_)
        self._harmless = np.array([_least_maximum(rule) for rule in rules], np.int64)
        self._shares = np.full((len(rules), len(operators)), -1, np.int64)  # maxima of those by fleet
        self._fleets = np.full(len(operators), -1, np.int64)  # by which they are
        self.forget()

    def forget(self) -> None:
        self._maximum = np.zeros(0, np.int64)

    def applies(self, rule: Rule) -> bool:
        return rule.has_maximum

    def refresh(self, fleets: Fleets) -> Slots:
        if not self._by_fleet.any():
            return super().refresh(fleets)
        if np.array_equal(fleets, self._fleets):
            return super().refresh(fleets)
        before, self._fleets = self._shares.copy(), fleets.copy()
        everybody = [int(fleets[self.operators].sum())] * len(fleets)
        known: dict[tuple[Fraction | None, bool], list[int]] = {}  # many rules, few shares
        for i in np.flatnonzero(self._by_fleet).tolist():
            rule = self.rules[i]
            share = (rule.share_of_fleet, rule.all_operators)
            if share not in known:
                known[share] = [rule.most(0, 0, fleet) for fleet in (everybody if rule.all_operators else fleets.tolist())]
            self._shares[i] = known[share]
        changed = before != self._shares
        codes, operators = self.counts.codes[: self.counts.size], self.counts.operators[: self.counts.size]
        return np.flatnonzero(changed[self.layer.rule_of(codes), operators]).astype(np.int32)

    def related(self, pairs: Slots) -> Slots:
        if not self._together.any():
            return pairs
        codes = self.counts.codes[pairs]
        shared = np.unique(codes[self._together[self.layer.rule_of(codes)]])
        operators = np.arange(len(self.operators), dtype=np.int16)
        slots = self.counts.find(np.repeat(shared, len(operators)), np.tile(operators, len(shared)))
        return np.union1d(pairs, slots[slots >= 0]).astype(np.int32)

    def suspects(self, pairs: Slots) -> NDArray[np.bool_]:
        codes = self.counts.codes[pairs]
        rules, count = self.layer.rule_of(codes), self.counts.count[pairs].astype(np.int64)
        if self._together.any() and len(pairs):
            shared = np.flatnonzero(self._together[rules])
            count[shared] = self.counts.by_operator(codes[shared], len(self.operators)).sum(axis=1)
        self._fit()
        maximum = np.where(self._by_fleet[rules], self._shares[rules, self.counts.operators[pairs]], self._maximum[pairs])
        for i in np.flatnonzero((maximum < 0) & (count > self._harmless[rules])).tolist():
            maximum[i] = self._maximum_at(int(pairs[i]))
        return np.asarray((maximum >= 0) & (count > maximum))

    def reading(self, pair: int) -> Reading:
        rule, maximum, count = self.rule_of(pair), self._maximum_at(pair), int(self.counts.count[pair])
        limits = Limits.of(rule, maximum)
        if rule.all_operators:
            return self._share(pair, limits)
        return Reading(
            limit=maximum,
            bikes=count,
            over=limits.over(count),
            below=limits.below(count),
            excess=limits.excess(count),
            severity=severity_of(count, maximum),
        )

    def _share(self, pair: int, limits: Limits) -> Reading:
        """What one operator finds where the limit is one for all."""
        counts = self.counts.by_operator(self.counts.codes[pair : pair + 1], len(self.operators))[0].tolist()
        total, own = sum(counts), int(self.counts.operators[pair])
        excess = shares_of(limits.excess(total), counts)[own]
        return Reading(
            limit=limits.maximum,
            bikes=counts[own],
            over=limits.over(total) and excess > 0,
            below=limits.below(total) or counts[own] == 0,
            excess=excess,
            severity=severity_of(total, limits.maximum),
        )

    def room(self, codes: Codes, operator: int) -> NDArray[np.int64]:
        """How many more bikes of an operator n areas may get, by the rules that are no shadows: int64 (n,).

        Below 0: there are too many. UNLIMITED where no rule says, and in the whole city, where a move changes nothing. Cells are
        filled up to their target, zones to their maximum.
        """
        room = np.full(len(codes), UNLIMITED, np.int64)
        numbers = self.layer.rule_of(codes)
        for number in np.unique(numbers).tolist():
            rule = self.rules[number]
            if rule.shadow or not rule.has_maximum or (rule.area != "cell" and not rule.geographies):
                continue
            here = np.flatnonzero(numbers == number)
            most = self._maxima(codes[here], number, operator)
            if rule.area == "cell":
                values, each = np.unique(most, return_inverse=True)
                most = np.array([Limits.of(rule, value).target for value in values.tolist()], np.int64)[each]
            room[here] = most - self._there(codes[here], None if rule.all_operators else operator)
        return room

    def _maxima(self, codes: Codes, number: int, operator: int) -> NDArray[np.int64]:
        """Of a rule's areas, for an operator."""
        if self._by_fleet[number]:
            return np.full(len(codes), self._shares[number, operator])
        self._fit()
        pairs = self._pairs(codes, operator)
        maxima = np.where(pairs >= 0, self._maximum[pairs], -1)
        for i in np.flatnonzero(maxima < 0).tolist():
            size, places = self.layer.size_of(int(codes[i]))
            maxima[i] = self.rules[number].most(size, places, 0)
            if pairs[i] >= 0:
                self._maximum[pairs[i]] = maxima[i]
        return maxima

    def _there(self, codes: Codes, operator: int | None) -> NDArray[np.int64]:
        """Bikes of an operator, or of all (None)."""
        if operator is None:
            return np.asarray(self.counts.by_operator(codes, len(self.operators)).sum(axis=1))
        pairs = self._pairs(codes, operator)
        return np.where(pairs >= 0, self.counts.count[pairs], 0).astype(np.int64)

    def _pairs(self, codes: Codes, operator: int) -> Slots:
        return self.counts.find(codes, np.full(len(codes), operator, np.int16))

    def _maximum_at(self, pair: int) -> int:
        self._fit()
        code, operator = int(self.counts.codes[pair]), int(self.counts.operators[pair])
        index = self.index_of(pair) if len(self.rules) > 1 else 0
        if self._by_fleet[index]:
            return int(self._shares[index, operator])
        maximum = int(self._maximum[pair])
        if maximum < 0:
            size, places = self.layer.size_of(code)
            maximum = self._maximum[pair] = self.rules[index].most(size, places, 0)
        return maximum

    def _fit(self) -> None:
        missing = len(self.counts.count) - len(self._maximum)
        if missing > 0:
            self._maximum = np.concatenate((self._maximum, np.full(missing, -1, np.int64)))


class Shortage(Measure):
    """Too few: a minimum for each operator, also where none of its bikes is."""

    kind = DEFICIT

    def __init__(self, rules: Sequence[Rule], layer: Cascade, counts: Counts, operators: NDArray[np.bool_]) -> None:
        super().__init__(rules, layer, counts, operators)
        self._cascade = layer
        self._least = np.array([rule.minimum or 0 for rule in rules], np.int64)

    def applies(self, rule: Rule) -> bool:
        return rule.minimum is not None and rule.minimum > 0

    def found_pairs(self) -> None:
        """Give every operator a pair in every area with a minimum: where no bike ever was, all are missing."""
        areas = np.array([code for code, zone in enumerate(self._cascade.zones) if self._least[zone.rule]], np.int64)
        operators = np.flatnonzero(self.operators).astype(np.int16)
        self.counts.pairs(np.repeat(areas, len(operators)), np.tile(operators, len(areas)))

    def suspects(self, pairs: Slots) -> NDArray[np.bool_]:
        least = self._least[self.layer.rule_of(self.counts.codes[pairs])]
        mine = self.operators[self.counts.operators[pairs]]
        return np.asarray((self.counts.count[pairs] < least) & mine)

    def reading(self, pair: int) -> Reading:
        least, count = self.rule_of(pair).minimum or 0, int(self.counts.count[pair])
        return Reading(
            limit=least,
            bikes=count,
            over=count < least,
            below=count >= least,
            excess=max(0, least - count),
            severity=CRITICAL if 2 * count <= least else MAJOR if 3 * count <= 2 * least else MINOR,
        )


def shares_of(excess: int, counts: Sequence[int]) -> list[int]:
    """An excess shared out in proportion to counts, what is left over to the greatest remainders, of equals to the first."""
    total = sum(counts)
    if not total:
        return [0] * len(counts)
    shares = [excess * count // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda i: (-(excess * counts[i] % total), i))
    for i in by_remainder[: excess - sum(shares)]:
        shares[i] += 1
    return shares


def _least_maximum(rule: Rule) -> int:
    """No area of the rule may hold fewer: pairs with fewer need not be looked at."""
    if rule.per_hectare is not None:
        return rule.most(least_area_e4(rule.resolution), 0, 0) if rule.area == "cell" else -1
    return rule.maximum if rule.maximum is not None else UNLIMITED if not rule.has_maximum else -1
