"""The schemas of today may follow those that were released."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.schemas.compatible import breaks
from tests.schemas.validating import PAYLOADS, schema

RELEASED = Path(__file__).parent / "released"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_new_version_only_adds_optional_fields(payload: str) -> None:
    """If this fails: make the change optional. A form that can not follow the released one needs a new number and topic."""
    released = json.loads((RELEASED / f"{payload}.schema.json").read_bytes())
    assert breaks(released, schema(payload)) == []


def added(document: dict[str, Any]) -> None:
    document["properties"]["weather"] = {"type": "string"}
    document["$defs"]["Bike"]["properties"]["colour"] = {"type": "string"}


def told_otherwise(document: dict[str, Any]) -> None:
    document["properties"]["kind"]["examples"].append("deficit")
    document["properties"]["kind"]["description"] = "Otherwise."
    document["$defs"]["Ground"] = document["$defs"].pop("Area") | {"title": "Ground"}
    document["properties"]["area"]["$ref"] = "#/$defs/Ground"


@pytest.mark.parametrize("change", [added, told_otherwise])
def test_more_optional_fields_and_other_words_are_allowed(change: Callable[[dict[str, Any]], None]) -> None:
    new = copy.deepcopy(schema("alert"))
    change(new)
    assert breaks(schema("alert"), new) == []


def removed(document: dict[str, Any]) -> None:
    del document["properties"]["links"]


def required(document: dict[str, Any]) -> None:
    document["$defs"]["Bike"]["properties"]["colour"] = {"type": "string"}
    document["$defs"]["Bike"]["required"].append("colour")


def optional(document: dict[str, Any]) -> None:
    document["required"].remove("count")


def other_type(document: dict[str, Any]) -> None:
    document["properties"]["sequence"]["type"] = "string"


def narrower(document: dict[str, Any]) -> None:
    document["properties"]["kind"]["enum"] = ["overcrowded"]


def wider(document: dict[str, Any]) -> None:
    document["properties"]["excess"]["anyOf"].append({"type": "string"})


def other_form(document: dict[str, Any]) -> None:
    document["properties"]["opened_at"]["pattern"] = ".*"


def other_number(document: dict[str, Any]) -> None:
    document["properties"]["schema"]["const"] = "urban-brain/alert/2"


@pytest.mark.parametrize("change", [removed, required, optional, other_type, narrower, wider, other_form, other_number])
def test_a_change_that_would_hurt_somebody_is_found(change: Callable[[dict[str, Any]], None]) -> None:
    new = copy.deepcopy(schema("alert"))
    change(new)
    assert len(breaks(schema("alert"), new)) == 1
