"""MDS 2.0 Policy and Geography documents as they stand in JSON files. docs/policies.md, section 1.

What MDS allows and we do not look at is ignored; what would change the meaning and is not evaluated is refused, with the
reason. Our own words stand under `urban_brain`, and there an unknown one is an error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from geo import policy as values
from geo.windows import Window
from streams.settings import mds
from streams.settings.boundary import Boundary
from streams.settings.errors import translate
from streams.settings.problems import Problem, RefusedError
from streams.settings.scalars import DurationMs, Identifier, Ratio, Text
from streams.settings.terms import Terms

_LONGEST_PREPARATION_MS = 86_400_000
_HOW = 'Write {"policies": […]} or {"geographies": […]}, as MDS 2.0 has them.'


class Document(BaseModel):
    """An object of MDS: other keys than ours are somebody else's."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, arbitrary_types_allowed=True)


class Extension(BaseModel):
    """An object of ours inside of one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


Refs = Annotated[tuple[str, ...], BeforeValidator(mds.unique)]
Count = Annotated[int, Field(ge=0, le=10**9)]


class RuleWords(Terms):
    """`urban_brain` on a rule."""

    area: Literal["cell", "zone", "each_zone"] | None = Field(None, description="cell, zone or each_zone.")
    per_hectare: Annotated[str, BeforeValidator(mds.per_hectare)] | None = Field(None, description="Most bikes per hectare.")
    capacity: Annotated[Fraction, BeforeValidator(mds.multiple)] | None = Field(None, description="Most bikes per place.")
    share_of_fleet: Ratio | None = Field(None, description="A share like 0.05.")
    scope: Literal["each_operator", "all_operators"] = Field("each_operator", description="each_operator or all_operators.")
    prepare: Annotated[DurationMs, Field(le=_LONGEST_PREPARATION_MS)] = Field(0, description='A duration up to "24h".')
    mode: Literal["active", "shadow"] = Field("active", description="active or shadow.")


class RuleDocument(Document):
    """A rule of a policy."""

    rule_id: Identifier = Field(description="Id of the rule, a UUID for instance.")
    name: Text = Field(description="What people read in the alert.")
    rule_type: Annotated[str, BeforeValidator(mds.rule_type)] = Field(description='"count".')
    rule_units: Literal["devices"] | None = Field(None, description='"devices".')
    geographies: Refs = Field((), description="Ids of geographies; empty: the whole city.")
    states: Annotated[tuple[int, ...], BeforeValidator(mds.state_codes)] = Field((), description="States; empty: all.")
    vehicle_types: Annotated[tuple[int, ...], BeforeValidator(mds.vehicle_codes)] = Field((), description="Types; empty: all.")
    propulsion_types: Annotated[None, mds.not_evaluated("propulsion", "pings do not tell it")] = None
    accessibility_options: Annotated[None, mds.not_evaluated("accessibility", "pings do not tell it")] = None
    maximum: Count | None = Field(None, description="Most bikes, an integer.")
    minimum: Count | None = Field(None, description="Fewest bikes, an integer.")
    inclusive_maximum: bool | None = Field(None, description="true or false.")
    inclusive_minimum: bool | None = Field(None, description="true or false.")
    days: Annotated[tuple[int, ...], BeforeValidator(mds.day_numbers)] = Field((), description="Days; empty: all.")
    start_time: Annotated[int, BeforeValidator(mds.time_s)] | None = Field(None, description="hh:mm:ss.")
    end_time: Annotated[int, BeforeValidator(mds.end_s)] | None = Field(None, description="hh:mm:ss.")
    urban_brain: RuleWords = Field(default_factory=lambda: RuleWords.model_validate({}), description="Our own words.")

    @model_validator(mode="after")
    def _one_maximum(self) -> Self:
        words = self.urban_brain
        given = [self.maximum, words.per_hectare, words.capacity, words.share_of_fleet]
        if sum(number is not None for number in given) > 1:
            rule = "must state its maximum once"
            raise RefusedError(rule, "Keep one of maximum, per_hectare, capacity and share_of_fleet.")
        if self.maximum == 0 and self.inclusive_maximum is False:
            raise RefusedError("must not have an exclusive maximum of 0: fewer than none", "Write inclusive_maximum: true.")
        if words.capacity is not None and (self.area == "cell" or not self.geographies):
            raise RefusedError("must not have a capacity without zones", 'Name geographies, and set area to "zone".')
        if words.prepare and self.window is None:
            raise RefusedError("must have a window to prepare for", "Set start_time, or leave prepare out.")
        return self

    @model_validator(mode="after")
    def _minimum_of_zones(self) -> Self:
        if not self.least:
            return self
        if self.area == "cell":
            rule = "must not have a minimum for cells: a geography does not say which cells are part of it"
            raise RefusedError(rule, 'Set area to "zone" or "each_zone".')
        if self.urban_brain.scope == "all_operators":
            rule = "must not have a minimum for all operators together: it would be nobody's duty"
            raise RefusedError(rule, 'Set scope to "each_operator", or name one provider in provider_ids.')
        if self.most is not None and self.least > self.most:
            raise RefusedError("must have a minimum of at most the maximum", "Lower the minimum.")
        return self

    @model_validator(mode="after")
    def _merges_crowded_cells(self) -> Self:
        if not self.urban_brain.merge:
            return self
        if self.area != "cell":
            raise RefusedError(
                f"must not merge areas that are no cells, got area {self.area}", 'Set area to "cell", or leave merge out.'
            )
        if self.most is None and self.urban_brain.per_hectare is None and self.urban_brain.share_of_fleet is None:
            raise RefusedError("must have a maximum to merge what is over it", "Set one, or leave merge out.")
        if self.urban_brain.scope != "each_operator":
            rule = f"must not merge under scope {self.urban_brain.scope}: an incident is one operator's"
            raise RefusedError(rule, 'Set scope to "each_operator", or leave merge out.')
        return self

    @property
    def area(self) -> values.Area:
        """As written, else what an MDS document means: its geography as one."""
        return self.urban_brain.area or ("zone" if self.urban_brain.per_hectare is None else "cell")

    @property
    def most(self) -> int | None:
        """The greatest allowed number."""
        return self.maximum if self.maximum is None or self.inclusive_maximum is not False else self.maximum - 1

    @property
    def least(self) -> int:
        """The least allowed number; 0: there is none."""
        if self.minimum is None:
            return 0
        return self.minimum if self.inclusive_minimum is not False else self.minimum + 1

    @property
    def window(self) -> Window | None:
        """None: always open."""
        always = Window()
        window = Window(
            self.days or always.days,
            always.start_s if self.start_time is None else self.start_time,
            always.end_s if self.end_time is None else self.end_time,
        )
        return None if window == always else window

    def value(self, policy_id: str) -> values.Rule:
        """The rule as the core knows it."""
        words = self.urban_brain
        return values.Rule(
            policy_id=policy_id,
            rule_id=self.rule_id,
            name=self.name,
            per_hectare=None if words.per_hectare is None else Fraction(Decimal(words.per_hectare)),
            per_hectare_text=words.per_hectare,
            **words.values(),
            area=self.area,
            geographies=self.geographies,
            states=self.states,
            vehicles=self.vehicle_types,
            maximum=self.most,
            minimum=self.least or None,
            capacity=words.capacity,
            share_of_fleet=words.share_of_fleet,
            all_operators=words.scope == "all_operators",
            window=self.window,
            prepare_ms=words.prepare,
            shadow=words.mode == "shadow",
        )


class PolicyDocument(Document):
    """A policy."""

    policy_id: Identifier = Field(description="Id of the policy, a UUID for instance.")
    name: Text = Field(description="Name of the policy.")
    mode_id: Annotated[str | None, BeforeValidator(mds.mode_id)] = None
    provider_ids: Refs = Field((), description="Operators' names or provider ids; empty: all.")
    start_date: int | None = Field(None, ge=0, description="ms since the epoch.")
    end_date: int | None = Field(None, ge=0, description="ms since the epoch.")
    prev_policies: Refs = Field((), description="Ids of policies that this one replaces.")
    rules: Annotated[tuple[RuleDocument, ...], BeforeValidator(mds.listed)] = Field(description="A list of rules.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.policy_id == "built-in":
            raise RefusedError('must not have the policy_id "built-in"', "Rename it: that one is ours.")
        ids = [rule.rule_id for rule in self.rules]
        if len(set(ids)) < len(ids):
            twice = next(one for one in ids if ids.count(one) > 1)
            raise RefusedError(f"must not have a rule_id twice ({twice})", "Give each rule its own id.")
        if sum(rule.area == "cell" for rule in self.rules) > values.MOST_CELL_RULES:
            raise RefusedError(f"must have at most {values.MOST_CELL_RULES} rules that count by cells", "Use zones.")
        if self.start_date is not None and self.end_date is not None and self.end_date <= self.start_date:
            raise RefusedError("must have an end_date after its start_date", "Correct the dates.")
        return self

    def value(self, operators: tuple[str, ...], *, from_the_start: bool = False) -> values.Policy:
        """The policy as the core knows it, for these operators. from_the_start: whatever dates it has."""
        return values.Policy(
            policy_id=self.policy_id,
            name=self.name,
            rules=tuple(rule.value(self.policy_id) for rule in self.rules),
            operators=operators,
            from_ms=None if from_the_start else self.start_date,
            until_ms=None if from_the_start else self.end_date,
            replaces=self.prev_policies,
        )


class GeographyWords(Extension):
    """`urban_brain` on a geography."""

    capacity: Count | None = Field(None, description="Places for bikes, an integer.")


class GeographyDocument(Document):
    """A geography."""

    geography_id: Identifier = Field(description="Id of the geography, a UUID for instance.")
    name: Text = Field(description="Name of the geography.")
    geography_json: Annotated[Boundary, BeforeValidator(mds.polygons)] = Field(description="GeoJSON polygons.")
    urban_brain: GeographyWords = Field(GeographyWords(capacity=None), description="Our own words.")

    def value(self) -> values.Geography:
        """The geography as the core knows it."""
        return values.Geography(self.geography_id, self.name, self.geography_json, self.urban_brain.capacity)


@dataclass(frozen=True, slots=True)
class Documents:
    """What a file holds, each document by where it stands, as an error would say it."""

    policies: dict[str, PolicyDocument] = field(default_factory=dict)
    geographies: dict[str, GeographyDocument] = field(default_factory=dict)


def read_documents(path: Path, problems: list[Problem]) -> Documents:
    """The policies and geographies of a file, by where they stand in it; what is wrong with it goes to `problems`."""
    try:
        content = as_written(path)
    except OSError as error:
        remedy = "Paths are relative to the TOML file that names it."
        problems.append(Problem(str(path), f"cannot be read ({error.strerror})", "", remedy))
        return Documents()
    except ValueError as error:
        problems.append(Problem(str(path), f"is not JSON ({error})", "", _HOW))
        return Documents()
    listed = listed_in(content)
    if listed is None:
        problems.append(Problem(str(path), "holds neither policies nor geographies", "", _HOW))
        return Documents()
    return take_documents(*listed, path=str(path), problems=problems)


def as_written(path: Path) -> Any:
    """The JSON of a file, its numbers to the digit. Raises OSError or ValueError."""
    return json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)


def listed_in(content: Any) -> tuple[Sequence[Any], Sequence[Any]] | None:
    """Policies and geographies, of any of the forms of a file."""
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("data"), dict):
        return listed_in(content["data"])
    if "policy_id" in content:
        return [content], []
    if "geography_id" in content or "geography" in content:
        return [], [bare(content)]
    policies, geographies = content.get("policies"), content.get("geographies")
    if not isinstance(policies, list) and not isinstance(geographies, list):
        return None
    return policies if isinstance(policies, list) else [], list(map(bare, geographies)) if isinstance(geographies, list) else []


def bare(item: Any) -> Any:
    """A geography, out of the `geography` in which MDS' examples have it."""
    return item["geography"] if isinstance(item, dict) and isinstance(item.get("geography"), dict) else item


def take_documents(policies: Sequence[Any], geographies: Sequence[Any], *, path: str, problems: list[Problem]) -> Documents:
    """Documents out of JSON; what is wrong with any goes to `problems`. path: how they name where it stands."""
    found = Documents()
    for number, item in enumerate(policies, 1):
        _take(PolicyDocument, item, path=path, where=f"policies[{number}]", found=found.policies, problems=problems)
    for number, item in enumerate(geographies, 1):
        _take(GeographyDocument, item, path=path, where=f"geographies[{number}]", found=found.geographies, problems=problems)
    return found


def _take(model: type[Any], item: Any, *, path: str, where: str, found: dict[str, Any], problems: list[Problem]) -> None:
    try:
        found[f"{path}: {where}"] = model.model_validate(item)
    except ValidationError as error:
        problems += translate(error, file=path, table=where, model=model)
