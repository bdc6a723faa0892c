"""Where verdicts become events: each gets its body, and its episode keeps a copy of the newest one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

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
from geo.cells import Area, cell_area, merged_area, name_of
from geo.degraded import Degraded, Lapse, LapseVerdict
from geo.episodes import Episode
from geo.layers import Layer
from geo.outages import ALL_OPERATORS, Outage, Outages, OutageVerdict
from geo.params import City, Timeline
from geo.roster import Roster, first_of
from geo.verdicts import Extent, Verdict
from geo.watch import Watch

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
        places = self._whereabouts(watch, verdicts)
        crowds = self._crowds(watch, verdicts)
        events = []
        for verdict, (area, links), crowd in zip(verdicts, places, crowds, strict=True):
            episode, rule = verdict.episode, watch.rule_of(verdict.pair)
            episode.tells_all = bool(rule.all_operators and np.count_nonzero(crowd) >= FEWEST_TOLD_ALL)
            heading = self._of_episode(watch, verdict.pair, episode, verdict.state, verdict.extent)
            since_ms = end_of(episode.since, self._tick_ms)
            respond_by, resolve_by = rule.deadlines(since_ms, since_ms - self._tick_ms, city.offsets if city else ())
            found = Finding(
                severity=episode.severity,
                limit=verdict.limit,
                count=verdict.count,
                excess=verdict.excess,
                count_all_operators=int(crowd.sum()),
                bikes=first_of([listed.get(pair, []) for pair in _pairs(verdict)], min(verdict.excess, rule.bikes_cap)),
                hauls=() if verdict.state == CLEARED else episode.hauls,
                links=links,
                cleared_by=verdict.cleared_by,
                respond_by=respond_by,
                resolve_by=resolve_by,
                handling=episode.handling.fields(self._tick_ms),
                relatives=_relatives(heading, verdict.extent),
            )
            body = count_body(heading, rule, area, found, time_zone=city.time_zone if city else "")
            verdict.episode.body = b"" if verdict.state == CLEARED else body
            events.append(heading.event(body))
        return events

    def _listed(self, watch: Watch, verdicts: Sequence[Verdict], roster: Roster) -> dict[int, list[Bike]]:
        """The bikes that too many there are of, by pair; of an incident so many of each of its cells."""
        if watch.measure.kind == DEFICIT:
            return {}
        caps = [min(verdict.excess, watch.rule_of(verdict.pair).bikes_cap) for verdict in verdicts]
        wanted = {pair: cap for verdict, cap in zip(verdicts, caps, strict=True) if cap > 0 for pair in _pairs(verdict)}
        return roster.listing(watch.key, wanted) if wanted else {}

    def newest(self, outages: Outages, degraded: Degraded, watches: Sequence[Watch]) -> Iterator[Event]:
        """The newest event of each open episode."""
        for outage in outages.open.values():
            yield self._of_outage(outage, RAISED).event(outage.body)
        for lapse in degraded.open.values():
            yield self._of_lapse(lapse, RAISED).event(lapse.body)
        for watch in watches:
            for pair, episode, extent in watch.told_of():
                yield self._of_episode(watch, pair, episode, episode.state, extent).event(episode.body)

    def _whereabouts(self, watch: Watch, verdicts: Sequence[Verdict]) -> list[tuple[Area, Links]]:
        """Where each is, and map links of it."""
        single = [verdict for verdict in verdicts if verdict.extent is None]
        found = iter(self._places_of(watch.layer, watch.counts.codes[[verdict.pair for verdict in single]].tolist()))
        merged = [merged_area(one.extent.founder, self._cells(watch, one.extent)) for one in verdicts if one.extent is not None]
        told = iter(zip(merged, _links(merged), strict=True))
        return [next(found if verdict.extent is None else told) for verdict in verdicts]

    @staticmethod
    def _cells(watch: Watch, extent: Extent) -> list[int]:
        cells = map(watch.layer.cell_of, watch.counts.codes[list(extent.pairs)].tolist())
        return [cell for cell in cells if cell is not None]

    def _crowds(self, watch: Watch, verdicts: Sequence[Verdict]) -> list[NDArray[np.int64]]:
        """Bikes of each operator in the areas of each: int64 (operators,)."""
        pairs = [_pairs(verdict) for verdict in verdicts]
        crowds = watch.counts.by_operator(watch.counts.codes[list(chain.from_iterable(pairs))], len(self._operators))
        starts = np.cumsum([0, *map(len, pairs[:-1])])
        return list(np.add.reduceat(crowds, starts))

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
        return self._of_feed(FEED_SILENT, outage, state)

    def _of_lapse(self, lapse: Lapse, state: str) -> Heading:
        return self._of_feed(FEED_DEGRADED, lapse, state)

    def _of_feed(self, kind: str, episode: Outage | Lapse, state: str) -> Heading:
        return Heading(
            city=self._city,
            operator="" if episode.operator == ALL_OPERATORS else self._operators[episode.operator],
            kind=kind,
            state=state,
            area=WHOLE_CITY,
            rule=(BUILT_IN, kind),
            opened=episode.opened,
            tick=episode.last_event,
            tick_ms=self._tick_ms,
            sequence=episode.sequence,
        )

    def _of_episode(self, watch: Watch, pair: int, episode: Episode, state: str, extent: Extent | None) -> Heading:
        rule = watch.rule_of(pair)
        return Heading(
            city=self._city,
            operator=self._operators[int(watch.counts.operators[pair])],
            kind=watch.measure.kind,
            state=state,
            area=watch.name_of(pair, extent),
            rule=rule.key,
            opened=episode.opened,
            tick=episode.last_event,
            tick_ms=self._tick_ms,
            sequence=episode.sequence,
            shadow=rule.shadow,
            tells_all=episode.tells_all,
            incident=extent is not None,
        )


def _pairs(verdict: Verdict) -> tuple[int, ...]:
    return (verdict.pair,) if verdict.extent is None else verdict.extent.pairs


def _relatives(heading: Heading, extent: Extent | None) -> dict[str, str]:
    """Ids of the incidents that one came of, or went into."""
    if extent is None:
        return {}
    others = {"split_from": extent.split_from, "merged_into": extent.merged_into}
    return {key: heading.id_of(name_of(other.founder), other.opened) for key, other in others.items() if other}


def _links(areas: Sequence[Area]) -> list[Links]:
    return map_links([area.centroid for area in areas]) if areas else []
