"""Records that hold several pings, and where each ping begins. docs/semantics.md, section 1.

Only a record that is no ping by itself is looked at here, so single pings cost nothing more. A ping of a batch is judged by
itself: what is broken in one is not broken in its neighbours, as long as it is clear where one ends.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from streams.arrow import arrow_pings
from streams.refusals import BrokenRecordError, explain, too_many

Format = Literal["json", "mds", "arrow"]

MOST_PINGS = 10_000
"""In one record: what a record of Kafka's usual 1 MB can hold."""

_FEW_PINGS, _LEAST_BYTES = 64, 16
"""A few pings may be of any size. The shortest ping is longer than 16 bytes: what claims to hold more would only take memory."""

_BLANK = b" \t\r\n"
_ARRAY = re.compile(rb"[ \t\r\n]*\[")
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_any = msgspec.json.Decoder(msgspec.Raw).decode


class _Payload(msgspec.Struct, gc=False):
    """What MDS sends: the version and links beside it are nobody's business here."""

    telemetry: list[msgspec.Raw]


_payload = msgspec.json.Decoder(_Payload).decode


def _json(value: bytes) -> list[bytes] | None:
    return _array(value) if _ARRAY.match(value) else _lines(value)


def _mds(value: bytes) -> list[bytes] | None:
    pings = _json(value)
    if pings is None:
        try:
            return [bytes(ping) for ping in _payload(value).telemetry]
        except (msgspec.DecodeError, RecursionError):  # then it is one telemetry point, or nothing
            return None
    return pings


def _array(value: bytes) -> list[bytes]:
    try:
        return [bytes(ping) for ping in _items(value)]
    except (ValueError, RecursionError) as error:
        raise BrokenRecordError(explain(value, error)) from None


def _lines(value: bytes) -> list[bytes] | None:
    """Lines, if one of several is an object and they are not one JSON text together: one that is laid out over lines is."""
    if b"\n" not in value:
        return None
    lines = [line for raw in value.split(b"\n") if (line := raw.strip(_BLANK))]
    if len(lines) < 2 or not any(line.startswith(b"{") and line.endswith(b"}") for line in lines):
        return None
    try:
        _any(value)
    except (ValueError, RecursionError):
        return lines
    return None


def pings_of(value: bytes, form: Format) -> list[bytes] | None:
    """The pings of a record that is no ping by itself, in order; None: it is not several either.

    Raises BrokenRecordError with the reason if it is broken as a whole, or holds too many.
    """
    most = min(MOST_PINGS, _FEW_PINGS + len(value) // _LEAST_BYTES)
    pings = arrow_pings(value, most) if form == "arrow" else _mds(value) if form == "mds" else _json(value)
    if pings is not None and len(pings) > most:
        raise too_many(len(pings), most)
    return pings
