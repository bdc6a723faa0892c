"""One event on its way from a topic to an endpoint, and the headers that a request has."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

_CLOUD_EVENTS_SAFE = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')
"""The HTTP binding of CloudEvents percent-encodes the others, the space included (section 3.1.3.2)."""


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Event:
    """A record as it was read. key: the episode's id, or whatever must be kept in order."""

    place: Place
    offset: int
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]

    @property
    def id(self) -> str:
        """The event's id, the same whenever it comes again; of a record that is no event, its place."""
        given = dict(self.headers).get("ce_id", b"").decode("utf-8", "replace")
        return given or f"{self.place.topic}/{self.place.partition}/{self.offset}"


def request_headers(event: Event, key: bytes, now_s: int) -> dict[str, str]:
    """CloudEvents in binary mode, and the three headers of the Standard Webhooks specification.

    key: bytes of the secret; now_s: seconds since the epoch, part of what is signed.
    """
    headers = {_http_name(name): quote(value, safe=_CLOUD_EVENTS_SAFE) for name, value in event.headers}
    headers["webhook-id"] = quote(event.id, safe=_CLOUD_EVENTS_SAFE)
    headers["webhook-timestamp"] = str(now_s)
    headers["webhook-signature"] = signature(key, headers["webhook-id"], now_s, event.value)
    return headers


def signature(key: bytes, event_id: str, now_s: int, body: bytes) -> str:
    """`v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`."""
    digest = hmac.new(key, f"{event_id}.{now_s}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _http_name(name: str) -> str:
    """`ce_id` of the Kafka binding is `ce-id` over HTTP; many servers drop names with an underscore."""
    return name.replace("_", "-").lower()
