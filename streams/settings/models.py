"""The `[network]` and `[city]` tables as they stand in files. Defaults are those of `geo.params`, written once."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from geo import params
from streams.settings.boundary import Boundary, parse_boundary
from streams.settings.problems import RefusedError
from streams.settings.scalars import (
    DurationMs,
    Identifier,
    InstantMs,
    Millimetres,
    MillimetresPerSecond,
    Name,
    PositiveDurationMs,
    Text,
    TimeZone,
    positive,
)
from streams.settings.terms import Terms

_BIKE = params.BikeParams()
_PLANNING = params.Planning()


class Table(BaseModel):
    """A table of a file: unknown keys are errors, nothing is guessed from a value of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


def _tuple(value: object) -> object:
    """TOML knows only lists; frozen values hold tuples."""
    return tuple(value) if isinstance(value, list) else value


def _names(value: object) -> object:
    if isinstance(value, list) and len(set(map(str, value))) != len(value):
        raise RefusedError("must not name one twice", "Remove the second one.")
    return _tuple(value)


def _per_hectare(value: object) -> str:
    """Kept as it was written: alerts print it."""
    number = positive(value)
    return value if isinstance(value, str) else str(number)


def _folder(info: ValidationInfo) -> Path:
    """That of the file in which the table stands."""
    return info.context if isinstance(info.context, Path) else Path()


def _boundary(value: object, info: ValidationInfo) -> Boundary:
    return parse_boundary(value, _folder(info))


def _paths(value: object, info: ValidationInfo) -> tuple[Path, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise RefusedError("must be a list of file names", 'Write ["policies.json"].')
    if len(set(value)) != len(value):
        raise RefusedError("must not name one twice", "Remove the second one.")
    return tuple(_folder(info) / name for name in value)


Paths = Annotated[tuple[Path, ...], BeforeValidator(_paths)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_names), Field(min_length=1)]


class FeedTable(Table):
    topic: Name = Field(description="Name of the Kafka topic.")
    operator: Name | None = Field(None, description="The operator whose feed this is.")
    gateway: bool = Field(False, description="true: a trusted gateway writes it, and the payload names the operator.")
    coordinates: Literal["wgs84", "gcj02", "bd09"] = Field("wgs84", description="wgs84, gcj02 or bd09.")
    format: Literal["json", "mds", "arrow"] = Field(
        "json",
        description='"json": pings; "mds": MDS 2.0 telemetry; one a record, an array or one a line. "arrow": Arrow IPC streams.',
    )
    partitions: int = Field(ge=1, le=1024, description="Number of partitions of the topic, 1 to 1024.")

    @model_validator(mode="after")
    def _one_owner(self) -> Self:
        if self.gateway is (self.operator is not None):
            raise RefusedError(
                "must have either an operator or gateway = true",
                'Write operator = "name" for a feed of one operator, gateway = true for one whose pings name theirs.',
            )
        return self


class NetworkVersion(Table):
    """What may change with time. None: as in the version before."""

    effective_from: InstantMs = Field(description="When it comes into force, RFC 3339.")
    operators: Names | None = Field(None, description="Allowed operators.")
    silent_after: dict[Name, PositiveDurationMs] | None = Field(None, description="By operator, see [network].")
    ttl: PositiveDurationMs | None = Field(None, description='A duration like "5h".')
    future: DurationMs | None = Field(None, description='A duration like "60s".')
    max_accuracy_m: Millimetres | None = Field(None, description="Metres.")
    max_speed_m_s: MillimetresPerSecond | None = Field(None, description="Metres a second.")


class ControlTable(Table):
    """Which control topics there are. They are sources: every city waits for them, too."""

    policies: bool = Field(True, description="true or false: whether policies come from the topic `policies`.")
    responses: bool = Field(
        True, description="true or false: whether operators answer alerts on topics of their own, `alert.responses.<operator>`."
    )


class NetworkTable(Table):
    tick: Annotated[PositiveDurationMs, Field(ge=100, le=60_000)] = Field(
        5_000, description='A duration from "100ms" to "60s".'
    )
    operators: Names = Field(description='Allowed operators, like ["amber", "cobalt"].')
    silent_after: dict[Name, PositiveDurationMs] = Field(
        default_factory=dict, description='Table of durations by operator, like { amber = "30m" }.'
    )
    providers: dict[Name, Identifier] = Field(
        default_factory=dict, description='Table of MDS provider ids by operator, like { amber = "2411d395-…" }.'
    )
    ttl: PositiveDurationMs = Field(_BIKE.ttl_ms, description='A duration like "5h".')
    future: DurationMs = Field(_BIKE.future_ms, description='A duration like "60s".')
    max_accuracy_m: Millimetres = Field(_BIKE.max_accuracy_mm, description="Metres.")
    max_speed_m_s: MillimetresPerSecond = Field(_BIKE.max_speed_mm_s, description="Metres a second.")
    feeds: Annotated[tuple[FeedTable, ...], BeforeValidator(_tuple), Field(min_length=1)] = Field(
        description="One [[network.feeds]] for each input topic."
    )
    control: ControlTable = Field(default_factory=lambda: ControlTable.model_validate({}), description="See [network.control].")
    versions: Annotated[tuple[NetworkVersion, ...], BeforeValidator(_tuple)] = Field(
        (), description="[[network.versions]] in order of time."
    )


class RuleTable(Terms):
    id: Identifier = Field(description="Id of the rule, part of the ids of its alerts.")
    policy: Identifier | None = Field(None, description="Id of the policy that it belongs to; left out: the city's name.")
    name: Text = Field(description="What people read in the alert.")
    per_hectare: Annotated[str, BeforeValidator(_per_hectare)] = Field(
        description="Most bikes of each operator per hectare of a cell."
    )

    @model_validator(mode="after")
    def _not_ours(self) -> Self:
        if self.policy == "built-in":
            raise RefusedError('must not use the policy "built-in"', "Rename it: that one is ours.")
        return self

    def value(self, city: str) -> params.Rule:
        """The rule as the core knows it."""
        return params.Rule(
            policy_id=self.policy or city,
            rule_id=self.id,
            name=self.name,
            per_hectare=Fraction(Decimal(self.per_hectare)),
            per_hectare_text=self.per_hectare,
            **self.values(),
        )


class PlanningTable(Table):
    enabled: bool = Field(True, description="false: alerts do not say where to bring bikes.")
    max_haul_m: int = Field(_PLANNING.max_haul_m, ge=1, le=50_000, description="Whole metres as the crow flies, 1 to 50000.")
    interval: PositiveDurationMs = Field(_PLANNING.interval_ms, description='A duration of stream time like "2m".')

    def value(self) -> params.Planning | None:
        """The planning as the core knows it."""
        return params.Planning(self.max_haul_m, self.interval) if self.enabled else None


Rules = Annotated[tuple[RuleTable, ...], BeforeValidator(_tuple)]
BoundaryValue = Annotated[Boundary, BeforeValidator(_boundary)]


class CityVersion(Table):
    """What may change with time. None: as in the version before. A list of rules replaces the whole list."""

    effective_from: InstantMs = Field(description="When it comes into force, RFC 3339.")
    time_zone: TimeZone | None = Field(None, description="Name of the IANA database.")
    boundary: BoundaryValue | None = Field(None, description="See [city].")
    operators: Names | None = Field(None, description="See [city].")
    rules: Rules | None = Field(None, description="[[city.versions.rules]], all of them.")
    planning: PlanningTable | None = Field(None, description="[city.versions.planning], all of it.")
    policies: Paths | None = Field(None, description="JSON files of MDS policies, all of them.")
    geographies: Paths | None = Field(None, description="JSON files of MDS geographies, all of them.")
    density_interval: DurationMs | None = Field(None, description="See [city].")
    degraded_hold: DurationMs | None = Field(None, description="See [city].")
    degraded_fewest: int | None = Field(None, ge=1, le=1_000_000, description="See [city].")


class CityTable(Table):
    name: Name = Field(description="Name of the city.")
    time_zone: TimeZone = Field(description="Name of the IANA database, like Asia/Shanghai.")
    effective_from: InstantMs | None = Field(None, description="When the city begins, RFC 3339; left out: it always was.")
    partition: int = Field(0, ge=0, le=1023, description="Its partition of city.facts and of all output topics.")
    boundary: BoundaryValue = Field(description="A box, a GeoJSON geometry or a file.")
    operators: Names | None = Field(None, description="Operators whose silence is watched; left out: all allowed ones.")
    rules: Rules = Field((), description="One [[city.rules]] for each rule.")
    planning: PlanningTable = Field(
        default_factory=lambda: PlanningTable.model_validate({}), description="[city.planning]: where to bring bikes."
    )
    policies: Paths = Field((), description='JSON files of MDS policies, like ["policies.json"].')
    geographies: Paths = Field((), description='JSON files of MDS geographies, like ["geographies.json"].')
    density_interval: DurationMs = Field(
        params.DENSITY_INTERVAL_MS, description='How often the counts of cells are told, like "60s"; "0s": never.'
    )
    degraded_hold: DurationMs = Field(
        params.DEGRADED_HOLD_MS,
        description='For how long a feed is not believed that loses most of a fleet within a tick, like "30m"; "0s": it always is.',
    )
    degraded_fewest: int = Field(
        params.DEGRADED_FEWEST, ge=1, le=1_000_000, description="Such a loss is one of at least so many bikes of an operator."
    )
    versions: Annotated[tuple[CityVersion, ...], BeforeValidator(_tuple)] = Field(
        (), description="[[city.versions]] in order of time."
    )
