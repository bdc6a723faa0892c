"""Responses of operators out of a seed: to episodes that are open, were, or never are; their own, others', nobody's; broken ones.

Which episodes there are, the core is asked: what is answered changes neither when one opens nor when it clears. (Were the core
wrong about them, oracle and core would still have to agree on what to make of it.)
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from geo.params import City, Rule, Timeline
from geo.policy import Policy
from tests.laws.decrees import CONTROL
from tests.oracle.bodies import rfc_3339
from tests.oracle.responses import Answer

STATUSES = ("acknowledged", "acknowledged", "dispatched", "dispatched", "done", "rejected")
BROKEN: tuple[dict[str, Any], ...] = (
    {"schema": "urban-brain/response/2"},
    {"city": "nowhere"},
    {"city": None},
    {"episode_id": "ABC"},
    {"episode_id": 5},
    {"status": "ignored"},
    {"status": "rejected", "reason": None},
    {"status": "rejected", "reason": ""},
    {"status": "rejected", "reason": "x" * 501},
    {"status": "rejected", "reason": "two\nlines"},
    {"status": "acknowledged", "reason": "late"},
    {"status": "done", "eta": "2026-03-01T08:00:00Z", "reason": None},
    {"status": "dispatched", "eta": "2026-03-01T08:00:00", "reason": None},
    {"status": "dispatched", "eta": 1_700_000_000_000, "reason": None},
    {"status": "dispatched", "eta": "2100-01-01T00:00:00Z", "reason": None},
)


def topic_of(operator: str) -> str:
    """Behind the topics of feeds, and the one of policies, as control topics are among the sources."""
    return f"{CONTROL}responses.{operator}"


# --- deadlines short enough to pass -------------------------------------------------------------------------------------


def with_deadlines(r: random.Random, timeline: Timeline) -> Timeline:
    """The same versions; in most worlds operators can answer."""
    epochs = []
    known: dict[tuple[str, str], tuple[int, int]] = {}
    for epoch in timeline.epochs:
        cities = tuple(_of_city(r, city, timeline.tick_ms, known) for city in epoch.cities)
        epochs.append(replace(epoch, cities=cities))
    return replace(timeline, epochs=tuple(epochs), responses=r.random() < 0.6)


def _of_city(r: random.Random, city: City, tick_ms: int, known: dict[tuple[str, str], tuple[int, int]]) -> City:
    rules = tuple(_of_rule(r, rule, tick_ms, known) for rule in city.rules)
    policies = tuple(of_policy(r, policy, tick_ms, known) for policy in city.policies)
    return replace(city, rules=rules, policies=policies)


def of_policy(
    r: random.Random, policy: Policy, tick_ms: int, known: dict[tuple[str, str], tuple[int, int]] | None = None
) -> Policy:
    """known: what a rule had before; most keep it."""
    return replace(policy, rules=tuple(_of_rule(r, rule, tick_ms, {} if known is None else known) for rule in policy.rules))


def _of_rule(r: random.Random, rule: Rule, tick_ms: int, known: dict[tuple[str, str], tuple[int, int]]) -> Rule:
    if rule.key not in known or r.random() < 0.3:
        respond = max(0, r.choice((0, 1, 3, 10, 30, 200)) * tick_ms + r.choice((0, 0, 0, 1, -1, tick_ms // 3)))
        known[rule.key] = respond, r.choice((0, respond, 2 * respond, 20 * tick_ms, 100 * tick_ms, 10**9))
    respond, resolve = known[rule.key]
    return replace(rule, respond_within_ms=respond, resolve_within_ms=resolve)


# --- answers ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Open:
    """An episode that operators may answer, or try to. Ticks; one that never clears ends with the log."""

    city: str
    operator: str
    episode_id: str
    opened: int
    cleared: int


def answers(r: random.Random, timeline: Timeline, episodes: Sequence[Open], *, is_sorted: bool) -> list[Answer]:
    """Of each topic in the order in which they are written; sorted: by time."""
    found = [answer for episode in episodes for answer in _to(r, timeline, episode)]
    if is_sorted:
        return sorted(found, key=lambda answer: answer.record_ms)
    return sorted(found, key=lambda answer: answer.record_ms + r.choice((0, 0, 0, 3 * timeline.tick_ms)))


def _to(r: random.Random, timeline: Timeline, episode: Open) -> Iterator[Answer]:
    tick_ms = timeline.tick_ms
    before: Answer | None = None
    for _ in range(r.choice((0, 1, 1, 2, 3, 5))):
        tick = r.choice((r.randint(episode.opened, episode.cleared), episode.opened + r.randint(-2, 4), episode.cleared))
        at_ms = max(1, tick * tick_ms + r.choice((0, r.randrange(tick_ms), tick_ms - 1)))
        if before is not None and r.random() < 0.25:
            yield replace(before, record_ms=at_ms)
            continue
        operator = episode.operator if r.random() < 0.88 else r.choice(timeline.operators)
        before = _answer(r, timeline, replace(episode, operator=operator), at_ms)
        yield before


def _answer(r: random.Random, timeline: Timeline, episode: Open, at_ms: int) -> Answer:
    status = r.choice(STATUSES)
    city = episode.city if r.random() < 0.95 else r.choice(timeline.cities)
    said: dict[str, Any] = {"city": city, "episode_id": episode.episode_id, "status": status, "eta": None, "reason": None}
    if r.random() < 0.06:
        said["episode_id"] = str(UUID(int=r.getrandbits(128)))
    eta = None
    if status == "dispatched" and r.random() < 0.6:
        eta = at_ms + r.choice((0, 60_000, 1_234_567, -5_000_000))
        said["eta"] = rfc_3339(eta).replace("Z", r.choice(("Z", "+00:00")))
    if status == "rejected":
        said["reason"] = r.choice(("No truck.", "x" * 500, 'a "quoted", <b>bold</b> \\ reason', "桥下没有车"))
    record: dict[str, Any] = {"schema": "urban-brain/response/1", **said}
    if r.random() < 0.2:
        record = {key: value for key, value in record.items() if value is not None} | {"note": [1, {"who": "cares"}]}
    topic = topic_of(episode.operator)
    if r.random() < 0.08:
        value = b"not JSON" if r.random() < 0.1 else json.dumps(record | r.choice(BROKEN)).encode()
        return Answer(at_ms, topic, episode.operator, value)
    return Answer(
        record_ms=at_ms,
        topic=topic,
        operator=episode.operator,
        value=json.dumps(record).encode(),
        city=city,
        episode_id=said["episode_id"],
        status=status,
        eta=eta,
        reason=said["reason"],
    )
