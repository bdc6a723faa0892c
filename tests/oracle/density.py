"""What is told of the cells of a city: section 9 of docs/semantics.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.bodies import cell_of, dumps, rfc_3339
from tests.oracle.city import CityTruth

CELL, COVERAGE = "urban-brain/density/1", "urban-brain/coverage/1"


@dataclass(frozen=True)
class TrueTelling:
    key: str
    at_ms: int
    body: bytes | None


@dataclass
class DensityTruth:
    """To be asked after every tick of its city. says, last: by key, what was said without its time, and the record of it."""

    city: CityTruth
    told: list[TrueTelling] = field(default_factory=list)
    says: dict[str, dict[str, Any]] = field(default_factory=dict)
    last: dict[str, TrueTelling] = field(default_factory=dict)

    def tick(self, k: int) -> None:
        known = self.city.city()
        interval = 0 if known is None else known.density_interval_ms
        start, end = k * self.city.timeline.tick_ms, (k + 1) * self.city.timeline.tick_ms
        if interval == 0:
            self._tell({}, end)
        elif start < end // interval * interval:
            self._tell({self.city.name: self._coverage(interval)} | self._cells(), end)

    def _tell(self, now: dict[str, dict[str, Any]], end: int) -> None:
        for key in sorted(self.says.keys() | now.keys()):
            if self.says.get(key) == now.get(key):
                continue
            body = dumps(now[key] | {"observed_at": rfc_3339(end)}) if key in now else None
            self.told.append(TrueTelling(key, end, body))
            self.last[key] = self.told[-1]
            if body is None:
                del self.last[key]
        self.says = now

    def _cells(self) -> dict[str, dict[str, Any]]:
        counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for (operator, _), row in self.city.roster.items():
            if row.stands:
                counts[cell_of(row.at, 9)][operator] += 1
        return {
            f"{self.city.name}/{cell}": {
                "schema": CELL,
                "city": self.city.name,
                "h3": cell,
                "resolution": 9,
                "counts": dict(of_cell),
                "silent": sorted(operator for operator in of_cell if self.city.voices[operator].silent),
            }
            | _degraded(operator for operator in of_cell if operator in self.city.losses)
            for cell, of_cell in counts.items()
        }

    def _coverage(self, interval: int) -> dict[str, Any]:
        voices, watched = self.city.voices, sorted(self.city.watched())
        heard = {o: rfc_3339((voices[o].last + 1) * self.city.timeline.tick_ms) for o in watched if voices[o].last_heard}
        silent = [operator for operator in watched if voices[operator].silent]
        return {
            "schema": COVERAGE,
            "city": self.city.name,
            "resolution": 9,
            "interval_ms": interval,
            "watched": watched,
            "silent": [{"operator": operator, "last_heard": heard.get(operator)} for operator in silent],
            "unheard": [operator for operator in watched if operator not in silent and operator not in heard],
        } | _degraded(self.city.losses)


def _degraded(operators: Iterable[str]) -> dict[str, list[str]]:
    names = sorted(operators)
    return {"degraded": names} if names else {}
