"""The topic of policies: section 11 of docs/policies.md, asked anew at every tick."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from geo.params import City, Epoch
from geo.policy import Policy
from tests.oracle import places
from tests.oracle.places import Force


@dataclass(frozen=True)
class Written:
    """A record of the topic and what it means. city None: every one. policy None: a withdrawal, or broken by `problems`."""

    record_ms: int
    value: bytes
    city: str | None
    policy_id: str
    policy: Policy | None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Said:
    """An accepted document, in the order of the log, and the moment from which it may act."""

    written: Written
    begins: int

    @property
    def concerns(self) -> tuple[str, ...]:
        return (self.written.policy_id, *(self.written.policy.replaces if self.written.policy else ()))


def refused(written: Written, epoch: Epoch, city: City | None) -> tuple[str, ...]:
    """Why a city refuses a document at a tick of an epoch."""
    if written.problems or written.policy is None:
        return written.problems
    wrong = []
    if city is not None and written.policy_id in [rule.policy_id for rule in city.rules]:
        wrong.append(
            f"policy_id: must not be that of the city's own rules, got {written.policy_id}. Give the policy another id."
        )
    for name in sorted(written.policy.operators):
        if name not in epoch.operators:
            known = ", ".join(epoch.operators)
            wrong.append(f"provider_ids: must be names of allowed operators, got {name}. Known here: {known}.")
    return tuple(wrong)


def said(written: Written, tick: int, tick_ms: int) -> Said:
    next_start = (tick + 1) * tick_ms
    start = written.policy.from_ms if written.policy and written.policy.from_ms is not None else next_start
    return Said(written, max(start, next_start))


def begins_at_all(one: Said, later: Sequence[Said]) -> bool:
    """Unless one that was written later, and begins itself, has had its say before. later: in order."""
    return not any(
        one.written.policy_id in other.concerns and other.begins <= one.begins and begins_at_all(other, later[i + 1 :])
        for i, other in enumerate(later)
    )


def in_force(city: City | None, log: Sequence[Said], start: int) -> dict[str, Force]:
    """By policy: the configured ones of which the topic has said nothing, then the topic's by id."""
    if city is None:
        return {}
    has_a_say: dict[str, Said] = {}
    for i, one in enumerate(log):
        if one.begins <= start and begins_at_all(one, log[i + 1 :]):
            has_a_say |= dict.fromkeys(one.concerns, one)
    found = places.in_force(replace(city, policies=_without(city.policies, has_a_say)), start)
    for policy_id, one in sorted(has_a_say.items()):
        policy = one.written.policy
        if policy is not None and policy.policy_id == policy_id:
            own = replace(city, rules=(), policies=(policy,), geographies=policy.zones or ())
            found |= {
                key: replace(force, city=replace(own, rules=city.rules)) for key, force in places.in_force(own, start).items()
            }
    return found


def _without(policies: Sequence[Policy], has_a_say: dict[str, Said]) -> tuple[Policy, ...]:
    return tuple(policy for policy in policies if policy.policy_id not in has_a_say)


def refusal_body(city: str, policy_id: str, problems: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """What is in the body beside what all alerts have."""
    rule: dict[str, Any] = dict.fromkeys(("per_hectare", "window"))
    rule |= {"policy_id": "built-in", "rule_id": "policy_refused", "name": "Policy refused", "unit": "problems", "threshold": 0}
    area: dict[str, Any] = dict.fromkeys(("h3", "resolution", "centroid", "boundary", "area_ha", "hot_spot"))
    yield from dict.fromkeys(("count", "excess", "respond_by", "resolve_by", "links")).items()
    yield "kind", "policy_refused"
    yield "severity", "major"
    yield "rule", rule
    yield "area", area | {"type": "city", "name": city}
    yield "bikes", []
    yield "moves", []
    yield "refused", {"policy_id": policy_id, "problems": list(problems)}
