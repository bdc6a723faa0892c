"""The payloads that others read, as types. Every field says what it means: the published schemas are made of these.

Nothing at run time goes through these types: the core writes the bytes itself (`geo/alert.py`), and the tests hold what it writes
against the schemas. Words (`kind`, `state`, `severity`…) are open: `examples` holds those of today, and a reader must put up with
others. See docs/operators.md.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from geo.alert import (
    CLEARED,
    DEFICIT,
    ESCALATED,
    FEED_DEGRADED,
    FEED_SILENT,
    MERGED,
    OVERCROWDED,
    POLICY_REFUSED,
    RAISED,
    RESTOCKED,
    SCHEMA,
    SEVERITIES,
    UPDATED,
    WHOLE_CITY,
)
from geo.decrees import REPLACED, WITHDRAWN
from geo.degraded import ACCEPTED, RECOVERED
from geo.frame import QUARANTINED
from geo.ground import CAUSES
from geo.handling import CAUSES as ESCALATES
from geo.handling import STATUSES
from geo.outages import RETURNED
from geo.states import STATES, VEHICLES
from streams.control import POLICY_SCHEMA
from streams.events import DATA_SCHEMA
from streams.response_documents import LONGEST_REASON, RESPONSE_SCHEMA
from streams.schemas.fields import H3, UUID_PATTERN, Number, Time, text, time, word

QUARANTINE_SCHEMA = "urban-brain/quarantine/1"

CLOSING = (CLEARED, "cancelled")
"""States that end an episode."""

_Part = Annotated[
    str,
    Meta(description="Only of an incident that is `raised` as part of another one: the id of that one.", pattern=UUID_PATTERN),
]
_Whole = Annotated[
    str, Meta(description="Only of one `cleared` by `merged`: the id of the incident that goes on.", pattern=UUID_PATTERN)
]


class Position(msgspec.Struct):
    """WGS-84 degrees."""

    lat: Annotated[float, Meta(ge=-90, le=90, description="Latitude.")]
    lng: Annotated[float, Meta(ge=-180, le=180, description="Longitude.")]


class Rule(msgspec.Struct):
    """The rule that the alert is about."""

    policy_id: Annotated[str, text("Id of the policy that holds the rule; `built-in` for what needs no configuration.")]
    rule_id: Annotated[str, text("Id of the rule in its policy.")]
    name: Annotated[str, text("What the rule is called, for people.")]
    threshold: Annotated[int, Meta(ge=0, description="What the rule allows here, in `unit`.")]
    unit: Annotated[str, word("Of `threshold`: `bikes`, `s` (seconds), `%` or `problems`.", "bikes", "s", "%", "problems")]
    per_hectare: Annotated[str | None, text("The density that the threshold comes from, as configured; null: from none.")]
    window: Annotated[
        dict[str, Any] | None, text("When the rule applies: days, start_time, end_time, time_zone; null: always.")
    ]
    scope: Annotated[
        str | UnsetType,
        word("`all_operators`: the threshold is one for all operators together; absent: for each.", "all_operators"),
    ] = UNSET


class HotSpot(msgspec.Struct):
    """Where most of the listed bikes are: a cell of H3 resolution 10 within or beside the area."""

    h3: H3
    resolution: Annotated[int, text("H3 resolution of the hot spot.")]
    bikes: Annotated[int, Meta(ge=1, description="How many of the listed bikes stand in it.")]
    centroid: Annotated[Position, text("Its centre.")]


class Area(msgspec.Struct):
    """Where. If nothing is counted (`feed_silent`, `feed_degraded`, `policy_refused`), everything but type and name is null."""

    type: Annotated[
        str,
        word(
            "What the area is: `cell` (of H3), `cells` (an incident: cells that touch), `zone` (polygons), or `city`.",
            "cell",
            "cells",
            "zone",
            WHOLE_CITY,
        ),
    ]
    h3: Annotated[H3 | None, text("Index of the cell, lower-case hex; of `cells` the one in which it began.")]
    resolution: Annotated[int | None, text("H3 resolution of the cell, or of the cells.")]
    name: Annotated[str | None, text("Name of the area; null for cells.")]
    centroid: Annotated[Position | None, text("Its centre.")]
    boundary: Annotated[
        list[Annotated[list[float], Meta(min_length=2, max_length=2)]] | None,
        text("Its outline, [lat, lng] each, WGS-84; the last point is not the first again."),
    ]
    area_ha: Annotated[float | None, text("Its size in hectares.")]
    hot_spot: Annotated[HotSpot | None, text("Where in it most of the listed bikes are; null: none is listed.")]
    cells: Annotated[list[H3] | UnsetType, text("Only of `cells`: the indexes of all of them, ascending.")] = UNSET


class Bike(msgspec.Struct):
    """A bike to act on."""

    id: Annotated[str, text("The operator's own id of the bike, as in its pings.")]
    lat: Annotated[float, Meta(ge=-90, le=90, description="Latitude, WGS-84, also if the feed is in other coordinates.")]
    lng: Annotated[float, Meta(ge=-180, le=180, description="Longitude, WGS-84.")]
    parked_since: Annotated[str, time("Since when it stands there, by its own clock.")]
    last_heard: Annotated[str, time("Time of its newest ping that was told; may be an hour behind the newest of all.")]
    state: Annotated[str, word("MDS vehicle state.", *STATES[1:])]
    vehicle_type: Annotated[str | None, word("MDS vehicle type; null: the pings name none.", *VEHICLES[1:])]


class Move(msgspec.Struct):
    """So many bikes from here to there."""

    to: Annotated[H3 | None, text("Cell to bring them to; null: to the depot, no cell within reach has room.")]
    centroid: Annotated[
        Position | None, text("Where in that cell: its centre, or the middle of a zone that lacks bikes; null for the depot.")
    ]
    bikes: Annotated[int, Meta(ge=1, description="How many.")]
    distance_m: Annotated[Number | None, text("As the crow flies, metres; null for the depot.")]


class Links(msgspec.Struct):
    """Maps of the centroid."""

    wgs84: Annotated[str, text("OpenStreetMap.")]
    gcj02: Annotated[str, text("Amap, in the coordinates of Chinese maps.")]


class Refused(msgspec.Struct):
    """A policy that a city could not take."""

    policy_id: Annotated[str, text("Its id.")]
    problems: Annotated[list[str], text("Each with the rule, what was found, and what to do; none once it is over.")]


class Lost(msgspec.Struct):
    """Most of a fleet, gone within one tick."""

    before: Annotated[Number, text("Bikes of the operator that stood in the city.")]
    after: Annotated[Number, text("Bikes that would stand in it by what the feed said then.")]


class Response(msgspec.Struct):
    """What the operator does about it, as it said itself."""

    status: Annotated[str, word("What it says.", *STATUSES)]
    at: Annotated[str, time("When it said so.")]
    eta: Annotated[Time | None, text("Only of `dispatched`: when it expects to be there; null: it does not say.")]
    reason: Annotated[str | None, text("Only of `rejected`: why, in the operator's words: show it as text, never as markup.")]


class Escalation(msgspec.Struct):
    """A reason for somebody else to look at it."""

    cause: Annotated[
        str,
        word(
            "`respond_by`, `resolve_by`: that deadline passed without a response, or with the episode still open; `rejected`: the "
            "operator will not do it.",
            *ESCALATES,
        ),
    ]
    at: Annotated[str, time("When.")]


class Alert(msgspec.Struct):
    """One event of an episode. Each is whole: the newest one of an episode says all there is to know of it."""

    schema: Annotated[str, Meta(description="Name and version of this form.", extra_json_schema={"const": SCHEMA})]
    event_id: Annotated[
        str,
        Meta(description="Id of this event, `episode_id`/`sequence`. An event that comes again has the same one."),
    ]
    episode_id: Annotated[
        str,
        Meta(description="Id of the episode: the same from `raised` to `cleared`.", pattern=UUID_PATTERN),
    ]
    sequence: Annotated[int, Meta(ge=1, description="1, 2, 3… within the episode; the highest is the newest.")]
    kind: Annotated[
        str,
        word(
            "What is wrong: `overcrowded` (too many bikes in an area), `deficit` (too few), `feed_silent` (no ping came for too "
            "long), `feed_degraded` (a feed took most of its fleet away at once, which is not believed yet), `policy_refused` (a policy could not be taken; what was in force stays).",
            OVERCROWDED,
            DEFICIT,
            FEED_SILENT,
            FEED_DEGRADED,
            POLICY_REFUSED,
        ),
    ]
    state: Annotated[
        str,
        word(
            "`raised` opens the episode; `updated` and `escalated`: it goes on, with new figures; `cleared` and `cancelled` end it.",
            *(RAISED, UPDATED, ESCALATED, *CLOSING),
        ),
    ]
    severity: Annotated[
        str,
        word("How bad it is; worse by a step for each deadline missed. Of the last event: as of the one before.", *SEVERITIES),
    ]
    city: Annotated[str, text("Name of the city.")]
    operator: Annotated[str, text("Whose bikes; empty: the whole city's (only in the city's copy).")]
    rule: Annotated[Rule, text("The rule that the alert is about.")]
    area: Annotated[Area, text("Where.")]
    count: Annotated[Number | None, text("Bikes of the operator that stand in the area now; null: not about bikes.")]
    excess: Annotated[
        Number | None,
        text("How many to take away, down to the target that lies below the threshold; null: not about bikes."),
    ]
    bikes: Annotated[
        list[Bike],
        text(
            "Which ones: not operational ones first, then the longest parked. Never reserved ones; at most `excess`, and a cap."
        ),
    ]
    moves: Annotated[
        list[Move],
        text(
            "Where to bring them, the nearest first, the depot last; empty: there is no plan yet. Made a little earlier than the "
            "event, so they may be for some bikes more or fewer than `excess`."
        ),
    ]
    opened_at: Annotated[str, time("When the episode opened; stream time, as all times of an alert.")]
    observed_at: Annotated[str, time("The moment that this event describes.")]
    respond_by: Annotated[Time | None, text("By when to respond; null: there is no deadline.")]
    resolve_by: Annotated[Time | None, text("By when to have it in order; null: there is no deadline.")]
    cleared_by: Annotated[
        str | None,
        word(
            "What ended it: what became of most of the bikes, `policy` (the rule is not in force any more, or others have the "
            "bikes), `merged` (an older incident has its cells now), `restocked` (enough bikes came), `returned` (the feed "
            "speaks again), `recovered` (the fleet is there again), `accepted` (its loss is believed), `replaced` (a good policy of "
            "that id came) or `withdrawn` (the policy); null: it has not ended.",
            *CAUSES,
            MERGED,
            RESTOCKED,
            RETURNED,
            RECOVERED,
            ACCEPTED,
            REPLACED,
            WITHDRAWN,
        ),
    ]
    links: Annotated[Links | None, text("Maps of the centroid; null: of no place.")]
    count_all_operators: Annotated[
        int | UnsetType | None,
        text("Bikes of all operators in the area. In the city's copy, and where at least three share one threshold."),
    ] = UNSET
    split_from: _Part | UnsetType = UNSET
    merged_into: _Whole | UnsetType = UNSET
    missing: Annotated[Number | UnsetType, text("Only of a `deficit`: how many bikes to bring.")] = UNSET
    refused: Annotated[Refused | UnsetType, text("Only of `policy_refused`: which policy, and why.")] = UNSET
    lost: Annotated[Lost | UnsetType, text("Only of `feed_degraded`: what it took away.")] = UNSET
    mode: Annotated[str | UnsetType, word("`shadow`: the rule is on trial; no operator is told.", "shadow")] = UNSET
    response: Annotated[Response | UnsetType, text("The newest one of the operator; absent: it has not answered.")] = UNSET
    escalations: Annotated[
        list[Escalation] | UnsetType, text("Those of the episode so far, oldest first; absent: there was none.")
    ] = UNSET


class Origin(msgspec.Struct):
    """Where a record stands in the input, and a ping in the record."""

    topic: Annotated[str, text("Topic.")]
    partition: Annotated[int, Meta(ge=0, description="Partition.")]
    offset: Annotated[int, Meta(ge=0, description="Offset.")]
    index: Annotated[Number | UnsetType, text("Only of a ping of a record that holds several: which one, from 0.")] = UNSET


class Quarantine(msgspec.Struct):
    """A record that was refused, or a ping of a record that holds several."""

    schema: Annotated[str, Meta(description="Name and version of this form.", extra_json_schema={"const": QUARANTINE_SCHEMA})]
    reason: Annotated[str, word("Why, in one word.", *QUARANTINED)]
    text: Annotated[str, text("Why, in a sentence: the rule, what was found, what to do.")]
    origin: Annotated[Origin, text("Where it stands.")]
    value: Annotated[str | None, text("What it said, as text, at most the first 64 KiB; bytes that are no UTF-8 as \\xNN.")]
    value_bytes: Annotated[int | None, text("Its whole length in bytes.")]
    value_sha256: Annotated[str | None, text("SHA-256 of the whole of it, hex.")]


class PolicyRecord(msgspec.Struct, kw_only=True):
    """A policy as it comes into force, or the withdrawal of one: exactly one of `policy` and `withdraw` is there."""

    schema: Annotated[str, Meta(description="Name and version of this form.", extra_json_schema={"const": POLICY_SCHEMA})]
    city: Annotated[str | None, text("The city that it is for; absent or null: every city.")] | UnsetType = UNSET
    policy: Annotated[dict[str, Any], text("A policy of MDS 2.0, with the operators' names in `provider_ids`.")] | UnsetType = (
        UNSET
    )
    geographies: (
        Annotated[list[dict[str, Any]], text("Every geography that its rules name, each one of MDS 2.0.")] | UnsetType
    ) = UNSET
    withdraw: Annotated[str, text("`policy_id` of the policy that is in force no longer.")] | UnsetType = UNSET


class ResponseRecord(msgspec.Struct, kw_only=True):
    """What an operator does about one of its alerts, on its own topic."""

    schema: Annotated[str, Meta(description="Name and version of this form.", extra_json_schema={"const": RESPONSE_SCHEMA})]
    city: Annotated[str, text("`city` of the alert.")]
    episode_id: Annotated[str, Meta(description="`episode_id` of the alert.", pattern=UUID_PATTERN)]
    status: Annotated[
        str,
        Meta(
            description="`acknowledged`: seen; `dispatched`: somebody is on the way; `done`: it is in order, as far as the operator "
            "can tell (the city looks for itself); `rejected`: the operator will not do it.",
            extra_json_schema={"enum": list(STATUSES)},
        ),
    ]
    eta: (
        Annotated[
            str | None,
            Meta(
                description="Only with `dispatched`: when somebody will be there, RFC 3339 with an offset.",
                extra_json_schema={"format": "date-time"},
            ),
        ]
        | UnsetType
    ) = UNSET
    reason: (
        Annotated[
            Annotated[str, Meta(min_length=1, max_length=LONGEST_REASON)] | None,
            text("With `rejected`, and only then: why, in a line."),
        ]
        | UnsetType
    ) = UNSET


class CloudEventHeaders(msgspec.Struct, kw_only=True):
    """Headers of a record that holds an alert: CloudEvents 1.0, binary mode."""

    ce_specversion: Annotated[str, Meta(description="Version of CloudEvents.", extra_json_schema={"const": "1.0"})]
    ce_id: Annotated[str, text("`event_id` of the alert.")]
    ce_source: Annotated[str, text("`urban-brain/` and the city's name.")]
    ce_type: Annotated[
        str,
        word(
            "`urban-brain.alert.` and the state.",
            *(f"urban-brain.alert.{state}" for state in (RAISED, UPDATED, ESCALATED, CLEARED)),
        ),
    ]
    ce_subject: Annotated[
        str, text("The area: an H3 index, the id of a zone, or `city`; of `policy_refused` the id of the policy.")
    ]
    ce_time: Annotated[str, time("`observed_at` of the alert.")]
    ce_dataschema: Annotated[
        str, Meta(description="`$id` of the schema of the body.", extra_json_schema={"const": DATA_SCHEMA})
    ]
    content_type: Annotated[str, Meta(description="Of the body.", extra_json_schema={"const": "application/json"})] = (
        msgspec.field(name="content-type")
    )
    late_ms: (
        Annotated[
            str, Meta(description="By how much the event left after its time, ms; only if it left late.", pattern=r"^\d+$")
        ]
        | UnsetType
    ) = UNSET


class OpenAlertHeaders(CloudEventHeaders, kw_only=True):
    """The same, with the sequence: of one key the highest counts."""

    sequence: Annotated[str, Meta(description="`sequence` of the alert.", pattern=r"^\d+$")]
