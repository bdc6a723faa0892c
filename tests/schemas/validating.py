"""The published schemas as validators: as readers use them, and closed, so that a field that no schema tells of is found."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "schemas"
PAYLOADS = ("alert", "coverage", "density", "ping", "policy", "quarantine", "report")
Document = dict[str, Any]


def published(name: str) -> Document:
    return dict(json.loads((PUBLISHED / name).read_bytes()))


def schema(payload: str) -> Document:
    return published(f"{payload}.schema.json")


@cache
def asyncapi_validator() -> Draft7Validator:
    """AsyncAPI's own schema of its documents (github.com/asyncapi/spec-json-schemas, Apache-2.0), without line breaks."""
    packed = Path(__file__).parent / "vendor" / "asyncapi-3.0.0.json.gz"
    return Draft7Validator(json.loads(gzip.decompress(packed.read_bytes())))


def closed(document: Any) -> Any:
    """The schema with no field allowed that it does not name."""
    if isinstance(document, list):
        return [closed(part) for part in document]
    if not isinstance(document, dict):
        return document
    inside = {key: closed(value) for key, value in document.items()}
    return inside | {"additionalProperties": False} if "properties" in inside and inside.get("type") == "object" else inside


@cache
def validator(payload: str, *, strict: bool = False) -> Draft202012Validator:
    document = schema(payload)
    return Draft202012Validator(closed(document) if strict else document)


def wrong(payload: str, message: Any, *, strict: bool = False) -> list[str]:
    """What is wrong with a message, empty if nothing is."""
    return [f"{error.json_path}: {error.message}" for error in validator(payload, strict=strict).iter_errors(message)]


def strange_words(document: Document, message: Any, root: Document | None = None, path: str = "$") -> Iterator[str]:
    """Values of open words that the schema's examples do not list."""
    root = root or document
    if "$ref" in document:
        document = root["$defs"][document["$ref"].rpartition("/")[2]]
    if "examples" in document and message is not None and message not in document["examples"]:
        yield f"{path}: {message}"
    if "anyOf" in document and message is not None:
        for choice in document["anyOf"]:
            yield from strange_words(choice, message, root, path)
    if isinstance(message, dict):
        for key, part in document.get("properties", {}).items():
            if key in message:
                yield from strange_words(part, message[key], root, f"{path}.{key}")
    if isinstance(message, list) and "items" in document:
        for i, item in enumerate(message):
            yield from strange_words(document["items"], item, root, f"{path}[{i}]")
