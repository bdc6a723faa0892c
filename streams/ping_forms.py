"""A ping as it may stand on the wire: flat, or a point of MDS telemetry. What each field may be: docs/semantics.md, section 1."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

END_OF_TIME_MS = 4_102_444_800_000  # year 2100

_Name = Annotated[str, Meta(min_length=1, max_length=128)]
_Time = Annotated[int, Meta(gt=0, lt=END_OF_TIME_MS)] | str
_Number = float | None
_Text = str | None
_Lat = Annotated[float, Meta(ge=-90, le=90)]
_Lng = Annotated[float, Meta(ge=-180, le=180)]
_Accuracy = Annotated[float, Meta(ge=0)] | None
_State = Literal["available", "reserved", "non_operational", "non_contactable", "on_trip", "removed", "missing", "elsewhere"]


class GatewayPing(msgspec.Struct, gc=False, kw_only=True):
    """A ping on a gateway's feed, which must say whose bike it is."""

    bike_id: _Name
    ts: _Time
    lat: _Lat
    lng: _Lng
    accuracy: _Accuracy = None
    status: _State | None = None
    vehicle_type: _Text = None
    event: Annotated[str, Meta(max_length=128)] | None = None
    speed: _Number = None
    heading: _Number = None
    battery: _Number = None
    telemetry_id: _Text = None
    received_at: int | str | None = None
    operator: _Name


class Location(msgspec.Struct, gc=False):
    lat: _Lat
    lng: _Lng
    horizontal_accuracy: _Accuracy = None


class Telemetry(msgspec.Struct, gc=False, kw_only=True):
    """A point of MDS 2.0 vehicle telemetry: what counts of it, to be read like a ping.

    https://github.com/openmobilityfoundation/mobility-data-specification/blob/release-2.0.0/data-types.md#telemetry
    A point within a trip is of a bike that is ridden; of any other MDS tells no state, so that ping has none.
    """

    device_id: _Name
    timestamp: _Time
    location: Location
    trip_ids: list[str] | None = None
    telemetry_id: _Text = None
    provider_id: _Name

    vehicle_type = None
    event = None

    @property
    def bike_id(self) -> str:
        return self.device_id

    @property
    def ts(self) -> int | str:
        return self.timestamp

    @property
    def lat(self) -> float:
        return self.location.lat

    @property
    def lng(self) -> float:
        return self.location.lng

    @property
    def accuracy(self) -> float | None:
        return self.location.horizontal_accuracy

    @property
    def status(self) -> str | None:
        return "on_trip" if self.trip_ids else None

    @property
    def operator(self) -> str:
        return self.provider_id
