"""Rules over all areas of a layer: which of them to judge at a tick, without looking at those that nothing happened to.

Every (rule, area, operator) is judged at every tick at which its operator speaks, says the rule. Judging one at which
nothing changed and nothing is due changes nothing; so only those are judged whose count changed, whose deadline has come,
or whose operator is back. To judge too many is never wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import compress, repeat

import numpy as np
from numpy.typing import NDArray

from geo.alert import BY_POLICY, CLEARED, DEFICIT, RESTOCKED
from geo.counts import Counts, Slots
from geo.episodes import NEVER, Episode, Moment, Phase, Reading
from geo.ground import Ground, Moves
from geo.handling import Calendar, Response
from geo.layers import Layer
from geo.measures import Measure
from geo.policy import Rule
from geo.roster import Key
from geo.silence import Silence


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be told of one episode at a tick, and what was found there."""

    episode: Episode
    pair: int
    state: str
    limit: int
    count: int
    excess: int
    cleared_by: str | None


class Watch:
    """What one measure finds in the pairs of a layer, over time.

    episodes   those that are not idle, by pair
    _tracked   bool (capacity,)   pairs that have one
    """

    def __init__(self, key: Key, measure: Measure, calendar: Calendar) -> None:
        self.key = key
        self.measure = measure
        self.episodes: dict[int, Episode] = {}
        self._calendar = calendar
        self._tracked = np.zeros(0, np.bool_)
        self._deadlines: list[tuple[int, int]] = []  # heap of (tick, pair); one that its episode does not know is void

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(self.measure.rules)

    @property
    def layer(self) -> Layer:
        return self.measure.layer

    @property
    def counts(self) -> Counts:
        return self.measure.counts

    def rule_of(self, pair: int) -> Rule:
        return self.measure.rule_of(pair)

    def follow(self, measure: Measure) -> None:
        """Judge by this measure of the same layer from now on."""
        self.measure = measure

    def deadline(self) -> int | None:
        """The first tick at which something is to be judged even if nothing happens."""
        heap = self._deadlines
        while heap and self._is_void(*heap[0]):
            heappop(heap)
        return heap[0][0] if heap else None

    def judge(self, moves: Moves, ground: Ground, silence: Silence, allowed: NDArray[np.bool_]) -> list[Verdict]:
        """Judge what moved, and all that is due at `silence.now`; in (area, operator) order.

        allowed: bool (operators,). Whatever is open of others is cleared by policy.
        """
        self._fit()
        self.tally(moves)
        pairs = self._to_judge(moves, ground, silence.now)
        operators = self.counts.operators[pairs]
        judged = allowed[operators] & ~silence.silent[operators]
        still = allowed[operators] & ~judged & self._tracked[pairs]
        spoken = silence.spoken[operators].tolist()
        verdicts = [self._dismiss(pair, silence.now) for pair in pairs[~allowed[operators]].tolist() if pair in self.episodes]
        verdicts += [self._stand_still(pair, silence.now) for pair in pairs[still].tolist()]
        verdicts += map(self._judge, pairs[judged].tolist(), repeat(silence.now), compress(spoken, judged.tolist()))
        return self._in_order(verdicts)

    def answer(self, pair: int, response: Response, tick: int) -> None:
        """The operator of a pair with an open episode answers, after everything of a tick: it is told at the next one."""
        episode = self.episodes[pair]
        if episode.handling.answer(response, tick):
            self._arm(pair, episode, tick + 1, tick)

    def tally(self, moves: Moves) -> None:
        """Note why bikes left the areas of episodes."""
        self._fit()
        for gone, causes in moves.departed.get(self.key, ()):
            tracked = np.flatnonzero(self._tracked[gone])
            for pair, cause in zip(gone[tracked].tolist(), causes[tracked].tolist(), strict=True):
                self.episodes[pair].left[cause] += 1

    def dismiss(self, tick: int, but: Collection[int] = ()) -> list[Verdict]:
        """The rules are gone, but for those of some pairs: what is open is cleared by policy, in order, all else forgotten."""
        return self._in_order([self._dismiss(pair, tick) for pair in list(self.episodes) if pair not in but])

    def open_pairs(self) -> list[int]:
        """Pairs that have an open episode."""
        return [pair for pair, episode in self.episodes.items() if episode.phase is Phase.OPEN]

    def are_open(self, pairs: Slots) -> NDArray[np.bool_]:
        """Which of n pairs, -1 for none, have an open episode: bool (n,)."""
        self._fit()
        open_ = (pairs >= 0) & self._tracked[pairs]
        open_[open_] = [self.episodes[pair].phase is Phase.OPEN for pair in pairs[open_].tolist()]
        return open_

    def tracked(self) -> NDArray[np.bool_]:
        """Pairs that must keep their slot: bool (counts.size,)."""
        self._fit()
        if self.measure.kind == DEFICIT:  # where nothing is, it is missing
            return np.ones(self.counts.size, np.bool_)
        return self._tracked[: self.counts.size]

    def renumber(self, new: Slots) -> None:
        """The counts were compacted: int32, the new slot of each old one."""
        self.measure.forget()
        self.adopt({int(new[pair]): episode for pair, episode in self.episodes.items()})

    def adopt(self, episodes: dict[int, Episode]) -> None:
        """Go on with these episodes, by pair."""
        self.episodes = episodes
        self._tracked = np.zeros(0, np.bool_)
        self._fit()
        self._tracked[list(episodes)] = True
        self._deadlines = [(episode.due, pair) for pair, episode in episodes.items() if episode.due != NEVER]
        heapify(self._deadlines)

    def _to_judge(self, moves: Moves, ground: Ground, tick: int) -> Slots:
        pairs, due = moves.to_judge(self.key), self._pop_due(tick)
        shares = self.measure.refresh(ground.fleets)
        if due or len(shares):
            pairs = np.union1d(pairs, np.concatenate((np.array(due, np.int32), shares)))
        pairs = self.measure.related(pairs)
        return pairs[self.measure.suspects(pairs) | self._tracked[pairs]]

    def _judge(self, pair: int, tick: int, spoken: int) -> Verdict | None:
        found, rule = self.measure.reading(pair), self.rule_of(pair)
        now = Moment(tick, self._calendar, spoken, found)
        episode = self.episodes.get(pair) or Episode()
        state = episode.judge(rule, now)
        self._keep(pair, episode)
        self._arm(pair, episode, episode.next(rule, now), tick)
        return self._verdict(pair, state, episode, found)

    def _stand_still(self, pair: int, tick: int) -> Verdict | None:
        """What there is to tell of an episode whose operator is silent."""
        found, rule, episode = self.measure.reading(pair), self.rule_of(pair), self.episodes[pair]
        now = Moment(tick, self._calendar, 0, found)
        state = episode.stand_still(rule, now)
        self._arm(pair, episode, episode.next_still(rule, now), tick)
        return self._verdict(pair, state, episode, found)

    def _verdict(self, pair: int, state: str | None, episode: Episode, found: Reading) -> Verdict | None:
        if state is None:
            return None
        if state == CLEARED:
            cause = RESTOCKED if self.measure.kind == DEFICIT else episode.cleared_by()
            return Verdict(episode, pair, state, found.limit, found.bikes, excess=0, cleared_by=cause)
        return Verdict(episode, pair, state, found.limit, found.bikes, excess=episode.excess, cleared_by=None)

    def _dismiss(self, pair: int, tick: int) -> Verdict | None:
        episode = self.episodes.pop(pair)
        self._tracked[pair] = False
        if episode.phase is not Phase.OPEN:
            return None
        episode.tell(CLEARED, tick)
        found = self.measure.reading(pair)
        return Verdict(episode, pair, CLEARED, found.limit, found.bikes, excess=0, cleared_by=BY_POLICY)

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

    def _fit(self) -> None:
        missing = len(self.counts.count) - len(self._tracked)
        if missing > 0:
            self._tracked = np.concatenate((self._tracked, np.zeros(missing, np.bool_)))

    def _in_order(self, verdicts: Iterable[Verdict | None]) -> list[Verdict]:
        told = [verdict for verdict in verdicts if verdict is not None]
        codes, operators = self.counts.codes, self.counts.operators
        rules = self.layer.rule_of(codes[[verdict.pair for verdict in told]]).tolist()
        order = {verdict.pair: (rule, codes[verdict.pair]) for verdict, rule in zip(told, rules, strict=True)}
        return sorted(told, key=lambda verdict: (*order[verdict.pair], operators[verdict.pair]))
