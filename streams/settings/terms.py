"""The terms that every rule has, whether it stands in TOML (`[[city.rules]]`) or in an MDS document (`urban_brain`)."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from geo.policy import Rule
from streams.settings.problems import RefusedError
from streams.settings.scalars import DurationMs, Ratio

_RULE = Rule("", "", "")


class Terms(BaseModel):
    """Unknown keys are errors, nothing is guessed from a value of another type. Defaults are those of `geo.policy`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    resolution: int = Field(_RULE.resolution, ge=5, le=12, description="H3 resolution of the cells, 5 to 12.")
    clear_ratio: Ratio = Field(_RULE.clear_ratio, description="A share like 0.8.")
    target_ratio: Ratio = Field(_RULE.target_ratio, description="A share like 0.6.")
    for_: DurationMs = Field(_RULE.for_ms, alias="for", description='A duration like "60s".')
    keep_firing_for: DurationMs = Field(_RULE.keep_firing_for_ms, description='A duration like "5m".')
    cooldown: DurationMs = Field(_RULE.cooldown_ms, description='A duration like "10m".')
    update_interval: DurationMs = Field(_RULE.update_interval_ms, description='A duration like "60s".')
    respond_within: DurationMs = Field(_RULE.respond_within_ms, description='A duration like "15m".')
    resolve_within: DurationMs = Field(_RULE.resolve_within_ms, description='A duration like "1h".')
    bikes_cap: int = Field(_RULE.bikes_cap, ge=0, le=1000, description="Most bikes that an alert lists, 0 to 1000.")
    merge: bool = Field(_RULE.merge, description="true: crowded cells that touch are told of as one.")

    @model_validator(mode="after")
    def _target_clears(self) -> Self:
        if self.target_ratio > self.clear_ratio:
            rule = "must have target_ratio at most clear_ratio"
            raise RefusedError(rule, "Lower target_ratio: work that reaches the target would otherwise not clear the alert.")
        return self

    def values(self) -> dict[str, Any]:
        """As `geo.policy.Rule` takes them."""
        return {
            "resolution": self.resolution,
            "clear_ratio": self.clear_ratio,
            "target_ratio": self.target_ratio,
            "for_ms": self.for_,
            "keep_firing_for_ms": self.keep_firing_for,
            "cooldown_ms": self.cooldown,
            "update_interval_ms": self.update_interval,
            "respond_within_ms": self.respond_within,
            "resolve_within_ms": self.resolve_within,
            "bikes_cap": self.bikes_cap,
            "merge": self.merge,
        }
