"""The finished configuration as frozen values: what the rest of the program is handed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from geo.frame import DocumentKind
from geo.params import Timeline
from streams.settings.deployment import Deployment

if TYPE_CHECKING:  # it reads documents, whose errors name variables, whose tables know topics
    from streams.settings.policies import Library

Coordinates = Literal["wgs84", "gcj02", "bd09"]


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """One input topic of bikes. operator: whose it is; None: a trusted gateway's, the payload names the operator.

    providers: of a feed in MDS, (provider id, operator) in order.
    """

    topic: str
    operator: str | None
    coordinates: Coordinates
    format: Literal["json", "mds", "arrow"]
    partitions: int
    providers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """One control topic, of one partition. operator: whose it is; None: the city's own."""

    topic: str
    kind: DocumentKind
    operator: str | None = None


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of all topics that are ours. Only names from the configuration ever become part of one."""

    prefix: str
    app_id: str
    changelog_pattern: str

    @property
    def facts(self) -> str:
        return f"{self.prefix}city.facts"

    @property
    def progress(self) -> str:
        return f"{self.prefix}city.progress"

    @property
    def alerts(self) -> str:
        return f"{self.prefix}alerts"

    @property
    def alerts_open(self) -> str:
        return f"{self.prefix}alerts.open"

    @property
    def alerts_shadow(self) -> str:
        return f"{self.prefix}alerts.shadow"

    @property
    def density(self) -> str:
        return f"{self.prefix}cell.density"

    @property
    def report(self) -> str:
        return f"{self.prefix}operator.report"

    @property
    def quarantine(self) -> str:
        return f"{self.prefix}quarantine"

    def operator_topic(self, operator: str) -> str:
        """Where an operator reads its own alerts. `operator` must be a configured name, never one from a message."""
        return f"{self.prefix}alerts.{operator}"

    @property
    def policies(self) -> str:
        return f"{self.prefix}policies"

    def responses(self, operator: str) -> str:
        """Where an operator answers its alerts. `operator` must be a configured name, never one from a message."""
        return f"{self.prefix}alert.responses.{operator}"

    def changelog(self, topic: str) -> str:
        """Where snapshots of the partitions of `topic` (an input topic, or `facts` for the cities) are kept."""
        return self.changelog_pattern.format(prefix=self.prefix, app_id=self.app_id, topic=topic)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that was configured.

    feeds, controls: by topic name. sources: every (topic, partition) of every input topic, those of feeds first, then of
    control topics, each sorted; a source's index in it is its number. library: the documents of policies that were read. city_partitions: partitions of city.facts and of every output topic. facts_partition: by city.
    """

    deployment: Deployment
    timeline: Timeline
    feeds: tuple[FeedSettings, ...]
    controls: tuple[ControlSettings, ...]
    sources: tuple[tuple[str, int], ...]
    facts_partition: Mapping[str, int]
    city_partitions: int
    topics: Topics
    library: Library

    @property
    def feed_sources(self) -> int:
        """How many of the sources are of feeds."""
        return len(self.sources) - len(self.controls)

    @property
    def input_topics(self) -> tuple[str, ...]:
        """Those of feeds, then control topics."""
        return (*(feed.topic for feed in self.feeds), *(control.topic for control in self.controls))
