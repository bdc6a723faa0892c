"""Documents on the topic of policies out of a seed: sound ones, broken ones, withdrawals, for a city or for all."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from geo.params import City, Timeline
from geo.policy import Geography, Policy, Rule
from geo.states import STATES, VEHICLES
from geo.windows import DAY_S, DAYS
from streams.policy_documents import read_policy
from tests.laws import answers
from tests.laws.merging import Merging
from tests.laws.rulers import Ruler
from tests.oracle.decrees import Written

CONTROL = "zz."
"""Begins the names of control topics: they are behind the topics of feeds, as among the sources."""

TOPIC = f"{CONTROL}policies"


def written(ruler: Ruler, timeline: Timeline, last_ms: int, merging: Merging | None = None) -> list[Written]:
    """Documents in order of time, the last at `last_ms` at most."""
    r = ruler.r
    if last_ms < ruler.start:
        return []
    city = timeline.epochs[0].cities[0]
    moments = sorted(r.randint(ruler.start - 10 * ruler.tick_ms, last_ms) for _ in range(r.choice((0, 1, 3, 6, 10))))
    documents = [_document(ruler, timeline, city, moment, merging) for moment in moments]
    return [one for document in documents for one in (document, *_corrected(document))]


def _document(ruler: Ruler, timeline: Timeline, city: City, at_ms: int, merging: Merging | None) -> Written:
    r = ruler.r
    name = r.choice(("policy-0", "policy-1", "decree-0", "decree-0", "decree-1", "decree-2", "parking"))
    target = r.choice((None, None, *timeline.cities))
    if r.random() < 0.2:
        body: dict[str, Any] = {"schema": "urban-brain/policy/1", "city": target, "withdraw": name}
        return Written(at_ms, json.dumps(body).encode(), target, name, None)
    zones = tuple(ruler._geography(i) for i in range(r.choice((1, 2))))
    others = [one for one in ("policy-0", "policy-1", "decree-0", "decree-1") if one != name]
    policy = replace(
        ruler._policy(name, replace(city, geographies=zones)),
        zones=zones,
        replaces=tuple(r.sample(others, r.choice((0, 0, 1, 2)))),
        from_ms=ruler._moment() if r.random() < 0.3 else None,
    )
    policy = answers.of_policy(random.Random(f"deadlines of {name} at {at_ms}"), policy, ruler.tick_ms)
    if policy.from_ms is not None and policy.until_ms is not None and policy.until_ms <= policy.from_ms:
        policy = replace(policy, until_ms=None)
    if r.random() < 0.05:
        policy = replace(policy, rules=())
    policy = merging.policy(policy) if merging else policy
    body = document(policy, target)
    problems: tuple[str, ...] = ()
    if r.random() < 0.12:
        _break(r.choice((0, 1, 2)), body)
        # What is wrong is the generator's; how it is worded is tested elsewhere.
        problems = read_policy(json.dumps(body).encode()).problems
        assert problems
    return Written(at_ms, json.dumps(body).encode(), target, name, None if problems else policy, problems)


def _corrected(one: Written) -> Iterator[Written]:
    """Some are written again at once: what they replaced was meant to stay, so the first has ended nothing."""
    if one.policy is not None and one.policy.replaces and random.Random(f"{one.policy_id} at {one.record_ms}").random() < 0.3:
        policy = replace(one.policy, replaces=())
        yield replace(one, value=json.dumps(document(policy, one.city)).encode(), policy=policy)


def _break(how: int, body: dict[str, Any]) -> None:
    if how == 0:
        del body["policy"]["name"]
    elif how == 1:
        body["policy"]["rules"] = [{"rule_id": "r", "name": "R", "rule_type": "speed"}]
    else:
        body["policy"]["rules"] = [{"rule_id": "r", "name": "R", "rule_type": "count", "geographies": ["nowhere"]}]


# --- as MDS writes it ---------------------------------------------------------------------------------------------------


def document(policy: Policy, city: str | None) -> dict[str, Any]:
    """The record that says this policy."""
    told = {
        "policy_id": policy.policy_id,
        "name": policy.name,
        "provider_ids": list(policy.operators),
        "start_date": policy.from_ms,
        "end_date": policy.until_ms,
        "prev_policies": list(policy.replaces) or None,
        "rules": [_rule(rule) for rule in policy.rules],
    }
    zones = [_geography(zone) for zone in policy.zones or ()]
    return {"schema": "urban-brain/policy/1", "city": city, "policy": told, "geographies": zones}


def _rule(rule: Rule) -> dict[str, Any]:
    words: dict[str, Any] = {
        "area": rule.area,
        "resolution": rule.resolution,
        "per_hectare": rule.per_hectare_text,
        "capacity": _exact(rule.capacity),
        "share_of_fleet": _exact(rule.share_of_fleet),
        "scope": "all_operators" if rule.all_operators else "each_operator",
        "clear_ratio": _exact(rule.clear_ratio),
        "target_ratio": _exact(rule.target_ratio),
        "for": f"{rule.for_ms}ms",
        "keep_firing_for": f"{rule.keep_firing_for_ms}ms",
        "cooldown": f"{rule.cooldown_ms}ms",
        "update_interval": f"{rule.update_interval_ms}ms",
        "respond_within": f"{rule.respond_within_ms}ms",
        "resolve_within": f"{rule.resolve_within_ms}ms",
        "bikes_cap": rule.bikes_cap,
        "mode": "shadow" if rule.shadow else "active",
        "merge": rule.merge or None,
    }
    told: dict[str, Any] = {
        "rule_id": rule.rule_id,
        "name": rule.name,
        "rule_type": "count",
        "geographies": list(rule.geographies),
        "states": {STATES[state]: [] for state in rule.states},
        "vehicle_types": [VEHICLES[vehicle] for vehicle in rule.vehicles],
        "maximum": rule.maximum,
        "minimum": rule.minimum,
    }
    if rule.window is not None:
        told["days"] = [DAYS[day] for day in rule.window.days]
        told["start_time"], told["end_time"] = _clock(rule.window.start_s), _clock(rule.window.end_s)
        words["prepare"] = f"{rule.prepare_ms}ms"
    return told | {"urban_brain": {key: value for key, value in words.items() if value is not None}}


def _exact(number: Fraction | None) -> str | None:
    return None if number is None else str(Decimal(number.numerator) / Decimal(number.denominator))


def _clock(seconds: int) -> str:
    return "23:59:59" if seconds == DAY_S else f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _geography(zone: Geography) -> dict[str, Any]:
    polygons = [[list(_closed(ring)) for ring in rings] for rings in zone.polygons]
    return {
        "geography_id": zone.geography_id,
        "name": zone.name,
        "geography_json": {"type": "MultiPolygon", "coordinates": polygons},
        "urban_brain": {"capacity": zone.capacity},
    }


def _closed(ring: Sequence[tuple[int, int]]) -> Iterator[list[float]]:
    for lat, lng in (*ring, ring[0]):
        yield [lng / 1e7, lat / 1e7]
