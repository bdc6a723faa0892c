"""Where verdicts become events: each gets its body, and its episode keeps a copy of the newest one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from geo.alert import (
    BUILT_IN,
    CLEARED,
    DEFICIT,
    FEED_DEGRADED,
    FEED_SILENT,
    RAISED,
    WHOLE_CITY,
    Bike,
    Event,
    Finding,
    Heading,
    count_body,
    end_of,
    feed_degraded_body,
    feed_silent_body,
    map_links,
)
from geo.cells import Area, cell_area
from geo.degraded import Degraded, Lapse, LapseVerdict
from geo.episodes import Episode
from geo.layers import Layer
from geo.outages import ALL_OPERATORS, Outage, Outages, OutageVerdict
from geo.params import City, Timeline
from geo.roster import Roster
from geo.watch import Verdict, Watch

FEED_SILENT_RULE = (BUILT_IN, FEED_SILENT)

Links = dict[str, str]

MANY_PLACES = 10_000

FEWEST_TOLD_ALL = 3
"""Operators present at which each may know the count of all: of two, one could tell the other's."""


class Desk:
    """Writes the events of one city."""

    def __init__(self, city: str, timeline: Timeline) -> None:
        self._city = city
        self._tick_ms = timeline.tick_ms
        self._operators = timeline.operators
        self._places: dict[int, tuple[Area, Links]] = {}  # cells told of lately; their outlines are dear

    def outages(self, verdicts: Sequence[OutageVerdict]) -> list[Event]:
        """Events on silence, in the order of the verdicts."""
        events = []
        for verdict in verdicts:
            outage, heading = verdict.outage, self._of_outage(verdict.outage, verdict.state)
            outage.body = feed_silent_body(heading, outage.threshold_ms, verdict.cleared_by)
            events.append(heading.event(outage.body))
        return events

    def lapses(self, verdicts: Sequence[LapseVerdict]) -> list[Event]:
        """Events on degraded feeds, in the order of the verdicts."""
        events = []
        for verdict in verdicts:
            lapse, heading = verdict.lapse, self._of_lapse(verdict.lapse, verdict.state)
            lapse.body = feed_degraded_body(heading, (lapse.before, lapse.after), verdict.cleared_by)
            events.append(heading.event(lapse.body))
        return events

    def told(self, watch: Watch, verdicts: Sequence[Verdict], roster: Roster, city: City | None) -> list[Event]:
        """Events of one watch, in the order of the verdicts. city: as the rules know it."""
        if not verdicts:
            return []
        listed = self._listed(watch, verdicts, roster)
        codes = watch.counts.codes[[verdict.pair for verdict in verdicts]]
        places = self._places_of(watch.layer, codes.tolist())
        crowds = watch.counts.by_operator(codes, len(self._operators))
        events = []
        for verdict, (area, links), crowd in zip(verdicts, places, crowds, strict=True):
            episode, rule = verdict.episode, watch.rule_of(verdict.pair)
            episode.tells_all = bool(rule.all_operators and np.count_nonzero(crowd) >= FEWEST_TOLD_ALL)
            heading = self._of_episode(watch, verdict.pair, episode, verdict.state)
            opened_ms = end_of(episode.opened, self._tick_ms)
            respond_by, resolve_by = rule.deadlines(opened_ms, opened_ms - self._tick_ms, city.offsets if city else ())
            found = Finding(
                severity=episode.severity,
                limit=verdict.limit,
                count=verdict.count,
                excess=verdict.excess,
                count_all_operators=int(crowd.sum()),
                bikes=listed.get(verdict.pair, ()),
                hauls=() if verdict.state == CLEARED else episode.hauls,
                links=links,
                cleared_by=verdict.cleared_by,
                respond_by=respond_by,
                resolve_by=resolve_by,
                handling=episode.handling.fields(self._tick_ms),
            )
            body = count_body(heading, rule, area, found, time_zone=city.time_zone if city else "")
            verdict.episode.body = b"" if verdict.state == CLEARED else body
            events.append(heading.event(body))
        return events

    def _listed(self, watch: Watch, verdicts: Sequence[Verdict], roster: Roster) -> dict[int, list[Bike]]:
        """The bikes that too many there are of, by pair."""
        if watch.measure.kind == DEFICIT:
            return {}
        caps = ((verdict.pair, min(verdict.excess, watch.rule_of(verdict.pair).bikes_cap)) for verdict in verdicts)
        wanted = {pair: cap for pair, cap in caps if cap > 0}
        return roster.listing(watch.key, wanted) if wanted else {}

    def newest(self, outages: Outages, degraded: Degraded, watches: Sequence[Watch]) -> Iterator[Event]:
        """The newest event of each open episode."""
        for outage in outages.open.values():
            yield self._of_outage(outage, RAISED).event(outage.body)
        for lapse in degraded.open.values():
            yield self._of_lapse(lapse, RAISED).event(lapse.body)
        for watch in watches:
            for pair in watch.open_pairs():
                episode = watch.episodes[pair]
                yield self._of_episode(watch, pair, episode, episode.state).event(episode.body)

    def _places_of(self, layer: Layer, codes: list[int]) -> list[tuple[Area, Links]]:
        """Outline and map links of areas; those of cells not told of lately are computed at one go, zones remember theirs."""
        cells = [layer.cell_of(code) for code in codes]
        new = {cell for cell in cells if cell is not None} - self._places.keys()
        if len(new) + len(self._places) > MANY_PLACES:
            self._places.clear()
            new = {cell for cell in cells if cell is not None}
        outlines = [cell_area(cell) for cell in new]
        self._places.update(zip(new, zip(outlines, _links(outlines), strict=True), strict=True))
        zones = [layer.area(code) for code, cell in zip(codes, cells, strict=True) if cell is None]
        told = iter(zip(zones, _links(zones), strict=True))
        return [self._places[cell] if cell is not None else next(told) for cell in cells]

    def _of_outage(self, outage: Outage, state: str) -> Heading:
        return Heading(
            city=self._city,
            operator="" if outage.operator == ALL_OPERATORS else self._operators[outage.operator],
            kind=FEED_SILENT,
            state=state,
            area=WHOLE_CITY,
            rule=FEED_SILENT_RULE,
            opened=outage.opened,
            tick=outage.last_event,
            tick_ms=self._tick_ms,
            sequence=outage.sequence,
        )

    def _of_lapse(self, lapse: Lapse, state: str) -> Heading:
        return Heading(
            city=self._city,
            operator=self._operators[lapse.operator],
            kind=FEED_DEGRADED,
            state=state,
            area=WHOLE_CITY,
            rule=(BUILT_IN, FEED_DEGRADED),
            opened=lapse.opened,
            tick=lapse.last_event,
            tick_ms=self._tick_ms,
            sequence=lapse.sequence,
        )

    def _of_episode(self, watch: Watch, pair: int, episode: Episode, state: str) -> Heading:
        rule = watch.rule_of(pair)
        return Heading(
            city=self._city,
            operator=self._operators[int(watch.counts.operators[pair])],
            kind=watch.measure.kind,
            state=state,
            area=watch.layer.name_of(int(watch.counts.codes[pair])),
            rule=rule.key,
            opened=episode.opened,
            tick=episode.last_event,
            tick_ms=self._tick_ms,
            sequence=episode.sequence,
            shadow=rule.shadow,
            tells_all=episode.tells_all,
        )


def _links(areas: Sequence[Area]) -> list[Links]:
    return map_links([area.centroid for area in areas]) if areas else []
