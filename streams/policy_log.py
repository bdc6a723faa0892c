"""The topic of policies from the outside: what was written to it, what that puts into force, and writing more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from geo.decrees import Decrees
from geo.params import City
from streams.alert_log import Logged
from streams.control import DocumentRefused, PolicyDecoder
from streams.control_log import produce, read_topic
from streams.errors import ConfigurationError
from streams.policy_documents import Draft, read_policy
from streams.settings import Settings


@dataclass(frozen=True, slots=True)
class Enacted:
    """A city at a moment: with every policy that is in force or will be, and the open refusals' problems by policy id."""

    city: City
    refused: dict[str, list[str]]


def read_log(settings: Settings) -> list[Logged]:
    """Every record of the topic. Raises UrbanBrainError without a broker or topic."""
    return read_topic(settings, settings.topics.policies)


def enacted(settings: Settings, log: Iterable[Logged], at_ms: int) -> list[Enacted]:
    """Every city as it is at a moment, by what was written until then; computed as the cities themselves do."""
    timeline = settings.timeline
    documents = list(_documents(settings, log, at_ms))
    found = []
    for city in timeline.at(at_ms // timeline.tick_ms).cities:
        decrees = Decrees(city.name, timeline.tick_ms)
        born = min(epoch.from_tick for epoch in timeline.epochs if city.name in [c.name for c in epoch.cities])
        for tick, told in documents:
            if tick >= born and city.name in told:
                body = told[city.name]
                decrees.take(read_policy(body), body, tick=tick, epoch=timeline.at(tick))
        decrees.forget(at_ms)
        found.append(Enacted(decrees.over(city), {key: list(one.problems) for key, one in decrees.refusals.items()}))
    return found


def _documents(settings: Settings, log: Iterable[Logged], at_ms: int) -> Iterator[tuple[int, dict[str, bytes]]]:
    """(tick, body by city) of each record that is a document, in order."""
    decoder, clock = PolicyDecoder(settings.timeline.cities), 0
    for record in log:
        clock = max(clock, record.time_ms)
        if record.value is None or clock > at_ms:
            continue
        try:
            yield clock // settings.timeline.tick_ms, dict(decoder.decode(record.value))
        except DocumentRefused:  # it is in quarantine
            continue


def check_drafts(settings: Settings, drafts: Iterable[Draft], *, city: str | None, at_ms: int) -> None:
    """What the cities would refuse is refused before it is written. Raises ConfigurationError."""
    timeline = settings.timeline
    tick = at_ms // timeline.tick_ms
    problems = []
    for draft in drafts:
        for name in timeline.cities if city is None else [city]:
            decrees = Decrees(name, timeline.tick_ms)
            decrees.take(read_policy(draft.value), draft.value, tick=tick, epoch=timeline.at(tick))
            problems += [f"{draft.policy_id}: {text}" for one in decrees.refusals.values() for text in one.problems]
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))


def write(settings: Settings, drafts: Sequence[Draft], *, at_ms: int | None) -> None:
    """Write documents and wait until they are acknowledged. at_ms: their record time; None: the broker's.

    Raises OutputError.
    """
    remedy = "See with `policy list` which are in force, and apply them again"
    produce(settings, settings.topics.policies, [(one.policy_id, one.value) for one in drafts], at_ms=at_ms, remedy=remedy)
