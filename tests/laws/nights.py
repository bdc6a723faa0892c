"""Midnights out of a seed: most logs begin before one, and in some worlds the clocks bring another one, or a date comes twice."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from geo.params import City, Timeline
from geo.windows import Offsets
from tests.laws.rulers import DAY_MS

MINUTE_MS = 60_000


@dataclass
class Night:
    """Of a log that is so many ticks long. midnight: of UTC, if there is one in it, ms."""

    r: random.Random
    tick_ms: int
    ticks: int
    midnight: int | None = None

    def begin(self, start: int) -> int:
        """When the log begins, if otherwise it began at `start`."""
        if self.r.random() < 0.3:
            return start
        before = self._while()
        self.midnight = (start // DAY_MS + 1) * DAY_MS
        return (self.midnight - before) // self.tick_ms * self.tick_ms

    def over(self, timeline: Timeline) -> Timeline:
        """The same versions; in some cities with more midnights, by zones that change from version to version."""
        if self.midnight is None or self.r.random() < 0.5:
            return timeline
        zones: dict[str, tuple[str, Offsets]] = {}
        epochs = []
        for epoch in timeline.epochs:
            for city in epoch.cities:
                if city.name not in zones or self.r.random() < 0.4:
                    zones[city.name] = self._zone(city)
            cities = (replace(city, time_zone=zones[city.name][0], offsets=zones[city.name][1]) for city in epoch.cities)
            epochs.append(replace(epoch, cities=tuple(cities)))
        return replace(timeline, epochs=tuple(epochs))

    def _zone(self, city: City) -> tuple[str, Offsets]:
        if self.r.random() < 0.2:
            return city.time_zone, city.offsets
        assert self.midnight is not None
        # Ahead by nearly a day some time after midnight: the next one comes soon. Then back, so that a date is shown twice.
        leap = self.midnight + self.r.randint(0, self._while())
        ahead = DAY_MS - (leap - self.midnight) - self.r.choice((0, 1, self._while() // 2))
        offsets: Offsets = ((0, 0), (leap, max(0, ahead)))
        if self.r.random() < 0.4:
            offsets = (*offsets, (leap + self.r.randint(1, self._while()), self.r.choice((0, ahead - 5 * MINUTE_MS))))
        return f"Night/{self.r.randrange(9)}", offsets

    def _while(self) -> int:
        """Part of the length of the log, ms."""
        return self.r.randint(1, max(1, self.ticks * self.tick_ms // 2))
