"""Policies as they stand on their topic: one self-contained document per record. docs/policies.md, section 11.

    {"schema": "urban-brain/policy/1", "city": NAME or null, "policy": {…MDS…}, "geographies": [{…MDS…}…]}
    {"schema": "urban-brain/policy/1", "city": NAME or null, "withdraw": POLICY_ID}

Numbers of files are taken over to the digit.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import msgspec

from geo.decrees import Reading
from geo.policy import Geography, Policy
from streams.control import POLICY_SCHEMA
from streams.errors import ConfigurationError
from streams.settings.documents import as_written, bare, listed_in, take_documents
from streams.settings.policies import Library, misfits
from streams.settings.problems import Problem

log = logging.getLogger(__name__)

_HERE = "document"  # how problems name it


# --- reading ------------------------------------------------------------------------------------------------------------


def read_policy(body: bytes) -> Reading:
    """What a record's value says: a pure function of its bytes. One that stage one let pass has an id."""
    content = json.loads(body, parse_float=Decimal)
    if not isinstance(content.get("policy"), dict):
        return Reading(content["withdraw"])
    policy_id = content["policy"]["policy_id"]
    problems: list[Problem] = []
    try:
        policy = _policy(content, problems)
    except Exception as error:  # of one document, and a bug of ours: what was in force stays
        log.exception("the policy %s could not be read", policy_id)
        return Reading(
            policy_id, problems=(f"document: could not be read ({type(error).__name__}). Please report it with it.",)
        )
    if problems or policy is None:
        return Reading(policy_id, problems=tuple(map(str, problems)))
    return Reading(policy_id, policy)


def _policy(content: Mapping[str, Any], problems: list[Problem]) -> Policy | None:
    """The policy with its own geographies; None: `problems` say why not."""
    geographies = content.get("geographies") or []
    if not isinstance(geographies, list):
        remedy = 'Write "geographies": [], or leave it out.'
        problems.append(Problem("document: geographies", "must be a list", "", remedy))
        return None
    found = take_documents([content["policy"]], [bare(one) for one in geographies], path=_HERE, problems=problems)
    if problems:
        return None
    [(where, document)] = found.policies.items()
    zones = {one.geography_id: one for one in found.geographies.values()}
    if len(zones) < len(geographies):
        problems.append(Problem("document: geographies", "must not have an id twice", "", "Rename one of the two."))
    problems += misfits(where, document, zones)
    if problems:
        return None
    named = sorted({name for rule in document.rules for name in rule.geographies})
    operators = tuple(sorted(set(document.provider_ids)))
    return replace(document.value(operators), zones=tuple(zones[name].value() for name in named))


# --- writing ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draft:
    """A record to be written; its key is the id."""

    policy_id: str
    value: bytes


_written = msgspec.json.Encoder(decimal_format="number", order="sorted")


def withdrawal(policy_id: str, city: str | None) -> Draft:
    """Nothing of this id is in force any more. city None: everywhere."""
    return Draft(policy_id, _written.encode({"schema": POLICY_SCHEMA, "city": city, "withdraw": policy_id}))


def drafts(library: Library, city: str | None) -> Iterator[Draft]:
    """The policies on trial in a library that was checked, each with the geographies that it names. city None: for every city.

    Raises ConfigurationError if cities have different geographies by one name.
    """
    zones = _zones(library)
    for path in library.trial.paths:
        for policy in (listed_in(as_written(path)) or ((), ()))[0]:
            named = sorted({zone for rule in policy["rules"] or () for zone in rule.get("geographies") or ()})
            operators = [library.operator_of[name] for name in policy.get("provider_ids") or ()]
            document = {
                "schema": POLICY_SCHEMA,
                "city": city,
                "policy": policy | {"provider_ids": operators},
                "geographies": [_geography(zones[name]) for name in named],
            }
            yield Draft(policy["policy_id"], _written.encode(document))


def _zones(library: Library) -> dict[str, Geography]:
    """By id, those of the files on trial in the place of configured ones."""
    found: dict[str, set[Geography]] = {}
    for _, document in library.named_geographies([path for path in library.files if path not in library.trial.paths]):
        found.setdefault(document.geography_id, set()).add(document.value())
    for _, document in library.named_geographies(library.trial.paths):
        found[document.geography_id] = {document.value()}
    if several := sorted(name for name, zones in found.items() if len(zones) > 1):
        text = f"{', '.join(several)}: are different geographies in different cities. Give the ones that are meant in a file."
        raise ConfigurationError([text])
    return {name: zone for name, (zone,) in found.items()}


def _geography(zone: Geography) -> dict[str, Any]:
    """As MDS has it, to the digit."""
    polygons = [[[_position(*point) for point in (*ring, ring[0])] for ring in rings] for rings in zone.polygons]
    return {
        "geography_id": zone.geography_id,
        "name": zone.name,
        "geography_json": {"type": "MultiPolygon", "coordinates": polygons},
        "urban_brain": {} if zone.capacity is None else {"capacity": zone.capacity},
    }


def _position(lat_e7: int, lng_e7: int) -> list[Decimal]:
    """Longitude first."""
    return [Decimal(lng_e7).scaleb(-7), Decimal(lat_e7).scaleb(-7)]
