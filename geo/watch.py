"""Rules over all areas of a layer: which of them to judge at a tick, without looking at those that nothing happened to.

Every (rule, area, operator) is judged at every tick at which its operator speaks, says the rule. Judging one at which
nothing changed and nothing is due changes nothing; so only those are judged whose count changed, whose deadline has come,
or whose operator is back. To judge too many is never wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import compress, repeat

import numpy as np
from numpy.typing import NDArray

from geo.alert import BY_POLICY, CLEARED, DEFICIT, RESTOCKED
from geo.cells import name_of
from geo.counts import Counts, Slots
from geo.episodes import NEVER, Episode, Moment, Phase, Reading
from geo.ground import Ground, Moves
from geo.handling import Calendar, Response
from geo.incidents import Incident, Incidents
from geo.layers import Layer
from geo.measures import Measure
from geo.policy import Rule
from geo.roster import Key
from geo.silence import Silence
from geo.verdicts import Extent, Verdict


class Watch:
    """What one measure finds in the pairs of a layer, over time.

    episodes   those that are not idle, by pair
    incidents  what is told of those of rules that merge, instead of them
    stirred    whether any opened or ended when they were judged last, told or not
    _tracked   bool (capacity,)   pairs that have one
    """

    def __init__(self, key: Key, measure: Measure, calendar: Calendar) -> None:
        self.key = key
        self.measure = measure
        self._merges = any(rule.merge for rule in measure.rules)
        self.episodes: dict[int, Episode] = {}
        self.incidents = Incidents(measure, calendar)
        self.stirred = False
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

    def name_of(self, pair: int, extent: Extent | None) -> str:
        """Id of the area of a pair, or of the founding cell of the incident that it is part of."""
        return self.layer.name_of(int(self.counts.codes[pair])) if extent is None else name_of(extent.founder)

    def rule_of(self, pair: int) -> Rule:
        return self.measure.rule_of(pair)

    def follow(self, measure: Measure) -> None:
        """Judge by this measure of the same layer from now on."""
        self.measure = measure
        self.incidents.follow(measure)

    def deadline(self) -> int | None:
        """The first tick at which something is to be judged even if nothing happens."""
        heap = self._deadlines
        while heap and self._is_void(*heap[0]):
            heappop(heap)
        due = min(heap[0][0] if heap else NEVER, self.incidents.deadline())
        return None if due == NEVER else due

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
        dismissed = self._dismissed([p for p in pairs[~allowed[operators]].tolist() if p in self.episodes], silence.now)
        spoken = compress(silence.spoken[operators].tolist(), judged.tolist())
        found = [self._stand_still(pair, silence.now) for pair in pairs[still].tolist()]
        found += map(self._judge, pairs[judged].tolist(), repeat(silence.now), spoken)
        verdicts = [verdict for verdict in found if verdict is not None]
        self.stirred = bool(verdicts)
        if self._merges:
            cells = [verdict for verdict in verdicts if self._merging(verdict.pair)]
            verdicts = [verdict for verdict in verdicts if not self._merging(verdict.pair)]
            verdicts += self.incidents.judge(cells, pairs[judged | still].tolist(), self.episodes, silence)
        return self._in_order(verdicts + dismissed)

    def answer(self, pair: int, response: Response, tick: int) -> None:
        """The operator of a pair with an open episode answers, after everything of a tick: it is told at the next one."""
        if self._merging(pair):
            return self.incidents.answer(pair, response, tick)
        episode = self.episodes[pair]
        if episode.handling.answer(response, tick):
            self._arm(pair, episode, tick + 1, tick)
        return None

    def tally(self, moves: Moves) -> None:
        """Note why bikes left the areas of episodes."""
        self._fit()
        for gone, causes in moves.departed.get(self.key, ()):
            tracked = np.flatnonzero(self._tracked[gone])
            for pair, cause in zip(gone[tracked].tolist(), causes[tracked].tolist(), strict=True):
                self.episodes[pair].left[cause] += 1

    def dismiss(self, tick: int, but: Collection[int] = ()) -> list[Verdict]:
        """The rules are gone, but for those of some pairs: what is open is cleared by policy, in order, all else forgotten."""
        return self._in_order(self._dismissed([pair for pair in self.episodes if pair not in but], tick))

    def told_of(self) -> Iterator[tuple[int, Episode, Extent | None]]:
        """What is open and told of: a pair, the episode, and its extent if it is an incident."""
        yield from ((pair, self.episodes[pair], None) for pair in self.open_pairs() if not self._merging(pair))
        for incident in self.incidents.all:
            yield incident.pairs[0], incident.episode, Extent(incident.founder, incident.pairs)

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
        of = {pair: int(new[pair]) for pair in self.episodes}
        self.adopt({of[pair]: episode for pair, episode in self.episodes.items()}, self.incidents.moved(of))

    def adopt(self, episodes: dict[int, Episode], incidents: Iterable[Incident]) -> None:
        """Go on with these episodes, by pair, and what they make together."""
        self.episodes = episodes
        self.incidents.adopt(incidents)
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

    def _merging(self, pair: int) -> bool:
        return self._merges and self.rule_of(pair).merge

    def _dismissed(self, pairs: Sequence[int], tick: int) -> list[Verdict]:
        """End these episodes, and what they make together, by policy."""
        verdicts = self.incidents.dismiss(pairs, tick) if self._merges else []
        for pair in pairs:
            told = self._dismiss(pair, tick)
            if told is not None and not self._merging(pair):
                verdicts.append(told)
        return verdicts

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

    def _in_order(self, told: Sequence[Verdict]) -> list[Verdict]:
        """By (rule, area, operator); of incidents with the same founding cell the first opened comes first."""
        codes, operators = self.counts.codes, self.counts.operators
        rules = self.layer.rule_of(codes[[verdict.pair for verdict in told]]).tolist()

        def place(one: tuple[int, Verdict]) -> tuple[int, ...]:
            rule, verdict = one
            area = int(codes[verdict.pair]) if verdict.extent is None else verdict.extent.founder
            return (rule, area, int(operators[verdict.pair]), verdict.episode.opened)

        return [verdict for _, verdict in sorted(zip(rules, told, strict=True), key=place)]
