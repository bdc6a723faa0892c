"""Incidents: crowded cells that touch each other, told of as one. docs/policies.md, section 13.

    cells of before     hot cells of now        what is told
    A A . B B           A A x B B               A updated, B cleared: merged into A (the older one)
    A A A A A           A A . n n               A updated, n raised: split from A
    A A                 . .                     A cleared

Each cell goes on with an episode of its own, which opens and clears as if it were alone; an incident has one more, which is never
over or below by itself: it opens with its first cell and is cleared with its last. Between ticks the incidents of a rule and an
operator are the components of its hot cells, so only those are looked at anew in or beside which a cell opened or cleared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain

from geo.alert import BY_POLICY, CLEARED, MERGED, RAISED, Haul, severity_of
from geo.cells import neighbours
from geo.episodes import NEVER, Episode, Moment, Phase, Reading
from geo.handling import Calendar, Response
from geo.measures import Measure
from geo.silence import Silence
from geo.verdicts import Extent, Relative, Verdict

Spot = tuple[int, int, int]
"""(number of the rule, operator, cell)."""

Pairs = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Incident:
    """Cells that touch, as they were after the last tick. pairs: of the cells, by cell. Its episode is what is told of it.

    `left` of the episode: bikes that left those of its cells that are not hot any more.
    """

    founder: int
    pairs: Pairs
    episode: Episode

    @property
    def age(self) -> tuple[int, int, int]:
        """The least is the oldest."""
        return (self.episode.since, self.episode.opened, self.founder)

    @property
    def relative(self) -> Relative:
        return Relative(self.founder, self.episode.opened)


class Incidents:
    """Those of the rules of one watch that merge.

    _of, _spots    incident and spot of each hot pair
    _pairs         the hot pair at a spot
    """

    def __init__(self, measure: Measure, calendar: Calendar) -> None:
        self._measure, self._calendar = measure, calendar
        self.adopt(())

    def follow(self, measure: Measure) -> None:
        """Judge by this measure of the same layer from now on."""
        self._measure = measure

    def adopt(self, incidents: Iterable[Incident]) -> None:
        """Go on with these."""
        self.all = dict.fromkeys(incidents)
        self._of: dict[int, Incident] = {}
        self._spots: dict[int, Spot] = {}
        self._pairs: dict[Spot, int] = {}
        for incident in self.all:
            for pair in incident.pairs:
                self._learn(pair)
            self._settle(incident, incident.pairs)

    def moved(self, new: Mapping[int, int]) -> list[Incident]:
        """Those whose cells have new pairs, by the old ones, with these; all of an incident's cells have one, or none has."""
        kept = (one for one in self.all if one.pairs[0] in new)
        return [Incident(one.founder, tuple(new[pair] for pair in one.pairs), one.episode) for one in kept]

    def deadline(self) -> int:
        """The first tick at which one is to be judged even if nothing happens to its cells."""
        return min((incident.episode.due for incident in self.all), default=NEVER)

    # -- a tick -----------------------------------------------------------------------------------------------------

    def judge(
        self, cells: Sequence[Verdict], looked_at: Iterable[int], episodes: Mapping[int, Episode], silence: Silence
    ) -> list[Verdict]:
        """What is to be told once cells were judged at `silence.now`; in no order.

        cells: what would be told of the cells, each by itself. looked_at: pairs that were judged. episodes: of cells, by pair.
        """
        opened = [verdict.pair for verdict in cells if verdict.state == RAISED]
        cleared = {verdict.pair: verdict.episode for verdict in cells if verdict.state == CLEARED}
        heirs, extents = self._regroup(opened, cleared, episodes, silence.now)
        ended = [incident for incident in extents if incident.episode.phase is Phase.OPEN]
        verdicts: list[Verdict | None] = [self._end(incident, extents[incident], silence.now) for incident in ended]
        touched = [self._of[pair] for pair in looked_at if pair in self._of]
        due = [incident for incident in self.all if incident.episode.due <= silence.now]
        for incident in dict.fromkeys(chain(heirs, touched, due)):
            self._gather(incident, episodes)
            verdicts.append(self._judge(incident, extents.get(incident), silence))
        return [verdict for verdict in verdicts if verdict is not None]

    def dismiss(self, pairs: Collection[int], tick: int) -> list[Verdict]:
        """What was in force at these cells is not any more: their incidents, of which none has other cells, are cleared by policy."""
        gone = {self._of[pair]: None for pair in pairs if pair in self._of}
        verdicts = [self._end(incident, Extent(incident.founder, incident.pairs), tick, BY_POLICY) for incident in gone]
        for incident in gone:
            for pair in incident.pairs:
                self._forget(pair)
        return verdicts

    def answer(self, pair: int, response: Response, tick: int) -> None:
        """The operator of a hot pair answers, after everything of a tick: it is told at the next one."""
        episode = self._of[pair].episode
        if episode.handling.answer(response, tick):
            episode.due = min(episode.due, tick + 1)

    def _judge(self, incident: Incident, extent: Extent | None, silence: Silence) -> Verdict | None:
        episode, found = incident.episode, self._reading(incident.pairs)
        rule, operator = self._measure.rule_of(incident.pairs[0]), self._spots[incident.pairs[0]][1]
        now = Moment(silence.now, self._calendar, int(silence.spoken[operator]), found)
        if silence.silent[operator]:  # it was so when it opened, or its cells could not have
            state, episode.due = episode.stand_still(rule, now), episode.next_still(rule, now)
        else:
            state = episode.judge(rule, now) if episode.phase is Phase.OPEN else episode.open(now)
            episode.due = episode.next(rule, now)
        if state is None:
            return None
        extent = extent or Extent(incident.founder, incident.pairs)
        return Verdict(episode, incident.pairs[0], state, found.limit, found.bikes, episode.excess, None, extent)

    def _end(self, incident: Incident, extent: Extent, tick: int, cleared_by: str | None = None) -> Verdict:
        del self.all[incident]
        cause = cleared_by or (MERGED if extent.merged_into else incident.episode.cleared_by())
        incident.episode.tell(CLEARED, tick)
        found = self._reading(extent.pairs)
        return Verdict(incident.episode, extent.pairs[0], CLEARED, found.limit, found.bikes, 0, cause, extent)

    def _reading(self, pairs: Pairs) -> Reading:
        """Of all cells together."""
        found = [self._measure.reading(pair) for pair in pairs]
        limit, bikes = sum(one.limit for one in found), sum(one.bikes for one in found)
        excess = sum(one.excess for one in found)
        return Reading(limit, bikes, over=True, below=False, excess=excess, severity=severity_of(bikes, limit))

    # -- which cells make which incident ----------------------------------------------------------------------------

    def _regroup(
        self, opened: Sequence[int], cleared: Mapping[int, Episode], episodes: Mapping[int, Episode], tick: int
    ) -> tuple[list[Incident], dict[Incident, Extent]]:
        """Give the cells that are hot now their incidents: those whose cells may be others; those that are new or have ended."""
        for pair in opened:
            self._learn(pair)
        had = self._around(opened, cleared)
        for pair, episode in cleared.items():
            _add(self._of[pair].episode.left, episode.left)
        still = {incident: [pair for pair in pairs if pair not in cleared] for incident, pairs in had.items()}
        part_of = {pair: part for part in self._components(chain(opened, *still.values())) for pair in part}
        going: dict[Pairs, list[Incident]] = {part: [] for part in part_of.values()}
        extents = {incident: Extent(incident.founder, pairs) for incident, pairs in had.items() if not still[incident]}
        for incident, pairs in still.items():
            if pairs:
                going[part_of[self._oldest(pairs, episodes)]].append(incident)
        heirs: dict[Pairs, Incident] = {}
        for part, incidents in going.items():
            if incidents:
                heirs[part] = min(incidents, key=lambda one: one.age)
                extents |= {one: self._take_in(heirs[part], one) for one in incidents if one is not heirs[part]}
            else:
                heirs[part], extent = self._new(part, episodes, tick)
                extents[heirs[part]] = extent
        for pair in cleared:
            self._forget(pair)
        for part, heir in heirs.items():
            self._settle(heir, part)
        return list(heirs.values()), extents

    def _around(self, opened: Iterable[int], cleared: Iterable[int]) -> dict[Incident, Pairs]:
        """The incidents in which cells cleared, and those beside which any opened; with the cells that they had."""
        beside = (near for pair in opened for near in self._beside(pair))
        return {self._of[pair]: self._of[pair].pairs for pair in chain(cleared, beside) if pair in self._of}

    @staticmethod
    def _take_in(heir: Incident, other: Incident) -> Extent:
        _add(heir.episode.left, other.episode.left)
        return Extent(other.founder, other.pairs, merged_into=heir.relative)

    def _new(self, part: Pairs, episodes: Mapping[int, Episode], tick: int) -> tuple[Incident, Extent]:
        """An incident of its own; as old, and as far answered and escalated, as the oldest that any of its cells was part of."""
        parents = {self._of[pair] for pair in part if pair in self._of}
        parent = min(parents, key=lambda incident: incident.age, default=None)
        founder = self._spots[self._oldest(part, episodes)][2]
        episode = Episode(since=tick)
        if parent is not None:
            episode.since, episode.handling = parent.episode.since, deepcopy(parent.episode.handling)
        incident = Incident(founder, part, episode)
        self.all[incident] = None
        return incident, Extent(founder, part, split_from=parent.relative if parent else None)

    def _components(self, hot: Iterable[int]) -> Iterable[Pairs]:
        """The parts of hot cells of which each touches another one of it, each by cell."""
        left = set(hot)
        while left:
            part: list[int] = []
            edge = [left.pop()]
            while edge:
                part.append(edge.pop())
                near = [pair for pair in self._beside(part[-1]) if pair in left]
                left.difference_update(near)
                edge += near
            yield tuple(sorted(part, key=lambda pair: self._spots[pair]))

    def _beside(self, pair: int) -> list[int]:
        """Pairs of the same rule and operator in neighbouring cells that are hot, or were before this tick."""
        rule, operator, cell = self._spots[pair]
        near = (self._pairs.get((rule, operator, other)) for other in neighbours(cell))
        return [other for other in near if other is not None]

    def _oldest(self, pairs: Iterable[int], episodes: Mapping[int, Episode]) -> int:
        return min(pairs, key=lambda pair: (episodes[pair].opened, self._spots[pair]))

    @staticmethod
    def _gather(incident: Incident, episodes: Mapping[int, Episode]) -> None:
        """Its moves are those of its cells."""
        incident.episode.hauls = _together(chain.from_iterable(episodes[pair].hauls for pair in incident.pairs))

    def _settle(self, incident: Incident, pairs: Pairs) -> None:
        incident.pairs = pairs
        incident.episode.cells = tuple(self._spots[pair][2] for pair in pairs)
        self._of.update(dict.fromkeys(pairs, incident))

    def _learn(self, pair: int) -> None:
        layer, counts = self._measure.layer, self._measure.counts
        cell = layer.cell_of(int(counts.codes[pair]))
        assert cell is not None, "only cells are merged"
        spot = (self._measure.index_of(pair), int(counts.operators[pair]), cell)
        self._spots[pair], self._pairs[spot] = spot, pair

    def _forget(self, pair: int) -> None:
        del self._of[pair], self._pairs[self._spots.pop(pair)]


def _add(to: list[int], more: Sequence[int]) -> None:
    to[:] = map(sum, zip(to, more, strict=True))


def _together(hauls: Iterable[Haul]) -> tuple[Haul, ...]:
    """Moves of several cells: those to one destination as one, over their mean distance by bikes; the depot last."""
    found: dict[int, list[Haul]] = {}
    for haul in hauls:
        found.setdefault(haul.to, []).append(haul)
    return tuple(sorted(map(_as_one, found.values()), key=lambda haul: (not haul.to, haul)))


def _as_one(hauls: Sequence[Haul]) -> Haul:
    """Moves to the same destination. Half a metre is rounded up."""
    bikes, bike_metres = sum(haul.bikes for haul in hauls), sum(haul.bikes * haul.distance_m for haul in hauls)
    return hauls[0]._replace(bikes=bikes, distance_m=(2 * bike_metres + bikes) // (2 * bikes))
