"""The city: what all sources say of it, worked tick by tick into alerts. docs/semantics.md, sections 5 to 8.

The order of a tick stands in `CityState._work`. Time is a discrete-event simulation: the city goes to the next tick at
which a source said something or to the next deadline, whichever is first; all ticks between would change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from geo import city_pack
from geo.alert import Event, end_of
from geo.cells import ALERT_RESOLUTION
from geo.decrees import Decrees, Read, Reading
from geo.degraded import Degraded
from geo.density import Density, Doubts
from geo.desk import Desk
from geo.episodes import NEVER
from geo.frame import Document
from geo.ground import Ground, Moves
from geo.merge import Sections
from geo.outages import Outages, Turn
from geo.params import City, Epoch, Planning, Timeline
from geo.rebalancing import Rebalancing
from geo.report import Reports
from geo.responses import Responses
from geo.roster import Told, told_by
from geo.rulebook import Gone, Rulebook
from geo.silence import Packed, Silence
from geo.watch import Watch

__all__ = ["CityState", "Event"]


def _unread(body: bytes) -> Reading:
    raise ValueError("this city is told of policies and was given nothing to read them with; pass `read`")


class CityState:
    """Ground, silence and episodes of one city, at the end of tick `done` at all times."""

    def __init__(self, name: str, timeline: Timeline, read: Read = _unread) -> None:
        """read: reads the documents of policies."""
        operators = len(timeline.operators)
        self.name, self.timeline = name, timeline
        self.done = -1
        self.begun = False  # nothing happens before the first tick at which any feed has a record, and the city exists
        self._born = min((e.from_tick for e in timeline.epochs if name in [c.name for c in e.cities]), default=NEVER)
        self.epoch_index = -1
        self.allowed = np.zeros(operators, np.bool_)  # operators, by the epoch in force
        self.silence = Silence(operators, timeline.tick_ms, 0)
        self.ground = Ground(operators)
        self.rulebook = Rulebook(timeline, self.ground)
        self.outages = Outages()
        self.degraded = Degraded(timeline.tick_ms)
        self.read = read
        self.decrees = Decrees(name, timeline.tick_ms)
        self.ruled: City | None = None  # the city of this epoch with all policies that are in force, or will be
        self.density = Density(name, timeline.operators, timeline.tick_ms)
        self.rebalancing = Rebalancing(name, timeline, self.ground)
        self.reports = Reports(name, timeline)
        self.responses = Responses(name, timeline)
        self._desk = Desk(name, timeline)

    def advance(
        self, through: int, ticks: Sequence[tuple[int, Sections]], documents: Sequence[tuple[int, tuple[Document, ...]]] = ()
    ) -> list[Event]:
        """Work the given ticks of (done, through], ascending, and every deadline up to `through`: what happened, in order.

        ticks: all at which any feed has a record, even if it says nothing of this city. documents: what control topics say
        to it, at the ticks at which they do.
        """
        events: list[Event] = []
        said, told = dict(ticks), dict(documents)
        for tick in sorted(said.keys() | told.keys()):
            if tick < self._born:
                continue
            if tick in said:
                self._begin(tick)
            events += self._pass_deadlines(tick - 1)
            if self.begun:
                events += self._work(tick, said.get(tick, ()))
            events += self._heed(tick, told.get(tick, ()))
        events += self._pass_deadlines(through)
        self.done = max(self.done, through)
        return events

    def open_events(self) -> dict[str, Event]:
        """By episode id, the newest event of every episode that is open."""
        newest = [*self._desk.newest(self.outages, self.degraded, self.watches), *self.decrees.open_events()]
        return {event.episode_id: event for event in newest}

    def roster_count(self, operator: str | None = None) -> int:
        """Bikes that stand, of one operator or of all."""
        stands = self.ground.roster.rows["stands"]
        if operator is not None:
            stands = stands & (self.ground.roster.operators == self.timeline.operators.index(operator))
        return int(np.count_nonzero(stands))

    def counts(self, resolution: int = ALERT_RESOLUTION) -> Iterator[tuple[int, str, int]]:
        """(cell, operator, bikes) of all that are not empty. Resolution 9 and those of the rules in force are counted."""
        if table := self.ground.tables.get(resolution):
            occupied = np.flatnonzero(table.count[: table.size])
            columns = (column[occupied].tolist() for column in (table.codes, table.operators, table.count))
            for cell, operator, count in zip(*columns, strict=True):
                yield cell, self.timeline.operators[operator], count

    @property
    def watches(self) -> list[Watch]:
        """Of the rules in force, in their order."""
        return self.rulebook.watches

    def pack(self) -> Packed:
        """The whole state at the end of `done`."""
        return city_pack.pack(self)

    @classmethod
    def restore(cls, name: str, timeline: Timeline, packed: Packed, read: Read = _unread) -> CityState:
        """The state that was packed; operators are found again by their names."""
        state = cls(name, timeline, read)
        city_pack.restore(state, packed)
        return state

    # -- a tick -----------------------------------------------------------------------------------------------------

    def _work(self, tick: int, sections: Sections) -> list[Event]:
        """One tick: who speaks, what is said, what expires, what is in force from now on, what is too much."""
        moves, before = Moves(tick), self.city
        turned = self._turn(tick)
        released = self._watch_operators(tick) if turned else []
        fell, returned = self.silence.advance(tick, self._heard(sections))
        terms = (self.city, self.allowed)
        said = self.ground.weigh(self._aged(told_by(sections)))
        self.ground.apply(self.degraded.sift(tick, said, self.ground, terms), moves)
        self.ground.expire(self.silence, self.epoch.bike.ttl_ms, moves)
        lapses = self.degraded.end(tick, self.ground, terms, moves)
        ruled = turned or tick >= self.rulebook.edge
        gone = self._enforce(turned, moves)
        if turned or returned:
            self.ground.look_at_all(None if turned else returned, moves)
        self.rebalancing.act(self.planning, self.watches, moves)
        events = self._desk.outages(self.outages.judge(Turn(fell, returned, released), self.silence))
        events += self._desk.lapses(lapses)
        judged = [(watch, watch.judge(moves, self.ground, self.silence, self.allowed)) for watch in self.watches]
        for watch, verdicts in gone:
            events += self._desk.told(watch, verdicts, self.ground.roster, before)
            self.reports.note(watch, verdicts, before.offsets if before else ())
        for watch, verdicts in judged:
            events += self._desk.told(watch, verdicts, self.ground.roster, self.city)
            self.reports.note(watch, verdicts, self.city.offsets if self.city else ())
        stirred = any(watch.stirred or verdicts for watch, verdicts in judged)
        happened = moves.touched or gone or ruled or fell or returned or lapses or stirred
        self.rebalancing.note(bool(happened))
        self.rebalancing.plan(tick, self.planning, self.watches, self.allowed & ~self.silence.silent)
        self._tidy()
        doubts = Doubts(self.silence, self.degraded.flags(self.ground))
        self.density.look(tick, self.city, self.ground.tables[ALERT_RESOLUTION], doubts)
        self.reports.look(tick, self.epoch.operators if self.city else (), self.watches)
        return events

    def _heed(self, tick: int, documents: Sequence[Document]) -> list[Event]:
        """Take in what control topics said in this tick: it acts from the next one."""
        events: list[Event] = []
        policies = [document for document in documents if document.kind == "policy"]
        for document in policies:
            reading = self.read(document.body)
            events += self.decrees.take(reading, document.body, tick=tick, epoch=self.timeline.at(tick))
        if policies:
            self.rule(tick)
            self.rulebook.foresee(self.ruled, tick)
        if responses := [document for document in documents if document.kind == "response"]:
            self.responses.take(responses, self.watches, tick)
        return events

    def rule(self, tick: int) -> None:
        """Have the policies of now, and of later, put together."""
        self.decrees.forget(tick * self.timeline.tick_ms)
        self.ruled = self.decrees.over(self.city) if self.city else None

    def _heard(self, sections: Sections) -> NDArray[np.int64]:
        heard = np.zeros(len(self.timeline.operators), np.int64)
        for _, section in sections:
            heard += section.heard
        return heard

    def _aged(self, told: Told) -> Told:
        """The same facts, each with its h: the speaking time at which its bike was heard."""
        ago = end_of(self.silence.now, self.timeline.tick_ms) - told.rows["version"]
        told.rows["spoken"] = self.silence.spoken[told.operator] - ago
        return told

    def _tidy(self) -> None:
        self.ground.compact_roster()
        for key, counts in self.ground.tables.items():
            if counts.wasted():
                watches = [watch for watch in self.watches if watch.key == key]
                renumbered = self.ground.compact_pairs(key, [watch.tracked() for watch in watches])
                for watch in watches:
                    watch.renumber(renumbered)

    # -- time -------------------------------------------------------------------------------------------------------

    def _begin(self, tick: int) -> None:
        if not self.begun:
            self.begun = True
            self.silence = Silence(len(self.timeline.operators), self.timeline.tick_ms, tick)

    def _pass_deadlines(self, through: int) -> list[Event]:
        events: list[Event] = []
        while self.begun and (tick := self._deadline()) <= through:
            events += self._work(tick, ())
        return events

    def _deadline(self) -> int:
        """The first tick after the last one worked at which something can happen by itself."""
        ticks = [self.silence.deadline(), self.ground.expiry.deadline(self.silence, self.epoch.bike.ttl_ms)]
        ticks += [watch.deadline() for watch in self.watches]
        ticks.append(self.rulebook.edge)
        ticks.append(self.degraded.deadline(self.city))
        ticks.append(self.density.deadline(self.silence.now, self.city))
        ticks.append(self.reports.deadline(self.silence.now))
        ticks.append(self.rebalancing.deadline(self.silence.now, self.planning, self.watches))
        ticks += [epoch.from_tick for epoch in self.timeline.epochs[self.epoch_index + 1 :][:1]]
        return min((max(tick, self.silence.now + 1) for tick in ticks if tick is not None), default=NEVER)

    # -- what is in force -------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> Epoch:
        """The epoch of the last tick that was worked."""
        return self.timeline.epochs[self.epoch_index]

    @property
    def city(self) -> City | None:
        """The city as this epoch knows it; None: it does not."""
        return next((city for city in self.epoch.cities if city.name == self.name), None)

    @property
    def planning(self) -> Planning | None:
        """How the city plans where bikes are to be brought; None: it does not."""
        return self.city.planning if self.city else None

    def silent_after_ms(self) -> dict[int, int]:
        """Operators' own thresholds, by index."""
        return {self.timeline.operators.index(name): ms for name, ms in self.epoch.silent_after_ms}

    def follow(self, epoch_index: int) -> None:
        """Work by this epoch from now on. What is in force is then to be put together (`rule`)."""
        self.epoch_index = epoch_index
        self.allowed = np.isin(self.timeline.operators, self.epoch.operators)

    def _turn(self, tick: int) -> bool:
        """Whether an epoch begins at this tick (the city's first one begins one, too)."""
        index = self.timeline.index_at(tick)
        if index == self.epoch_index:
            return False
        self.follow(index)
        return True

    def _watch_operators(self, tick: int) -> list[int]:
        names = self.city.operators if self.city else ()
        watched = [self.timeline.operators.index(name) for name in names if name in self.epoch.operators]
        return self.silence.watch(tick, watched, self.silent_after_ms())

    def _enforce(self, turned: bool, moves: Moves) -> Gone:
        """Bikes of operators that are not allowed any more leave, the rules are those of now; what the old ones leave."""
        if turned:
            self.ground.banish(~self.allowed, moves)
            self.rule(moves.tick)
            return self.rulebook.turn(self.ruled, moves)
        return self.rulebook.pass_edge(self.ruled, moves) if moves.tick >= self.rulebook.edge else []
