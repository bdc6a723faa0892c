"""What is true of every episode, whatever happened: said of events alone, without core or oracle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import orjson

from geo.alert import Event

Key = tuple[object, ...]


@dataclass(frozen=True)
class Told:
    """An event, and what it says."""

    event: Event

    @cached_property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = orjson.loads(self.event.body)
        return body

    @property
    def cells(self) -> list[str] | None:
        """Of an incident: it may leave its founding cell, in which another may then begin."""
        cells: list[str] | None = self.body["area"].get("cells")
        return cells

    @property
    def key(self) -> Key:
        """What the episode is about, of which there is never a second one open."""
        event = self.event
        key = (event.kind, event.rule, event.area, event.operator)
        return key if self.cells is None else (*key, event.episode_id)


def invalid(events: Sequence[Event]) -> Iterator[str]:
    """What is wrong with the events of one city, in their order."""
    told = [Told(event) for event in events]
    if [event.tick for event in events] != sorted(event.tick for event in events):
        yield "time goes back"
    yield from _one_at_a_time(told)
    yield from _cells_are_shared_by_none(told)
    said: dict[str, list[Told]] = {}
    for one in told:
        said.setdefault(one.event.episode_id, []).append(one)
    for own in said.values():
        yield from _of_episode(own)


def _one_at_a_time(told: Sequence[Told]) -> Iterator[str]:
    opened: dict[Key, str] = {}
    for one in told:
        event = one.event
        if event.state == "raised":
            if one.key in opened:
                yield f"{event.event_id} opens beside {opened[one.key]}"
            opened[one.key] = event.episode_id
        elif opened.get(one.key) != event.episode_id:
            yield f"{event.event_id} is of an episode that is not open"
        if event.state == "cleared":
            opened.pop(one.key, None)


def _cells_are_shared_by_none(told: Sequence[Told]) -> Iterator[str]:
    """Of the incidents of a rule and operator, as far as they are told at one tick."""
    for tick, some in groupby(told, key=lambda one: one.event.tick):
        seen: dict[Key, str] = {}
        for one in some:
            for cell in (one.cells or ()) if one.event.state != "cleared" else ():
                if (
                    other := seen.setdefault((one.event.rule, one.event.operator, cell), one.event.event_id)
                ) != one.event.event_id:
                    yield f"{one.event.event_id} and {other} both have {cell} at {tick}"


def _of_episode(told: Sequence[Told]) -> Iterator[str]:
    states = [one.event.state for one in told]
    sequences = [one.event.sequence for one in told]
    if sequences != list(range(1, len(told) + 1)):
        yield f"{told[0].event.episode_id}: sequences {sequences}"
    if states[0] != "raised" or states.count("raised") != 1 or "cleared" in states[:-1]:
        yield f"{told[0].event.episode_id}: opens or ends otherwise than once: {states}"
    before: list[dict[str, str]] = []
    for one in told:
        now = one.body.get("escalations", [])
        if now[: len(before)] != before:
            yield f"{one.event.event_id} has forgotten escalations"
        heir = one.event.state == "raised" and "split_from" in one.body  # of what the other was through
        if not heir and (len(now) > len(before)) != (one.event.state == "escalated"):
            yield f"{one.event.event_id} escalates without a cause, or has one and does not"
        if len({escalation["cause"] for escalation in now}) != len(now):
            yield f"{one.event.event_id} escalates twice for one cause"
        if (one.event.state == "cleared") != (one.body["cleared_by"] is not None):
            yield f"{one.event.event_id} ends for no reason, or has one and does not"
        before = now
