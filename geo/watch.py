"""One rule over all cells of a city: which of them to judge at a tick, without looking at those that nothing happened to.

Every (rule, cell, operator) is judged at every tick at which its operator speaks, says the rule. Judging one at which
nothing changed and nothing is due changes nothing; so only those are judged whose count changed, whose deadline has come,
or whose operator is back. To judge too many is never wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from geo.alert import BY_POLICY, CLEARED
from geo.cells import area_e4, least_area_e4
from geo.counts import Counts, Slots
from geo.episodes import NEVER, Episode, Limits, Moment, Phase
from geo.ground import Moves
from geo.params import Rule
from geo.silence import Silence


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be told of one episode at a tick, and what was found there."""

    episode: Episode
    pair: int
    state: str
    maximum: int
    count: int
    excess: int
    cleared_by: str | None


class Watch:
    """One rule over the pairs of its resolution.

    episodes   those that are not idle, by pair
    _tracked   bool (capacity,)   pairs that have one
    _maximum   int64 (capacity,)  of each pair; -1: not computed yet, as hardly any pair ever comes near it
    """

    def __init__(self, rule: Rule, counts: Counts, tick_ms: int) -> None:
        self.counts = counts
        self.episodes: dict[int, Episode] = {}
        self._tick_ms = tick_ms
        self._tracked = np.zeros(0, np.bool_)
        self._deadlines: list[tuple[int, int]] = []  # heap of (tick, pair); one that its episode does not know is void
        self.follow(rule)

    def follow(self, rule: Rule) -> None:
        """Judge by this rule from now on; it has the resolution of the one before."""
        self.rule = rule
        self._maximum = np.zeros(0, np.int64)
        self._harmless = self._maximum_of(least_area_e4(rule.resolution))

    def deadline(self) -> int | None:
        """The first tick at which something is to be judged even if nothing happens."""
        heap = self._deadlines
        while heap and self._is_void(*heap[0]):
            heappop(heap)
        return heap[0][0] if heap else None

    def judge(self, moves: Moves, silence: Silence, allowed: NDArray[np.bool_]) -> list[Verdict]:
        """Judge what moved, and all that is due at `silence.now`; in (cell, operator) order.

        allowed: bool (operators,). Whatever is open of others is cleared by policy.
        """
        self._fit()
        for gone, causes in moves.departed.get(self.rule.resolution, ()):
            self._tally(gone, causes)
        pairs, due = moves.to_judge(self.rule.resolution), self._pop_due(silence.now)
        if due:
            pairs = np.union1d(pairs, np.array(due, np.int32))
        pairs = pairs[self._over(pairs) | self._tracked[pairs]]
        operators = self.counts.operators[pairs]
        judged = allowed[operators] & ~silence.silent[operators]
        spoken = silence.spoken[operators[judged]].tolist()
        verdicts = [self._dismiss(pair, silence.now) for pair in pairs[~allowed[operators]].tolist()]
        verdicts += map(self._judge, pairs[judged].tolist(), repeat(silence.now), spoken)
        return self._in_order(verdicts)

    def dismiss_all(self, tick: int) -> list[Verdict]:
        """The rule is gone: what is open is cleared by policy, in order; all else is forgotten."""
        return self._in_order([self._dismiss(pair, tick) for pair in list(self.episodes)])

    def open_pairs(self) -> list[int]:
        """Pairs that have an open episode."""
        return [pair for pair, episode in self.episodes.items() if episode.phase is Phase.OPEN]

    def tracked(self) -> NDArray[np.bool_]:
        """Pairs that must keep their slot: bool (counts.size,)."""
        self._fit()
        return self._tracked[: self.counts.size]

    def renumber(self, new: Slots) -> None:
        """The counts were compacted: int32, the new slot of each old one."""
        self.adopt({int(new[pair]): episode for pair, episode in self.episodes.items()})

    def adopt(self, episodes: dict[int, Episode]) -> None:
        """Go on with these episodes, by pair."""
        self.episodes = episodes
        self._tracked, self._maximum = np.zeros(0, np.bool_), np.zeros(0, np.int64)
        self._fit()
        self._tracked[list(episodes)] = True
        self._deadlines = [(episode.due, pair) for pair, episode in episodes.items() if episode.due != NEVER]
        heapify(self._deadlines)

    def _judge(self, pair: int, tick: int, spoken: int) -> Verdict | None:
        count, maximum = int(self.counts.count[pair]), self._maximum_at(pair)
        now = Moment(tick, self._tick_ms, spoken, count, Limits.of(self.rule, maximum))
        episode = self.episodes.get(pair) or Episode()
        state = episode.judge(self.rule, now)
        self._keep(pair, episode)
        self._arm(pair, episode, episode.next(self.rule, now), tick)
        if state is None:
            return None
        if state == CLEARED:
            return Verdict(episode, pair, state, maximum, count, excess=0, cleared_by=episode.cleared_by())
        return Verdict(episode, pair, state, maximum, count, excess=episode.excess, cleared_by=None)

    def _dismiss(self, pair: int, tick: int) -> Verdict | None:
        episode = self.episodes.pop(pair)
        self._tracked[pair] = False
        if episode.phase is not Phase.OPEN:
            return None
        episode.tell(tick)
        count = int(self.counts.count[pair])
        return Verdict(episode, pair, CLEARED, self._maximum_at(pair), count, excess=0, cleared_by=BY_POLICY)

    def _tally(self, pairs: Slots, causes: NDArray[np.uint8]) -> None:
        tracked = np.flatnonzero(self._tracked[pairs])
        for pair, cause in zip(pairs[tracked].tolist(), causes[tracked].tolist(), strict=True):
            self.episodes[pair].left[cause] += 1

    def _keep(self, pair: int, episode: Episode) -> None:
        if episode.phase is Phase.IDLE:
            self.episodes.pop(pair, None)
        else:
            self.episodes[pair] = episode
        self._tracked[pair] = episode.phase is not Phase.IDLE

    def _arm(self, pair: int, episode: Episode, due: int, now: int) -> None:
        """See to it that the pair is judged at `due`. Sooner does not hurt: an earlier deadline stays as it is."""
        if now < episode.due <= due:
            return
        episode.due = due
        if due != NEVER:
            heappush(self._deadlines, (due, pair))

    def _pop_due(self, tick: int) -> list[int]:
        due = []
        while self._deadlines and self._deadlines[0][0] <= tick:
            at, pair = heappop(self._deadlines)
            if not self._is_void(at, pair):
                self.episodes[pair].due = NEVER
                due.append(pair)
        return due

    def _is_void(self, at: int, pair: int) -> bool:
        episode = self.episodes.get(pair)
        return episode is None or episode.due != at

    def _over(self, pairs: Slots) -> NDArray[np.bool_]:
        """Which of the pairs hold more than they may: bool (n,)."""
        count = self.counts.count[pairs]
        over = np.zeros(len(pairs), np.bool_)
        for i in np.flatnonzero(count > self._harmless).tolist():
            over[i] = count[i] > self._maximum_at(int(pairs[i]))
        return over

    def _maximum_at(self, pair: int) -> int:
        self._fit()
        maximum = int(self._maximum[pair])
        if maximum < 0:
            maximum = self._maximum[pair] = self._maximum_of(area_e4(int(self.counts.cells[pair])))
        return maximum

    def _maximum_of(self, area: int) -> int:
        per_hectare = self.rule.per_hectare
        return per_hectare.numerator * area // (per_hectare.denominator * 10_000)

    def _fit(self) -> None:
        capacity = len(self.counts.count)
        if capacity > len(self._tracked):
            self._tracked = np.concatenate((self._tracked, np.zeros(capacity - len(self._tracked), np.bool_)))
        if capacity > len(self._maximum):
            self._maximum = np.concatenate((self._maximum, np.full(capacity - len(self._maximum), -1, np.int64)))

    def _in_order(self, verdicts: Iterable[Verdict | None]) -> list[Verdict]:
        cells, operators = self.counts.cells, self.counts.operators
        told = [verdict for verdict in verdicts if verdict is not None]
        return sorted(told, key=lambda verdict: (cells[verdict.pair], operators[verdict.pair]))
