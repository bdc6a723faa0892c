"""What operators say to their alerts, and which episode it joins. docs/policies.md, section 12.

A response is taken in at the end of its tick and acts from the next one. It joins an open episode of the operator on whose
topic it stands; all others are refused without a word to anybody, or an operator could find out what its rivals are told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial

import orjson

from geo.alert import DEFICIT, INCIDENT, episode_id
from geo.frame import Document
from geo.handling import Response
from geo.params import Timeline
from geo.watch import Watch

UNKNOWN_EPISODE, NOT_YOURS = REFUSALS = ("unknown_episode", "not_yours")
"""Why a response is refused: for the city's eyes only."""

MANY_EPISODES = 65_536

Place = tuple[Watch, int]
"""Where an episode stands: its watch and pair."""


def as_body(episode: str, response: Response) -> bytes:
    """A response as a city is handed it."""
    return orjson.dumps([episode, *response])


def from_body(body: bytes) -> tuple[str, Response]:
    """Episode id and response."""
    episode, *said = orjson.loads(body)
    return episode, Response(*said)


class Responses:
    """Takes in the responses to the episodes of one city. What became of them is counted, and that is no part of the state."""

    def __init__(self, city: str, timeline: Timeline) -> None:
        self._operators = timeline.operators
        self._id_of = lru_cache(MANY_EPISODES)(partial(episode_id, city))
        self._counted: Counter[tuple[str, str]] = Counter()

    def take(self, documents: Iterable[Document], watches: Sequence[Watch], tick: int) -> None:
        """Those of a tick, after everything else of it."""
        places = dict(self._open(watches))
        for document in documents:
            episode, response = from_body(document.body)
            self._counted[
                self._operators[document.sender], self._join(document.sender, places.get(episode), response, tick)
            ] += 1

    def counted(self) -> Counter[tuple[str, str]]:
        """How many responses had which end since the last time, by operator: their status, or why they were refused."""
        counted, self._counted = self._counted, Counter()
        return counted

    @staticmethod
    def _join(sender: int, place: Place | None, response: Response, tick: int) -> str:
        if place is None:
            return UNKNOWN_EPISODE
        watch, pair = place
        if watch.counts.operators[pair] != sender:
            return NOT_YOURS
        watch.answer(pair, response, tick)
        return response.status

    def _open(self, watches: Sequence[Watch]) -> Iterator[tuple[str, Place]]:
        """By id, the open episodes that somebody was told of: those of shadows can be computed, and are not answered."""
        for watch in watches:
            for pair, episode, extent in watch.told_of():
                rule = watch.rule_of(pair)
                if not rule.shadow:
                    more = (DEFICIT,) if watch.measure.kind == DEFICIT else () if extent is None else (INCIDENT,)
                    area = watch.name_of(pair, extent)
                    operator = self._operators[int(watch.counts.operators[pair])]
                    yield self._id_of(rule.key, area, operator, episode.opened, *more), (watch, pair)
