"""Where verdicts become events: each gets its body, and its episode keeps a copy of the newest one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from geo.alert import (
    BUILT_IN,
    CLEARED,
    FEED_SILENT,
    OVERCROWDED,
    RAISED,
    UPDATED,
    WHOLE_CITY,
    Event,
    Finding,
    Heading,
    feed_silent_body,
    map_links,
    overcrowded_body,
)
from geo.cells import Area, cell_area, name_of
from geo.episodes import Episode
from geo.outages import ALL_OPERATORS, Outage, Outages, OutageVerdict
from geo.params import Timeline
from geo.roster import Roster
from geo.watch import Verdict, Watch

FEED_SILENT_RULE = (BUILT_IN, FEED_SILENT)

Links = dict[str, str]

MANY_PLACES = 10_000


class Desk:
    """Writes the events of one city."""

    def __init__(self, city: str, timeline: Timeline) -> None:
        self._city = city
        self._tick_ms = timeline.tick_ms
        self._operators = timeline.operators
        self._places: dict[int, tuple[Area, Links]] = {}  # of cells told of lately; their outlines are dear

    def outages(self, verdicts: Sequence[OutageVerdict]) -> list[Event]:
        """Events on silence, in the order of the verdicts."""
        events = []
        for verdict in verdicts:
            outage, heading = verdict.outage, self._of_outage(verdict.outage, verdict.state)
            outage.body = feed_silent_body(heading, outage.threshold_ms, verdict.cleared_by)
            events.append(heading.event(outage.body))
        return events

    def overcrowded(self, watch: Watch, verdicts: Sequence[Verdict], roster: Roster) -> list[Event]:
        """Events of one rule, in the order of the verdicts."""
        if not verdicts:
            return []
        cap, resolution = watch.rule.bikes_cap, watch.rule.resolution
        wanted = {verdict.pair: min(verdict.excess, cap) for verdict in verdicts if min(verdict.excess, cap) > 0}
        listed = roster.listing(resolution, wanted) if wanted else {}
        cells = watch.counts.cells[[verdict.pair for verdict in verdicts]]
        everywhere = watch.counts.everywhere(cells, len(self._operators)).tolist()
        places = self._places_of(cells.tolist())
        events = []
        for verdict, (area, links), everyone in zip(verdicts, places, everywhere, strict=True):
            heading = self._of_episode(watch, verdict.pair, verdict.episode, verdict.state)
            found = Finding(
                severity=verdict.episode.severity,
                maximum=verdict.maximum,
                count=verdict.count,
                excess=verdict.excess,
                count_all_operators=everyone,
                bikes=listed.get(verdict.pair, ()),
                links=links,
                cleared_by=verdict.cleared_by,
            )
            body = overcrowded_body(heading, watch.rule, area, found)
            verdict.episode.body = b"" if verdict.state == CLEARED else body
            events.append(heading.event(body))
        return events

    def newest(self, outages: Outages, watches: Sequence[Watch]) -> Iterator[Event]:
        """The newest event of each open episode."""
        for outage in outages.open.values():
            yield self._of_outage(outage, RAISED).event(outage.body)
        for watch in watches:
            for pair in watch.open_pairs():
                episode = watch.episodes[pair]
                state = RAISED if episode.sequence == 1 else UPDATED
                yield self._of_episode(watch, pair, episode, state).event(episode.body)

    def _places_of(self, cells: list[int]) -> list[tuple[Area, Links]]:
        """Outline and map links of cells; those not told of lately are computed at one go."""
        new = [cell_area(cell) for cell in set(cells) - self._places.keys()]
        if len(new) + len(self._places) > MANY_PLACES:
            self._places.clear()
            new = [cell_area(cell) for cell in set(cells)]
        links = map_links([area.centroid for area in new]) if new else []
        self._places.update((int(area.id, 16), place) for area, place in zip(new, zip(new, links, strict=True), strict=True))
        return [self._places[cell] for cell in cells]

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

    def _of_episode(self, watch: Watch, pair: int, episode: Episode, state: str) -> Heading:
        return Heading(
            city=self._city,
            operator=self._operators[int(watch.counts.operators[pair])],
            kind=OVERCROWDED,
            state=state,
            area=name_of(int(watch.counts.cells[pair])),
            rule=watch.rule.key,
            opened=episode.opened,
            tick=episode.last_event,
            tick_ms=self._tick_ms,
            sequence=episode.sequence,
        )
