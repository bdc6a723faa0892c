"""What is true of every episode, whatever happened: said of events alone, without core or oracle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from geo.alert import Event

Key = tuple[str, tuple[str, str], str, str]
"""What an episode is about: kind, rule, area, operator."""


def invalid(events: Sequence[Event]) -> Iterator[str]:
    """What is wrong with the events of one city, in their order."""
    opened: dict[Key, str] = {}
    over: set[str] = set()
    said: dict[str, list[Event]] = {}
    tick = -1
    for event in events:
        key: Key = (event.kind, event.rule, event.area, event.operator)
        if event.tick < tick:
            yield f"{event.event_id} goes back in time"
        tick = max(tick, event.tick)
        if event.episode_id in over:
            yield f"{event.event_id} comes behind the end"
        if event.state == "raised" and key in opened:
            yield f"{event.event_id} opens beside {opened[key]}"
        if event.state == "raised":
            opened[key] = event.episode_id
        elif opened.get(key) != event.episode_id:
            yield f"{event.event_id} is of an episode that is not open"
        if event.state == "cleared":
            over.add(event.episode_id)
            opened.pop(key, None)
        said.setdefault(event.episode_id, []).append(event)
    for episode, own in said.items():
        yield from _of_episode(episode, own)


def _of_episode(episode: str, events: Sequence[Event]) -> Iterator[str]:
    if [event.sequence for event in events] != list(range(1, len(events) + 1)):
        yield f"{episode}: sequences {[event.sequence for event in events]}"
    if events[0].state != "raised" or "raised" in [event.state for event in events[1:]]:
        yield f"{episode}: opens otherwise than once"
    before: list[dict[str, str]] = []
    for event in events:
        body = orjson.loads(event.body)
        now = body.get("escalations", [])
        if now[: len(before)] != before:
            yield f"{event.event_id} has forgotten escalations"
        if (len(now) > len(before)) != (event.state == "escalated"):
            yield f"{event.event_id} escalates without a cause, or has one and does not"
        if len({one["cause"] for one in now}) != len(now):
            yield f"{event.event_id} escalates twice for one cause"
        if event.state == "cleared" and body["cleared_by"] is None:
            yield f"{event.event_id} ends for no reason"
        before = now
