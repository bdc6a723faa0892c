"""The payloads that the city alone reads: counts of cells, and the days of its operators. As `streams/schemas/payloads.py`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from geo.density import COVERAGE_SCHEMA
from geo.density import SCHEMA as DENSITY_SCHEMA
from geo.report import SCHEMA as REPORT_SCHEMA
from streams.schemas.fields import H3, Number, Time, text, time


class Density(msgspec.Struct):
    """How many bikes of each operator stand in a cell. The city's own: it holds rivals' figures side by side."""

    schema: Annotated[str, Meta(description="Name and version of this form.", extra_json_schema={"const": DENSITY_SCHEMA})]
    city: Annotated[str, text("Name of the city.")]
    h3: Annotated[H3, text("The cell: H3 index as lower-case hex.")]
    resolution: Annotated[int, text("H3 resolution of the cell.")]
    counts: Annotated[dict[str, Annotated[int, Meta(ge=1)]], text("Bikes that stand in the cell, by operator; never none.")]
    silent: Annotated[
        list[str],
        text("Operators of `counts` that are silent: so many stood there when they were last heard, nobody knows now."),
    ]
    observed_at: Annotated[str, time("Since when it is so, as far as it is told; stream time. Of one key the greatest counts.")]
    degraded: Annotated[
        list[str] | UnsetType,
        text("Operators of `counts` whose feeds are degraded: so many stood there before, nobody knows now; absent: none is."),
    ] = UNSET


class SilentOperator(msgspec.Struct):
    """An operator of which nobody knows where its bikes are now."""

    operator: Annotated[str, text("Name of the operator.")]
    last_heard: Annotated[Time | None, text("When it was last heard; null: not since it is watched.")]


class Coverage(msgspec.Struct):
    """What it means that a cell of a city has no record: which operators have none there, and of which nobody knows."""

    schema: Annotated[str, Meta(description="Name and version of this form.", extra_json_schema={"const": COVERAGE_SCHEMA})]
    city: Annotated[str, text("Name of the city.")]
    resolution: Annotated[int, text("H3 resolution of the cells.")]
    interval_ms: Annotated[int, Meta(ge=1, description="How often cells are told at most, ms of stream time.")]
    watched: Annotated[list[str], text("Operators whose silence is noticed. Of the others nobody knows whether they speak.")]
    silent: Annotated[list[SilentOperator], text("Those of them that are silent.")]
    unheard: Annotated[list[str], text("Those of them that are not silent yet, but were never heard since they are watched.")]
    observed_at: Annotated[str, time("Since when it is so; stream time. Of one key the greatest counts.")]
    degraded: Annotated[
        list[str] | UnsetType,
        text(
            "Operators whose feeds are degraded: they took most of a fleet away at once, which is not believed yet; absent: none."
        ),
    ] = UNSET


class DensityHeaders(msgspec.Struct):
    """Headers of a record on cells, also of one without value, and of one on a day."""

    observed_at: Annotated[
        str, time("The moment that the record describes: of one key the greatest counts, of equal ones the last.")
    ]


_Rate = Annotated[float, Meta(ge=0, le=1)]
_Seconds = Annotated[int, Meta(ge=0)]


class Figures(msgspec.Struct):
    """What became of the episodes that opened on a day. Each rate is of those opened but not withdrawn, rounded down to 4 decimals."""

    opened: Annotated[Number, text("Episodes that opened on the day.")]
    withdrawn: Annotated[Number, text("Of them: ended because what was in force changed. They count in nothing else.")]
    responded: Annotated[Number, text("To which the operator responded while they were open.")]
    responded_in_time: Annotated[Number, text("Of these: at or before `respond_by`.")]
    resolved: Annotated[Number, text("Cleared because bikes went, or came.")]
    resolved_in_time: Annotated[Number, text("Of these: at or before `resolve_by`.")]
    lapsed: Annotated[Number, text("Cleared because bikes were marked as removed, or not named any more.")]
    open: Annotated[Number, text("Open.")]
    median_response_s: Annotated[_Seconds | None, text("Median time to the first response, seconds; null: none.")]
    median_resolution_s: Annotated[
        _Seconds | None, text("Median time to the clearing of what is resolved, seconds; null: none.")
    ]
    response_rate: Annotated[_Rate | None, text("Share that was responded to; null: of none.")]
    resolution_rate: Annotated[_Rate | None, text("Share that is resolved.")]
    on_time_rate: Annotated[_Rate | None, text("Share that was resolved in time.")]


class RuleFigures(Figures):
    """Of one rule."""

    policy_id: Annotated[str, text("Id of the policy.")]
    rule_id: Annotated[str, text("Id of the rule in it.")]


class Report(msgspec.Struct):
    """The city's three rates of an operator on a day. The city's own: operators must not read it."""

    schema: Annotated[str, Meta(description="Name and version of this form.", extra_json_schema={"const": REPORT_SCHEMA})]
    city: Annotated[str, text("Name of the city.")]
    operator: Annotated[str, text("Name of the operator.")]
    date: Annotated[str, Meta(description="The day, by the city's clocks.", pattern=r"^\d{4}-\d{2}-\d{2}$")]
    time_zone: Annotated[str, text("The zone by which the day began.")]
    rules: Annotated[list[RuleFigures], text("The rules of which anything opened on the day, by policy and rule.")]
    total: Annotated[Figures, text("Of all of them together.")]
    complete: Annotated[bool, text("Whether all of the day's episodes are over: nothing of it can change any more.")]
    observed_at: Annotated[
        str, time("How it was when; stream time. A day is told again until it is complete: of one key the greatest counts.")
    ]
