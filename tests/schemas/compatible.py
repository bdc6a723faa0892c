"""Whether a schema may follow another: a new version adds optional fields, and nothing else.

So a reader of today understands what is sent tomorrow, and a ping of today is taken tomorrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TELLING = ("description", "title", "examples", "default")
"""What only tells people something may change."""

Document = dict[str, Any]


def breaks(old: Document, new: Document) -> list[str]:
    """Every difference that a new version must not have, with its place."""
    return list(_object(_whole(old), _whole(new), "$"))


def _whole(document: Document) -> Document:
    """The schema with its references followed."""
    definitions = document.get("$defs", {})

    def follow(part: Any) -> Any:
        if isinstance(part, list):
            return [follow(inside) for inside in part]
        if not isinstance(part, dict):
            return part
        reference = part.get("$ref")
        if isinstance(reference, str):
            part = definitions[reference.rpartition("/")[2]] | {key: value for key, value in part.items() if key != "$ref"}
        return {key: follow(value) for key, value in part.items() if key != "$defs"}

    return dict(follow(document))


def _object(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        if "properties" in old and "properties" in new:
            yield from _fields(old, new, path)
        keys = (old.keys() | new.keys()) - {"properties", "required", *_TELLING}
        for key in sorted(keys):
            if key not in old or key not in new:
                yield f"{path}: {key} came or went"
            else:
                yield from _object(old[key], new[key], f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _object(one, other, f"{path}[{i}]")
    elif old != new:
        yield f"{path}: {old!r} became {new!r}"


def _fields(old: Document, new: Document, path: str) -> Iterator[str]:
    before, after = old["properties"], new["properties"]
    for name in sorted(before.keys() - after.keys()):
        yield f"{path}.{name}: went"
    for name in sorted(before.keys() & after.keys()):
        yield from _object(before[name], after[name], f"{path}.{name}")
    wanted, needed = set(old.get("required", ())), set(new.get("required", ()))
    for name in sorted(needed - wanted):
        yield f"{path}.{name}: is required now"
    for name in sorted(wanted - needed):
        yield f"{path}.{name}: may be missing now"
