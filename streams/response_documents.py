"""Responses as they stand on their topics: what an operator does about one of its alerts. docs/policies.md, section 12.

{"schema": "urban-brain/response/1", "city": NAME, "episode_id": UUID, "status": STATUS, "eta": TIME, "reason": TEXT}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from geo.handling import DISPATCHED, REJECTED, STATUSES, Response
from streams.rfc3339 import parse_ms
from streams.settings.problems import RefusedError, nearest, shown

RESPONSE_SCHEMA = "urban-brain/response/1"
LONGEST_REASON = 500
END_MS = 4_102_444_800_000
"""The year 2100, as of pings."""

_EPISODE = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", flags=re.ASCII)


def episode_of(document: Mapping[str, Any]) -> str:
    """The episode that is answered. Raises RefusedError."""
    episode = document.get("episode_id")
    if isinstance(episode, str) and _EPISODE.fullmatch(episode):
        return episode
    rule = f"episode_id must be that of an alert, 36 characters like 0b7f4e0c-…; got {shown(episode)}"
    raise RefusedError(rule, "copy `episode_id` from the alert")


def response_of(document: Mapping[str, Any]) -> Response:
    """What is answered. Raises RefusedError."""
    status = document.get("status")
    if status not in STATUSES:
        remedy = nearest(status[:80], STATUSES) if isinstance(status, str) else f"Known: {', '.join(STATUSES)}."
        raise RefusedError(f"status must be one of {', '.join(STATUSES)}; got {shown(status)}", remedy)
    return Response(status, _eta(document.get("eta"), status), _reason(document.get("reason"), status))


def _eta(eta: object, status: str) -> int | None:
    if eta is None:
        return None
    if status != DISPATCHED:
        raise RefusedError(f"eta goes with status dispatched only; got {shown(eta)} with {status}", "leave it out")
    eta_ms = parse_ms(eta) if isinstance(eta, str) else None
    if eta_ms is None or not 0 < eta_ms < END_MS:
        rule = f"eta must be an RFC 3339 time with its offset, before 2100; got {shown(eta)}"
        raise RefusedError(rule, "write it like 2026-03-01T08:40:00+08:00")
    return eta_ms


def _reason(reason: object, status: str) -> str | None:
    if status != REJECTED:
        if reason is None:
            return None
        raise RefusedError(f"reason goes with status rejected only; got {shown(reason)} with {status}", "leave it out")
    if isinstance(reason, str) and 0 < len(reason) <= LONGEST_REASON and reason.isprintable():
        return reason
    rule = f"reason must be text of 1 to {LONGEST_REASON} printable characters with status rejected; got {shown(reason)}"
    raise RefusedError(rule, "say in a line why nothing will be done")
