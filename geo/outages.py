"""Alerts on silence: one episode for each silent operator, or one for the city if all of them fell silent at one tick."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from geo.alert import BY_POLICY, CLEARED, RAISED
from geo.silence import Silence

ALL_OPERATORS = -1
"""The operator of a city-wide episode."""

RETURNED = "returned"


@dataclass(slots=True)
class Outage:
    """An open feed_silent episode; threshold_ms as it was when it opened. Of the newest event: sequence, tick, body."""

    operator: int
    opened: int
    threshold_ms: int
    sequence: int = 0
    last_event: int = 0
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class OutageVerdict:
    outage: Outage
    state: str
    cleared_by: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What became of operators (indices) at a tick. released: were silent and are not watched any more."""

    fell: Collection[int]
    returned: Collection[int]
    released: Collection[int] = ()


class Outages:
    """Open episodes by operator; ALL_OPERATORS for the city-wide one."""

    def __init__(self) -> None:
        self.open: dict[int, Outage] = {}

    def judge(self, turn: Turn, silence: Silence) -> list[OutageVerdict]:
        """What is raised and cleared at `silence.now`: the city-wide one first, then by operator."""
        verdicts = [self._clear(op, silence.now, RETURNED) for op in turn.returned if op in self.open]
        verdicts += [self._clear(op, silence.now, BY_POLICY) for op in turn.released if op in self.open]
        silent = np.flatnonzero(silence.silent).tolist()
        own = list(turn.fell)
        if ALL_OPERATORS in self.open and (turn.returned or not silent):
            verdicts.append(self._clear(ALL_OPERATORS, silence.now, RETURNED if turn.returned else BY_POLICY))
            own = [op for op in silent if op not in self.open]
        elif len(own) >= 2 and len(own) == np.count_nonzero(silence.watched):
            own = [ALL_OPERATORS]
        verdicts += [self._raise(op, silence) for op in own]
        return sorted(verdicts, key=lambda verdict: verdict.outage.operator)

    def _raise(self, operator: int, silence: Silence) -> OutageVerdict:
        thresholds = silence.threshold_ms
        threshold = thresholds[silence.watched].max() if operator == ALL_OPERATORS else thresholds[operator]
        outage = self.open[operator] = Outage(operator, silence.now, int(threshold))
        return self._sent(outage, RAISED, silence.now)

    def _clear(self, operator: int, tick: int, cleared_by: str) -> OutageVerdict:
        return self._sent(self.open.pop(operator), CLEARED, tick, cleared_by)

    @staticmethod
    def _sent(outage: Outage, state: str, tick: int, cleared_by: str | None = None) -> OutageVerdict:
        outage.sequence += 1
        outage.last_event = tick
        return OutageVerdict(outage, state, cleared_by)
