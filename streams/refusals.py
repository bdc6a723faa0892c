"""Why a record is malformed, in words: the rule, what was there instead, and what to do about it."""

from __future__ import annotations

import msgspec

SHOWN_CHARACTERS = 80
_SEARCHED_BYTES = 4096  # a greater record is not parsed again only to show its field

_REMEDIES = {
    "bike_id": "send the bike's id as a string of 1 to 128 printable characters",
    "operator": "name the operator as a string; without it only an operator's own feed can do",
    "ts": "send milliseconds since 1970 as an integer, or RFC 3339 with an offset, before the year 2100",
    "lat": "send WGS-84 degrees from -90 to 90 (or the feed's own coordinates) as a number",
    "lng": "send degrees from -180 to 180 as a number",
    "accuracy": "send metres, 0 or more, or leave it out",
    "status": "send a vehicle_state of MDS 2.0, or leave it out",
    "event": "send an event_type of MDS 2.0, at most 128 characters, or leave it out",
    "device_id": "send the device's id as a string of 1 to 128 printable characters",
    "timestamp": "send milliseconds since 1970 as an integer, before the year 2100",
    "location": "send an object with lat and lng",
    "provider_id": "send the provider's id as a string; without it only an operator's own feed can do",
}
_OTHER_FIELD = "see the table of fields in docs/semantics.md, or leave it out"
_NOT_AN_OBJECT = "send one flat JSON object in UTF-8, or an array of such, or one a line"


class BrokenRecordError(ValueError):
    """A record that may hold several pings and is broken as a whole. Its text is the reason."""


def shown(value: object) -> str:
    """A value for a message, cut."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    text = repr(text if not isinstance(text, str) else text[: SHOWN_CHARACTERS + 1])
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def explain(value: bytes, error: Exception) -> str:
    """The reason of a record that did not parse. Never raises."""
    message = str(error) or type(error).__name__
    rule, _, path = message.partition(" - at `$.")
    field = path.rstrip("`")
    if not field and rule.startswith("Object missing required field `"):
        name = rule.split("`")[1]
        return f"{rule}; got {_cut(value)}; {_REMEDIES.get(name, _OTHER_FIELD)}"
    if not field:
        return f"{rule}; got {_cut(value)}; {_NOT_AN_OBJECT}"
    return f"{field}: {rule}; got {_field(value, field)}; {_REMEDIES.get(field, _OTHER_FIELD)}"


def too_many(pings: int, most: int) -> BrokenRecordError:
    """The reason of a record that holds more than it may."""
    return BrokenRecordError(f"a record of this size must hold at most {most} pings; got {pings}; send them in more records")


def _cut(value: bytes) -> str:
    return shown(value[: 4 * SHOWN_CHARACTERS])


def _field(value: bytes, field: str) -> str:
    """The value of a field, if it can be had cheaply."""
    if len(value) <= _SEARCHED_BYTES:
        try:
            return shown(msgspec.json.decode(value)[field])
        except Exception:  # it has been refused already: whatever else is wrong with it does not matter
            pass
    return _cut(value)
