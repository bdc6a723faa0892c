"""JSON Schemas and the AsyncAPI document, made of the types of the payloads and the names of the topics."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import msgspec
import orjson

from streams.pacing import Progress
from streams.packs import MOST_PINGS
from streams.ping_forms import GatewayPing, Telemetry
from streams.schemas.city_payloads import Coverage, Density, DensityHeaders, Report
from streams.schemas.payloads import Alert, CloudEventHeaders, OpenAlertHeaders, PolicyRecord, Quarantine, ResponseRecord
from streams.settings.deployment import Deployment
from streams.settings.values import Topics
from streams.topics import COMPACTED

Document = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ASYNCAPI = "3.0.0"
PING = "Ping"

_PING_TEXT = (
    "Where a bike is and how it does. One flat JSON object a record, the bike's id as its key; or several in a record, as an array "
    "or one a line. Unknown fields are ignored."
)
_PING_FIELDS: Mapping[str, str] = {
    "bike_id": "Id of the bike: 1 to 128 printable characters. A bike is (operator, id).",
    "operator": "Whose bike it is. A gateway must say it; on an operator's own feed it may be left out, and must be that operator.",
    "ts": "When the bike was there, by its own clock: milliseconds since 1970 (an integer, written as one), or RFC 3339 with an offset.",
    "lat": "Latitude in degrees; WGS-84, or what the feed is configured for. Latitude and longitude both 0 are refused.",
    "lng": "Longitude in degrees.",
    "accuracy": "Horizontal accuracy in metres; 0 or absent: not reported.",
    "status": "MDS vehicle state; absent: judged by how the bike moves.",
    "vehicle_type": "MDS vehicle type; what is not known counts as `other`.",
    "event": "MDS event type; those at which somebody touched the bike end a hold of its position.",
    "speed": "Not used yet.",
    "heading": "Not used yet.",
    "battery": "Not used yet.",
    "telemetry_id": "Not used yet.",
    "received_at": "When it was received: record time when it is replayed.",
}


_TELEMETRY_FIELDS: Mapping[str, str] = {
    "device_id": "Id of the bike: 1 to 128 printable characters.",
    "timestamp": "When the bike was there, by its own clock: milliseconds since 1970.",
    "location": "Where.",
    "trip_ids": "Trips that it is on: then it is ridden.",
    "telemetry_id": "Not used yet.",
    "provider_id": "Whose bike it is, by `[network.providers]`; on an operator's own feed it may be left out.",
    "lat": "Latitude in degrees.",
    "lng": "Longitude in degrees.",
    "horizontal_accuracy": "In metres; 0 or absent: not reported.",
}


def _components(types: list[Any], template: str) -> Document:
    """JSON Schema of every type that these are made of, by name; the ping under its own."""
    _, found = msgspec.json.schema_components(types, ref_template=template)
    components = {name.lstrip("_").replace("GatewayPing", PING): schema for name, schema in found.items()}
    if PING in components:
        components[PING] = _ping(components[PING]) | {"title": PING, "description": _PING_TEXT}
    for name in ("Telemetry", "Location"):
        if name in components:
            text = (
                "A point of MDS 2.0 telemetry: what counts of it."
                if name == "Telemetry"
                else "WGS-84 degrees, as in GPS data of MDS."
            )
            components[name] = _ping(components[name]) | {"title": name, "description": text}
    return components


def _ping(schema: Document) -> Document:
    """The operator may be left out: on an operator's own feed. Fields that do not count are not described by their default."""
    properties = {}
    for name, field in schema["properties"].items():
        text = _PING_FIELDS.get(name) or _TELEMETRY_FIELDS[name]
        properties[name] = {"description": text} | {key: value for key, value in field.items() if key != "default"}
    required = [name for name in schema["required"] if name not in ("operator", "provider_id")]
    return schema | {"properties": properties, "required": required}


def json_schema(payload: Any, name: str, number: int) -> Document:
    """The schema of one payload, whole in itself."""
    components = _components([payload], "#/$defs/{name}")
    root = components.pop(PING if payload is GatewayPing else payload.__name__)
    document = {"$schema": DIALECT, "$id": f"urn:urban-brain:{name}:{number}", **root}
    return document | ({"$defs": dict(sorted(components.items()))} if components else {})


# --- AsyncAPI -----------------------------------------------------------------------------------------------------------

_NAMES = Topics("{prefix}", "{app_id}", Deployment.model_fields["changelog_pattern"].default)
_PARAMETERS = {
    "prefix": {"description": "`topic_prefix` of the deployment.", "default": ""},
    "app_id": {"description": "`app_id` of the deployment.", "default": Deployment.model_fields["app_id"].default},
    "operator": {"description": "Name of an operator of the configuration.", "examples": ["amber"]},
    "feed": {"description": "Topic of a feed, as configured.", "examples": ["bike.pings.amber"]},
    "topic": {
        "description": "The topic whose state is kept: an input topic, or `city.facts`.",
        "examples": ["bike.pings.amber"],
    },
    "mds_feed": {"description": "Topic of a feed with the format mds.", "examples": ["bike.pings.cobalt"]},
    "arrow_feed": {"description": "Topic of a feed with the format arrow.", "examples": ["bike.pings.jade"]},
}


def _message(title: str, summary: str, payload: Document, *, key: str | None = None, **more: Any) -> Document:
    bindings = {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": "0.5.0"}} if key else None
    message = {"title": title, "summary": summary, "payload": payload, **more}
    return message | ({"bindings": bindings} if bindings else {})


def _schema(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


_NOTHING = {"type": "null"}
_BYTES = {"type": "string", "format": "binary"}
_JSON = "application/json"
_EPISODE = "`episode_id` of the alert."
_CELL = "The city, `/`, and the H3 index of the cell."


def _messages() -> Document:
    headers, opened = _schema("CloudEventHeaders"), _schema("OpenAlertHeaders")
    points = {"type": "array", "items": _schema("Telemetry"), "maxItems": MOST_PINGS}
    return {
        "ping": _message("Ping", "Where a bike is.", _schema(PING), key="`bike_id`.", contentType=_JSON),
        "pings": _message(
            "Pings", "Several of the record's time, in order; as an array, or one a line (application/x-ndjson).",
            {"type": "array", "items": _schema(PING), "maxItems": MOST_PINGS}, contentType=_JSON,
        ),
        "telemetry": _message(
            "MDS telemetry", "A point; points in an array or one a line; or what MDS Provider gives.",
            {"oneOf": [_schema("Telemetry"), points, {"type": "object", "properties": {"telemetry": points}, "required": ["telemetry"]}]},
            contentType=_JSON,
        ),
        "arrow": _message(
            "Arrow", "A stream of Arrow's IPC format, a ping a row, columns named as the fields of a ping.", _BYTES,
            contentType="application/vnd.apache.arrow.stream",
        ),
        "clock": _message("Clock record", "A record without value: its time is the clock of the partition.", _NOTHING),
        "policy": _message(
            "Policy", "A policy with its geographies, or its withdrawal.", _schema("PolicyRecord"),
            key="`policy_id`.", contentType=_JSON,
        ),
        "response": _message(
            "Response", "What an operator does about one of its alerts.", _schema("ResponseRecord"), key=_EPISODE, contentType=_JSON
        ),
        "frame": _message("Frame", "What changed in a tick, and how far time is.", _BYTES, contentType="application/vnd.msgpack"),
        "snapshot": _message("Snapshot", "Parts and manifests.", _BYTES, contentType="application/octet-stream"),
        "progress": _message("Progress", "The tick that a city has closed.", _schema("Progress"), key="The city.", contentType=_JSON),
        "alert": _message("Alert", "One event of an episode.", _schema("Alert"), key=_EPISODE, contentType=_JSON, headers=headers),
        "openAlert": _message(
            "Open alert", "The newest event of an episode that is open.", _schema("Alert"),
            key=_EPISODE, contentType=_JSON, headers=opened,
        ),
        "closedAlert": _message("Closed alert", "A record without value: the episode is over.", _NOTHING, key=_EPISODE),
        "density": _message(
            "Density", "How many bikes of each operator stand in a cell.", _schema("Density"),
            key=_CELL, contentType=_JSON, headers=_schema("DensityHeaders"),
        ),
        "emptyCell": _message(
            "Empty cell", "A record without value: the cell holds no bikes any more; of silent operators see the coverage.",
            _NOTHING, key=_CELL, headers=_schema("DensityHeaders"),
        ),
        "coverage": _message(
            "Coverage", "What it means that a cell has no record.", _schema("Coverage"),
            key="The city.", contentType=_JSON, headers=_schema("DensityHeaders"),
        ),
        "report": _message(
            "Report", "The three rates of an operator on a day; told again until it is complete.", _schema("Report"),
            key="The city, `/`, the operator, `/`, and the date.", contentType=_JSON, headers=_schema("DensityHeaders"),
        ),
        "quarantined": _message(
            "Refused record", "What was refused, and why.", _schema("Quarantine"), key="Key of the record.", contentType=_JSON
        ),
    }  # fmt: skip


def _channels() -> Document:
    names = _NAMES
    return {
        "policies": _channel(
            names.policies, "Policies as they come into force and are withdrawn; kept for ever.", "policy", "clock"
        ),
        "responses": _channel(
            names.responses("{operator}"),
            "What an operator does about its alerts, written by nobody else; kept for ever.",
            *("response", "clock"),
        ),
        "pings": _channel("{feed}", "Pings of bikes: one topic for each feed.", "ping", "pings", "clock"),
        "telemetry": _channel("{mds_feed}", "The same, of a feed in the format mds.", "telemetry", "clock"),
        "arrow": _channel("{arrow_feed}", "The same, of a feed in the format arrow.", "arrow", "clock"),
        "alerts": _channel(names.alerts, "Every event of every operator: the city's copy.", "alert"),
        "operatorAlerts": _channel(
            names.operator_topic("{operator}"), "An operator's own events, without its rivals' figures.", "alert"
        ),
        "openAlerts": _channel(
            names.alerts_open,
            "The newest event of each open episode, the city's copy; of one key the highest `sequence` counts.",
            *("openAlert", "closedAlert"),
            compacted=True,
        ),
        "shadowAlerts": _channel(names.alerts_shadow, "Every event of rules on trial: for the city alone.", "alert"),
        "density": _channel(
            names.density,
            "Bikes of each operator in each cell, at most once an interval, and per city what no record means. The city's own: "
            "operators must not read it, for it holds their rivals' figures.",
            *("density", "emptyCell", "coverage"),
            compacted=True,
        ),
        "report": _channel(
            names.report,
            "Response, resolution and on-time rate of each operator, by day and rule. The city's own: operators must not read it.",
            "report",
            compacted=True,
        ),
        "quarantine": _channel(names.quarantine, "Records that were refused.", "quarantined"),
        "facts": _channel(names.facts, "From stage one to stage two.", "frame", internal=True),
        "progress": _channel(names.progress, "How far each city is.", "progress", compacted=True, internal=True),
        "changelog": _channel(
            names.changelog("{topic}"), "State of the partitions of a topic.", "snapshot", compacted=True, internal=True
        ),
    }


def _channel(address: str, description: str, *messages: str, compacted: bool = False, internal: bool = False) -> Document:
    parameters = {name: text for name, text in _PARAMETERS.items() if f"{{{name}}}" in address}
    cleanup = COMPACTED["cleanup.policy"] if compacted else "delete"
    channel = {
        "address": address,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "parameters": parameters,
        "bindings": {"kafka": {"topicConfiguration": {"cleanup.policy": [cleanup]}, "bindingVersion": "0.5.0"}},
    }
    return channel | ({"tags": [{"name": "internal", "description": "Nobody else's affair; may change."}]} if internal else {})


def _operation(action: str, channel: str, summary: str) -> Document:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


_OPERATIONS = {
    "receivePings": _operation("receive", "pings", "Operators and gateways write pings."),
    "receivePolicies": _operation("receive", "policies", "The city writes policies: `urban-brain policy apply`."),
    "keepPoliciesTime": _operation("send", "policies", "As on topics of pings."),
    "receiveResponses": _operation("receive", "responses", "An operator answers its own alerts."),
    "keepResponsesTime": _operation("send", "responses", "As on topics of pings."),
    "receiveTelemetry": _operation("receive", "telemetry", "Operators and gateways write MDS telemetry."),
    "receiveArrow": _operation("receive", "arrow", "Operators and gateways write Arrow streams."),
    "keepTime": _operation("send", "pings", "A worker says what time it is where nobody speaks."),
    "sendAlerts": _operation("send", "alerts", "The city reads everything."),
    "sendOperatorAlerts": _operation("send", "operatorAlerts", "An operator reads its own."),
    "sendOpenAlerts": _operation("send", "openAlerts", "What is open now."),
    "sendShadowAlerts": _operation("send", "shadowAlerts", "What rules on trial would say."),
    "sendDensity": _operation("send", "density", "Maps and planners of the city."),
    "sendReport": _operation("send", "report", "The city's three rates."),
    "sendQuarantine": _operation("send", "quarantine", "What was refused."),
    "sendFacts": _operation("send", "facts", "Stage one."),
    "receiveFacts": _operation("receive", "facts", "Stage two."),
    "sendProgress": _operation("send", "progress", "Stage two."),
    "receiveProgress": _operation("receive", "progress", "Sources wait for their cities."),
    "sendSnapshots": _operation("send", "changelog", "At intervals."),
    "receiveSnapshots": _operation("receive", "changelog", "At recovery."),
}


def asyncapi() -> Document:
    """All topics: what stands on them, who writes and who reads."""
    types = [
        GatewayPing,
        Telemetry,
        Alert,
        Quarantine,
        PolicyRecord,
        ResponseRecord,
        Density,
        Coverage,
        Report,
        DensityHeaders,
        CloudEventHeaders,
        OpenAlertHeaders,
        Progress,
    ]
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "Urban Brain",
            "version": version("urban-brain"),
            "description": "Pings of shared bikes in, redistribution alerts out, on Kafka. A new version adds optional fields only.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": _JSON,
        "channels": _channels(),
        "operations": _OPERATIONS,
        "components": {
            "messages": _messages(),
            "schemas": dict(sorted(_components(types, "#/components/schemas/{name}").items())),
        },
    }


def documents() -> dict[str, bytes]:
    """File name -> content of everything that is published in docs/schemas."""
    made = {
        "ping.schema.json": json_schema(GatewayPing, "ping", 1),
        "alert.schema.json": json_schema(Alert, "alert", 1),
        "policy.schema.json": json_schema(PolicyRecord, "policy", 1),
        "response.schema.json": json_schema(ResponseRecord, "response", 1),
        "density.schema.json": json_schema(Density, "density", 1),
        "coverage.schema.json": json_schema(Coverage, "coverage", 1),
        "report.schema.json": json_schema(Report, "report", 1),
        "quarantine.schema.json": json_schema(Quarantine, "quarantine", 1),
        "asyncapi.json": asyncapi(),
    }
    return {name: orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n" for name, document in made.items()}
