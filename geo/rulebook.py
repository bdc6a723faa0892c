"""What is in force in a city, tick by tick: which rules, by which layers they count, and what becomes of their episodes.

docs/policies.md, section 4. The rules of `[[city.rules]]` each have a watch over the cells of a resolution; a policy has a layer of
its own, made anew whenever other rules of it are in force, and takes its episodes along.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo.cells import ALERT_RESOLUTION
from geo.counts import NOWHERE, Counts
from geo.counts import Slots as Pairs
from geo.episodes import NEVER
from geo.ground import POLICY, Ground, Moves
from geo.handling import Calendar
from geo.layers import Cascade, Town
from geo.measures import Crowding, Shortage
from geo.params import City, Timeline
from geo.policy import Rule
from geo.verdicts import Verdict
from geo.watch import Watch

Gone = list[tuple[Watch, list[Verdict]]]
"""What is cleared because what was in force is not any more."""

Operators = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A policy's rules that are in force at a tick. operators: bool (operators,), whose bikes they look at; duty: those that
    a minimum is for."""

    key: str
    rules: tuple[Rule, ...]
    operators: Operators
    duty: Operators
    town: Town

    def layer(self) -> Cascade:
        return Cascade(self.rules, self.operators, self.town)

    def is_that_of(self, watches: list[Watch]) -> bool:
        """Whether these watches already judge by it."""
        layer, duty = watches[0].layer, watches[-1].measure.operators
        return (
            isinstance(layer, Cascade)
            and layer.is_of(self.rules, self.operators, self.town)
            and (len(watches) == 1 or np.array_equal(duty, self.duty))
        )


class Rulebook:
    """The watches in force, in the order in which they tell: those of the city's rules, then those of its policies.

    edge: the next tick at which other rules may be in force within the epoch.
    """

    def __init__(self, timeline: Timeline, ground: Ground) -> None:
        self._operators, self._tick_ms, self._ground = timeline.operators, timeline.tick_ms, ground
        self._calendar = Calendar(timeline.tick_ms, timeline.responses)
        self.watches: list[Watch] = []
        self.edge = NEVER

    def turn(self, city: City | None, moves: Moves) -> Gone:
        """An epoch begins: everything is by this city's rules and policies from now on."""
        rules = city.rules if city else ()
        self._calendar.offsets = city.offsets if city else ()
        before = {watch.rules[0].key: watch for watch in self._of_rules()}
        self._ground.count_cells({ALERT_RESOLUTION} | {rule.resolution for rule in rules})
        kept = [self._watch(rule, before.get(rule.key)) for rule in rules]
        gone = [(watch, watch.dismiss(moves.tick)) for watch in before.values() if watch not in kept]
        self.watches = kept + self._of_policies()
        return gone + self.pass_edge(city, moves)

    def pass_edge(self, city: City | None, moves: Moves) -> Gone:
        """Windows may open and close, policies begin and end: each one whose rules in force are others is made anew."""
        wanted = {one.key: one for one in self._wanted(city, moves.tick)}
        before: dict[str, list[Watch]] = {}
        for watch in self._of_policies():
            before.setdefault(str(watch.key), []).append(watch)
        after = {key: watches for key, watches in before.items() if key in wanted and wanted[key].is_that_of(watches)}
        gone: Gone = []
        for key, watches in before.items():
            if key not in after:
                after[key], cleared = self._remake(key, watches, wanted.get(key), moves)
                gone += cleared
        for key, one in wanted.items():
            if key not in after:
                after[key] = self._open(one, moves)
        self.watches = self._of_rules() + [watch for key in wanted for watch in after[key]]
        self.edge = self._next_edge(city, moves.tick)
        return gone

    def foresee(self, city: City | None, tick: int) -> None:
        """Policies were written in this tick: the next edge may be another one, and comes later than the tick."""
        self.edge = self._next_edge(city, tick)

    def restore(self, city: City | None, tick: int, counts: dict[str, Counts]) -> None:
        """The watches of a tick, without episodes; counts are those of the policies' layers. None, if they do not fit."""
        wanted = list(self._wanted(city, tick))
        resolutions = {rule.resolution for rule in (city.rules if city else ())}
        if {one.key for one in wanted} != counts.keys() or not resolutions <= self._ground.tables.keys():
            return
        self._calendar.offsets = city.offsets if city else ()
        self.watches = [self._watch(rule, None) for rule in (city.rules if city else ())]
        for one in wanted:
            self._ground.layers[one.key], self._ground.tables[one.key] = one.layer(), counts[one.key]
            self.watches += self._watches(one)
        self.edge = self._next_edge(city, tick)

    def named(self, city: City | None, tick: int) -> list[str]:
        """Policy and rule of all that are in force at a tick."""
        rules = [*(city.rules if city else ()), *(rule for one in self._wanted(city, tick) for rule in one.rules)]
        return ["/".join(rule.key) for rule in rules]

    # -- the city's own rules -------------------------------------------------------------------------------------------

    def _of_rules(self) -> list[Watch]:
        return [watch for watch in self.watches if isinstance(watch.key, int)]

    def _watch(self, rule: Rule, before: Watch | None) -> Watch:
        key = rule.resolution
        everybody = np.ones(len(self._operators), np.bool_)
        measure = Crowding((rule,), self._ground.layers[key], self._ground.tables[key], everybody)
        if before is None or before.key != key or before.rules[0].merge != rule.merge:
            return Watch(key, measure, self._calendar)
        before.follow(measure)
        return before

    # -- policies -------------------------------------------------------------------------------------------------------

    def _of_policies(self) -> list[Watch]:
        return [watch for watch in self.watches if isinstance(watch.key, str)]

    def _wanted(self, city: City | None, tick: int) -> Iterator[Wanted]:
        """Every policy that has a rule in force at a tick, in order."""
        for policy in city.policies if city else ():
            assert city is not None
            if rules := policy.rules_at(tick * self._tick_ms, city.offsets):
                operators = np.isin(self._operators, policy.operators or self._operators)
                duty = np.isin(self._operators, policy.operators or city.operators)
                town = Town(city.name, city.boundary, city.geographies if policy.zones is None else policy.zones)
                yield Wanted(policy.policy_id, rules, operators, duty, town)

    def _open(self, one: Wanted, moves: Moves) -> list[Watch]:
        """Count by a policy's rules from now on; all of its areas are to be judged."""
        self._ground.lay(one.key, one.layer())
        watches = self._watches(one)
        moves.touched[one.key] = [np.arange(self._ground.tables[one.key].size, dtype=np.int32)]
        return watches

    def _watches(self, one: Wanted) -> list[Watch]:
        """One for too many, and one for too few if any rule has a minimum."""
        layer, counts = self._ground.layers[one.key], self._ground.tables[one.key]
        assert isinstance(layer, Cascade)
        watches = [Watch(one.key, Crowding(one.rules, layer, counts, one.operators), self._calendar)]
        if any(rule.minimum for rule in one.rules):
            shortage = Shortage(one.rules, layer, counts, one.duty)
            shortage.found_pairs()
            watches.append(Watch(one.key, shortage, self._calendar))
        return watches

    def _remake(self, key: str, before: list[Watch], one: Wanted | None, moves: Moves) -> tuple[list[Watch], Gone]:
        """Count by other rules, or by none, and let those episodes go on that may."""
        for watch in before:
            watch.tally(moves)
            watch.measure.refresh(self._ground.fleets)
        moves.forget(key)
        where = self._ground.drop(key)
        if one is None:
            return [], [(watch, watch.dismiss(moves.tick)) for watch in before]
        after = self._open(one, moves)
        heirs = {watch.measure.kind: watch for watch in after}
        gone: Gone = []
        for watch in before:
            heir = heirs.get(watch.measure.kind)
            passage = _passage(watch, heir) if heir else {}
            gone.append((watch, watch.dismiss(moves.tick, passage.keys())))
            if heir:
                heir.adopt({to: watch.episodes[pair] for pair, to in passage.items()}, watch.incidents.moved(passage))
                _note_who_left(heir, passage, where, self._ground.roster.pairs[key])
        moves.touched[key] = [np.arange(self._ground.tables[key].size, dtype=np.int32)]
        return after, gone

    def _next_edge(self, city: City | None, tick: int) -> int:
        now = tick * self._tick_ms
        edges = (edge for policy in (city.policies if city else ()) for edge in policy.edges(now, city.offsets if city else ()))
        first = min(edges, default=None)
        return NEVER if first is None else -(-first // self._tick_ms)


def _passage(old: Watch, new: Watch) -> dict[int, int]:
    """The episodes that go on under the rules of now: the new pair of each by the old one."""
    rules = {rule.key: i for i, rule in enumerate(new.rules)}
    passage = {}
    for pair in old.episodes:
        rule, operator = old.rule_of(pair), int(old.counts.operators[pair])
        index = rules.get(rule.key)
        if index is None or not new.measure.operators[operator]:
            continue
        heir = new.rules[index]
        if not rule.goes_on_as(heir) or not new.measure.applies(heir):
            continue
        assert isinstance(old.layer, Cascade) and isinstance(new.layer, Cascade)
        code = old.layer.code_as(new.layer, int(old.counts.codes[pair]), index)
        if code is not None:
            passage[pair] = int(new.counts.pairs(np.array([code], np.int64), np.array([operator], np.int16))[0])
    return passage


def _note_who_left(heir: Watch, passage: dict[int, int], before: Pairs, after: Pairs) -> None:
    """Bikes that counted in an old area and do not in the new one have left by policy. before, after: int32, by bike."""
    if not passage:
        return
    now = np.full(max(*passage, int(before.max(initial=0))) + 2, NOWHERE, np.int32)  # the last one is of NOWHERE
    now[list(passage)] = list(passage.values())
    left = (now[before] != NOWHERE) & (after != now[before])
    pairs, count = np.unique(now[before[left]], return_counts=True)
    for pair, bikes in zip(pairs.tolist(), count.tolist(), strict=True):
        heir.episodes[pair].left[POLICY] += bikes
