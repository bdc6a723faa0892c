"""The life of an alert on one (rule, area, operator). docs/semantics.md, section 6.

    IDLE --over--> PENDING --over for `for_ms`--> OPEN --below clear for `keep_firing_for_ms`--> COOLDOWN --until--> IDLE
         <--not over--              raised     updated, escalated                  cleared

Speaking times are ms of the operator's S, which stands still while the operator is silent; all else counts ticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from geo.alert import CLEARED, ESCALATED, RAISED, UPDATED, Haul
from geo.ground import CAUSES
from geo.handling import NEVER as NEVER
from geo.handling import Calendar, Handling
from geo.policy import Rule

NOT_BELOW = -(2**62)


class Phase(IntEnum):
    IDLE = 0
    PENDING = 1
    OPEN = 2
    COOLDOWN = 3


class Reading(NamedTuple):
    """How a rule finds an area for one operator. What is too many of a maximum is too few of a minimum."""

    limit: int  # the greatest (of a minimum: the least) allowed number
    bikes: int  # of the operator, that count
    over: bool  # out of bounds
    below: bool  # all clear
    excess: int  # bikes too many, or too few
    severity: str


class Moment(NamedTuple):
    """A tick, and how it finds the area."""

    tick: int
    calendar: Calendar
    spoken: int
    found: Reading

    @property
    def tick_ms(self) -> int:
        return self.calendar.tick_ms

    def after(self, duration_ms: int) -> int:
        """The first tick by which so much time has passed."""
        return self.tick - (-duration_ms // self.tick_ms)


@dataclass(slots=True)
class Episode:
    """From idle to idle. Of the event that was sent last: sequence (0: none yet), tick, state, excess, severity, moves, body.

    hauls, told   where its bikes are to be brought by the plan that acts now, and by the last event; the depot last
    cells, told_cells   of an incident (`geo/incidents.py`): its cells now, and in the last event; else none
    """

    phase: Phase = Phase.IDLE
    over_since: int = 0  # S
    below_since: int = NOT_BELOW  # S
    opened: int = 0
    since: int = 0  # the tick from which its deadlines run: `opened`, if it was not split from another one
    until: int = 0  # the first tick after the cooldown
    due: int = NEVER  # the tick at which it is to be judged if nothing happens before
    left: list[int] = field(default_factory=lambda: [0] * len(CAUSES))  # bikes gone since it opened, by cause
    sequence: int = 0
    last_event: int = 0
    state: str = RAISED
    excess: int = 0
    severity: str = ""
    tells_all: bool = False  # its operator was told the count of all operators
    body: bytes = b""
    hauls: tuple[Haul, ...] = ()
    told: tuple[Haul, ...] = ()
    cells: tuple[int, ...] = ()
    told_cells: tuple[int, ...] = ()
    handling: Handling = field(default_factory=Handling)

    @property
    def responded(self) -> int:
        """The tick of the first response to it, NEVER if there is none."""
        return self.handling.responded

    def judge(self, rule: Rule, now: Moment) -> str | None:
        """One tick: what is to be told, if anything. To be judged twice in one tick, or for nothing, changes nothing."""
        if self.phase is Phase.COOLDOWN and now.tick >= self.until:
            self.phase = Phase.IDLE
        if self.phase is Phase.OPEN:
            state = self._while_open(rule, now)
        elif self.phase is Phase.COOLDOWN:
            state = None
        else:
            state = self._before_opening(rule, now)
        return self._told(state, now)

    def open(self, now: Moment) -> str | None:
        """Raise it at once, with the moves that it has: what an incident is of has waited already."""
        self.phase, self.opened = Phase.OPEN, now.tick
        return self._told(RAISED, now)

    def stand_still(self, rule: Rule, now: Moment) -> str | None:
        """The same while its operator is silent: only deadlines pass, and what was answered is told."""
        return self._told(self._handled(rule, now), now) if self.phase is Phase.OPEN else None

    def next(self, rule: Rule, now: Moment) -> int:
        """The first later tick at which a judgement can differ from that of now, if neither count nor silence changes."""
        if self.phase is Phase.IDLE:
            return NEVER
        if self.phase is Phase.PENDING:
            return now.after(self.over_since + rule.for_ms - now.spoken)
        if self.phase is Phase.COOLDOWN:
            return max(self.until, now.tick + 1)
        due = self.next_still(rule, now)
        if self.below_since != NOT_BELOW:
            due = min(due, now.after(self.below_since + rule.keep_firing_for_ms - now.spoken))
        elif now.found.below:  # only in the tick of opening, which looks no further
            due = now.tick + 1
        if self._has_news(now.found):
            waited_ms = (now.tick - self.last_event) * now.tick_ms
            due = min(due, max(now.after(rule.update_interval_ms - waited_ms), now.tick + 1))
        return due

    def next_still(self, rule: Rule, now: Moment) -> int:
        """The same while its operator is silent."""
        return self.handling.next(now.calendar.passes(rule, self.opened, self.since)) if self.phase is Phase.OPEN else NEVER

    def tell(self, state: str, tick: int) -> None:
        """One more event."""
        self.sequence += 1
        self.last_event, self.state = tick, state
        self.handling.news = False

    def cleared_by(self) -> str:
        """The cause that took most bikes away, of equals the first."""
        return CAUSES[self.left.index(max(self.left))]

    def _before_opening(self, rule: Rule, now: Moment) -> str | None:
        if not now.found.over:
            self.phase = Phase.IDLE
            return None
        if self.phase is Phase.IDLE:
            self.phase, self.over_since = Phase.PENDING, now.spoken
        if now.spoken - self.over_since < rule.for_ms:
            return None
        self.phase, self.opened, self.sequence = Phase.OPEN, now.tick, 0
        self.since = now.tick
        self.below_since, self.left = NOT_BELOW, [0] * len(CAUSES)
        self.hauls = self.told = ()
        self.handling = Handling()
        return RAISED

    def _while_open(self, rule: Rule, now: Moment) -> str | None:
        if not now.found.below:
            self.below_since = NOT_BELOW
        elif self.below_since == NOT_BELOW:
            self.below_since = now.spoken
        if self.below_since != NOT_BELOW and now.spoken - self.below_since >= rule.keep_firing_for_ms:
            self.phase, self.until = Phase.COOLDOWN, now.after(rule.cooldown_ms)
            self.hauls = self.told = ()
            return CLEARED
        if handled := self._handled(rule, now):
            return handled
        waited_ms = (now.tick - self.last_event) * now.tick_ms
        return UPDATED if waited_ms >= rule.update_interval_ms and self._has_news(now.found) else None

    def _handled(self, rule: Rule, now: Moment) -> str | None:
        """Deadlines and responses: what they are to be told as, if there is any news."""
        if self.handling.escalate(now.calendar.passes(rule, self.opened, self.since), now.tick):
            return ESCALATED
        return UPDATED if self.handling.news else None

    def _told(self, state: str | None, now: Moment) -> str | None:
        if state is not None:
            self.tell(state, now.tick)
        if state in (RAISED, UPDATED, ESCALATED):
            self.excess, self.severity, self.told = now.found.excess, self.handling.severity(now.found.severity), self.hauls
            self.told_cells = self.cells
        return state

    def _has_news(self, found: Reading) -> bool:
        graver_or_not = self.handling.severity(found.severity) != self.severity
        elsewhere = self.told_cells != self.cells or _lead_elsewhere(self.told, self.hauls)
        return graver_or_not or elsewhere or _differs(self.excess, found.excess)


def _differs(sent: int, excess: int) -> bool:
    """Whether the excess has changed by enough to tell: by three bikes, or by a fifth of what was said last."""
    delta = abs(excess - sent)
    return delta > 0 and (delta >= 3 or 5 * delta >= sent)


def _lead_elsewhere(told: Sequence[Haul], now: Sequence[Haul]) -> bool:
    """Whether moves have changed by enough to tell: by as many bikes as an excess must, or a cell that was named must not be gone to."""
    if told == now:
        return False
    before, after = ({haul.to: haul.bikes for haul in hauls} for hauls in (told, now))
    if any(cell and cell not in after for cell in before):
        return True
    more = sum(max(0, after[to] - before.get(to, 0)) for to in after)
    fewer = sum(max(0, before[to] - after.get(to, 0)) for to in before)
    told_bikes = sum(before.values())
    return _differs(told_bikes, told_bikes + max(more, fewer))
