"""Reading `operator.report` as anybody may who has the right: of each city, operator and day the record that counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from streams.alert_log import Logged

Found = tuple[dict[str, Any], bytes]
_NAMES = ("date", "city", "operator", "observed_at")


def newest_days(records: Iterable[Logged]) -> list[Found]:
    """(body, its bytes) by date, city and operator; of each key the greatest `observed_at`, of equal ones the last."""
    standing: dict[bytes, Found] = {}
    for record in records:
        body = _body(record.value)
        if body is not None and (record.key not in standing or body["observed_at"] >= standing[record.key][0]["observed_at"]):
            standing[record.key] = body, record.value or b""
    return sorted(standing.values(), key=lambda found: [found[0][name] for name in _NAMES])


def _body(value: bytes | None) -> dict[str, Any] | None:
    """What is a report."""
    try:
        body = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    named = isinstance(body, dict) and all(isinstance(body.get(name), str) for name in _NAMES)
    return body if named and isinstance(body.get("total"), dict) and isinstance(body.get("rules"), list) else None
