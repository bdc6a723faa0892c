"""Feeds that lose most of a fleet within one tick: not believed at once. docs/semantics.md, section 10.

An operator whose feed does is degraded, and what makes its bikes stand nowhere is held: counts and alerts stay as they were.
It ends when three quarters of the fleet stand again, or when it has lasted for so long that it must be true.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo.alert import BY_POLICY, CLEARED, RAISED
from geo.ground import Ground, Moves
from geo.params import City
from geo.roster import Change

RECOVERED, ACCEPTED = "recovered", "accepted"
"""What ends an episode: most of the fleet is there again, or the loss is believed."""

Flags = NDArray[np.bool_]


@dataclass(slots=True)
class Lapse:
    """An open feed_degraded episode. before, after: bikes that stood at its opening, and would have stood by what the feed
    said. Of the newest event: sequence, tick, body."""

    operator: int
    opened: int
    before: int
    after: int
    sequence: int = 0
    last_event: int = 0
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class LapseVerdict:
    lapse: Lapse
    state: str
    cleared_by: str | None = None


class Degraded:
    """Open episodes by operator: those that are degraded."""

    def __init__(self, tick_ms: int) -> None:
        self._tick_ms = tick_ms
        self.open: dict[int, Lapse] = {}

    def sift(self, tick: int, change: Change, ground: Ground, terms: tuple[City | None, Flags]) -> Change:
        """Of what facts would change: what does so now. The rest is held. terms: the city, and who is allowed in it."""
        gone = change.before["stands"] & ~change.after["stands"]
        if gone.any():
            self._find_losses(tick, change, ground, terms)
        if not self.open:
            return change
        holds = self.flags(ground)[change.operator] & change.before["held"] & ~change.after["stands"]
        ground.hold(change.take(holds))
        return change.take(~holds)

    def end(self, tick: int, ground: Ground, terms: tuple[City | None, Flags], moves: Moves) -> list[LapseVerdict]:
        """What is raised and cleared at a tick, by operator; what was held of those that are not degraded any more acts."""
        if not self.open:
            return []
        there = (ground.standing - ground.held.standing).tolist()
        verdicts = []
        for operator in sorted(self.open):
            lapse = self.open[operator]
            cause = self._ends_by(lapse, tick, there[operator], terms)
            if cause is not None:
                verdicts.append(self._sent(self.open.pop(operator), CLEARED, tick, cause))
            elif lapse.opened == tick:
                verdicts.append(self._sent(lapse, RAISED, tick))
        ended = np.zeros(len(ground.standing), np.bool_)
        ended[[verdict.lapse.operator for verdict in verdicts if verdict.state == CLEARED]] = True
        if ended.any():
            ground.release(ended & terms[1], moves)
        return verdicts

    def deadline(self, city: City | None) -> int | None:
        """The first tick at which a loss is believed if nothing happens before."""
        hold_ms = city.degraded_hold_ms if city else 0
        return min((lapse.opened - (-hold_ms // self._tick_ms) for lapse in self.open.values()), default=None)

    def flags(self, ground: Ground) -> Flags:
        """Who is degraded: bool (operators,)."""
        flags = np.zeros(len(ground.standing), np.bool_)
        flags[list(self.open)] = True
        return flags

    def _find_losses(self, tick: int, change: Change, ground: Ground, terms: tuple[City | None, Flags]) -> None:
        city, allowed = terms
        if city is None or not city.degraded_hold_ms:
            return
        before = ground.standing
        more = change.after["stands"].astype(np.int64) - change.before["stands"]
        after = before + np.bincount(change.operator, more, len(before)).astype(np.int64)
        lost = allowed & ~self.flags(ground) & (2 * after < before) & (before - after >= city.degraded_fewest)
        for operator in np.flatnonzero(lost).tolist():
            self.open[operator] = Lapse(operator, tick, int(before[operator]), int(after[operator]))

    def _ends_by(self, lapse: Lapse, tick: int, there: int, terms: tuple[City | None, Flags]) -> str | None:
        """there: bikes that would stand if what is held acted."""
        city, allowed = terms
        if city is None or not city.degraded_hold_ms or not allowed[lapse.operator]:
            return BY_POLICY
        if 4 * there >= 3 * lapse.before:
            return RECOVERED
        return ACCEPTED if (tick - lapse.opened) * self._tick_ms >= city.degraded_hold_ms else None

    @staticmethod
    def _sent(lapse: Lapse, state: str, tick: int, cleared_by: str | None = None) -> LapseVerdict:
        lapse.sequence += 1
        lapse.last_event = tick
        return LapseVerdict(lapse, state, cleared_by)
