"""What stands on control topics, as far as stage one must know it: is it a document at all, and for which cities.

Whether a document is right is judged by the city, which knows what is in force. What nobody can be told of is refused here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import orjson

from geo.frame import DocumentKind
from geo.params import Timeline
from geo.responses import as_body
from streams.response_documents import RESPONSE_SCHEMA, episode_of, response_of
from streams.settings.problems import RefusedError, nearest, shown
from streams.settings.scalars import identifier

POLICY_SCHEMA = "urban-brain/policy/1"


DEEPEST = 64
"""Levels of a document. Parsers give up at depths of their own, which may depend on who calls them: nothing may be left to that."""


class DocumentRefused(Exception):
    """A record that is no document; its text says the rule, what was found, and what to do."""


class Decoder(Protocol):
    """Reads the records of one control topic. A pure function of the bytes and the configuration."""

    def decode(self, value: bytes) -> Mapping[str, bytes]:
        """By city, the body as that city gets it. Raises DocumentRefused."""
        ...


def decoder_of(kind: DocumentKind, timeline: Timeline) -> Decoder:
    """How the records of a control topic of this kind are read."""
    kinds: dict[DocumentKind, type[PolicyDecoder | ResponseDecoder]] = {"policy": PolicyDecoder, "response": ResponseDecoder}
    return kinds[kind](timeline.cities)


class PolicyDecoder:
    """A policy with its geographies, or the withdrawal of one; for one city, or without `city` for all."""

    def __init__(self, cities: Iterable[str]) -> None:
        self._cities = tuple(cities)

    def decode(self, value: bytes) -> Mapping[str, bytes]:
        document = _object(value, POLICY_SCHEMA)
        named = document["policy"].get("policy_id") if isinstance(document.get("policy"), dict) else document.get("withdraw")
        try:
            identifier(named)
        except RefusedError as error:
            rule = f"policy.policy_id, or withdraw, {error.rule}; got {shown(named)}"
            raise DocumentRefused(f"{rule}; write it with `urban-brain policy apply`") from None
        cities = self._cities if document.get("city") is None else [_city(document, self._cities)]
        return dict.fromkeys(cities, value)


class ResponseDecoder:
    """What an operator does about one of its alerts; for the city of the alert."""

    def __init__(self, cities: Iterable[str]) -> None:
        self._cities = tuple(cities)

    def decode(self, value: bytes) -> Mapping[str, bytes]:
        document = _object(value, RESPONSE_SCHEMA)
        city = _city(document, self._cities)
        try:
            return {city: as_body(episode_of(document), response_of(document))}
        except RefusedError as error:
            raise DocumentRefused(f"{error.rule}; {error.remedy}") from None


def _object(value: bytes, schema: str) -> dict[str, Any]:
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise DocumentRefused(f"must be JSON; {error}; send one JSON object per record") from None
    if not isinstance(document, dict) or document.get("schema") != schema:
        found = document.get("schema") if isinstance(document, dict) else document
        raise DocumentRefused(f'must be an object with "schema": "{schema}"; got {shown(found)}; write it as documented')
    if _deeper_than(document, DEEPEST):
        raise DocumentRefused(f"must have at most {DEEPEST} levels of lists and objects; make it flatter")
    return document


def _deeper_than(document: Any, levels: int) -> bool:
    layer = [document]
    for _ in range(levels):
        inside = [part.values() if isinstance(part, dict) else part for part in layer if isinstance(part, dict | list)]
        layer = [part for parts in inside for part in parts]
    return any(isinstance(part, dict | list) for part in layer)


def _city(document: Mapping[str, Any], known: Iterable[str]) -> str:
    """The configured city that a document names; nothing else from a message ever becomes a name here."""
    named = document.get("city")
    for city in known:
        if city == named:
            return city
    raise DocumentRefused(f"city must be a configured city; got {shown(named)}; {nearest(str(named)[:80], known)}")
