"""What the demo has seen: alerts as they came, and the worker's own metrics. Values only, no terminal."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

_SHOWN = 200


@dataclass
class OperatorCounts:
    """Of one operator. pings: judged so far; standing: bikes that stand in the city now."""

    pings: int = 0
    standing: int = 0
    events: Counter[str] = field(default_factory=Counter)


@dataclass
class DemoState:
    """Fed with events and metrics, read by the view."""

    operators: dict[str, OperatorCounts]
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_SHOWN))
    open_episodes: set[str] = field(default_factory=set)
    stream_ms: int = 0
    pings: int = 0
    pings_per_second: float = 0.0
    _samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=6))

    @property
    def raised(self) -> int:
        return sum(counts.events["raised"] for counts in self.operators.values())

    def take_event(self, body: dict[str, Any]) -> None:
        """One new event of `alerts`."""
        self.events.append(body)
        state, episode = str(body.get("state")), str(body.get("episode_id"))
        counts = self.operators.get(str(body.get("operator")))
        if counts is not None:
            counts.events[state] += 1
        if state == "cleared":
            self.open_episodes.discard(episode)
        else:
            self.open_episodes.add(episode)

    def take_metrics(self, page: str, now_s: float) -> None:
        """The worker's /metrics at a moment of a monotonic clock."""
        pings: Counter[str] = Counter()
        standing: Counter[str] = Counter()
        for name, labels, value in _samples(page):
            operator = labels.get("operator", "")
            if name == "urban_brain_pings_total":
                pings[operator] += int(value)
            elif name == "urban_brain_roster_bikes":
                standing[operator] += int(value)
            elif name == "urban_brain_city_clock_timestamp_seconds":
                self.stream_ms = max(self.stream_ms, int(value * 1000))
        for operator, counts in self.operators.items():
            counts.pings, counts.standing = pings[operator], standing[operator]
        self.pings = pings.total()
        self._samples.append((now_s, self.pings))
        (before_s, before), (after_s, after) = self._samples[0], self._samples[-1]
        self.pings_per_second = (after - before) / (after_s - before_s) if after_s > before_s else 0.0


def _samples(page: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value
