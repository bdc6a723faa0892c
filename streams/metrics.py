"""What a worker measures, as Prometheus metrics: one `Metrics` per worker, each with a registry of its own.

Labels are bounded by the configuration: sources, cities, operators, rules. Never a bike, a cell or an episode, and nothing
that a message could invent: a name that is not in the allow-list shows as `unknown`. What an operator should conclude from a
metric is in its help text; what to do about it in docs/operations.md.

A series that belongs to a partition is dropped when the partition leaves (`forget_source`, `forget_city`), or the worker would
go on warning of a snapshot that another has long since written.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from geo.alert import CLEARED, DEFICIT, FEED_DEGRADED, FEED_SILENT, OVERCROWDED, POLICY_REFUSED, STATES
from geo.frame import OUTCOMES, QUARANTINED
from geo.handling import STATUSES
from geo.params import SEMANTICS, Timeline
from geo.responses import REFUSALS
from streams.report_metrics import ReportMetrics

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
UNKNOWN: Final = "unknown"
"""Shown for records whose operator is not known, and for whatever is not in an allow-list."""
EVERY_OPERATOR: Final = "(all)"
"""Shown for a city-wide episode, which belongs to no operator."""

Step = Literal["decode", "judge", "frames", "merge", "city", "publish", "snapshot_pack", "snapshot_write", "restore"]
SnapshotKind = Literal["source", "city"]

KINDS: Final = (OVERCROWDED, DEFICIT, FEED_SILENT, FEED_DEGRADED, POLICY_REFUSED)

_STEP_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_BATCH_BUCKETS = (1, 5, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000)
# A tick of 5 s is waited for by design: what matters is how far beyond it an alert leaves.
_LATENCY_BUCKETS = (0.25, 0.5, 1, 2.5, 5, 7.5, 10, 15, 20, 30, 60, 120, 300, 900, 3600)
_SNAPSHOT_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Everything that one worker shows at /metrics. `timeline` bounds the labels: its operators, cities and rules."""

    def __init__(self, timeline: Timeline, *, version: str, clock: str) -> None:
        """`version` is the package's; `clock` the deployment's (`live` or `replay`)."""
        self.registry = CollectorRegistry()
        self._operators = timeline.operators
        self._cities = frozenset(timeline.cities)
        self._rules = frozenset(r.key for e in timeline.epochs for c in e.cities for r in c.all_rules) | {
            ("built-in", "feed_silent"),
            ("built-in", "feed_degraded"),
            ("built-in", "policy_refused"),
        }
        self._input()
        self._time()
        self._state()
        self._decisions()
        self._trouble()
        self._about(version, clock)
        self._start_at_zero()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    # What is measured: one line of help each, saying what to conclude.

    def _input(self) -> None:
        self.pings = self._counter(
            "pings", "Records by outcome; a rise of anything but accepted is an operator's broken feed.", "operator outcome"
        )
        self.batch_records = self._histogram(
            "batch_records",
            "Records per batch; many small batches mean producers that do not batch (raise their linger).",
            "",
            _BATCH_BUCKETS,
        )
        self.consumer_lag = self._gauge(
            "consumer_lag_records",
            "Records of a partition not read yet; if it grows, the worker is too slow or gone.",
            "topic partition",
        )
        self.control_records = self._counter(
            "control_records",
            "Records of a control topic by outcome; refused ones are in quarantine with the reason.",
            "topic outcome",
        )
        self.facts = self._counter("facts", "Changes that stage one told a city; a few per cent of the pings is usual.", "city")

    def _time(self) -> None:
        self.source_clock = self._gauge(
            "source_clock_timestamp_seconds",
            "Clock of a source: newest record timestamp; far behind now means a quiet or a late partition.",
            "topic partition",
        )
        self.source_complete = self._gauge(
            "source_complete_timestamp_seconds",
            "End of the newest tick that a source has completed; should follow its clock by one tick.",
            "topic partition",
        )
        self.city_clock = self._gauge(
            "city_clock_timestamp_seconds",
            "End of the newest tick that a city has worked; it stands still while any source is behind.",
            "city",
        )
        self.city_waits = self._gauge(
            "city_waits_seconds",
            "How long a city has waited for this source; alerts are late, not wrong, while it waits.",
            "city topic partition",
        )
        self.step = self._histogram(
            "step_duration_seconds",
            "Time spent by step; the step that grows is where the worker's core goes.",
            "step",
            _STEP_BUCKETS,
        )

    def _state(self) -> None:
        self.source_bikes = self._gauge(
            "source_bikes", "Bikes that a source holds in memory, for sizing: docs/operations.md.", "topic partition"
        )
        self.roster_bikes = self._gauge(
            "roster_bikes",
            "Bikes that stand in a city, held ones too; a sudden fall is a broken feed, not a busy day.",
            "city operator",
        )
        self.snapshot_duration = self._histogram(
            "snapshot_duration_seconds",
            "Time from packing a snapshot to its commit; should stay far under the snapshot interval.",
            "kind",
            _SNAPSHOT_BUCKETS,
        )
        self.snapshot_bytes = self._gauge("snapshot_bytes", "Compressed size of the newest snapshot.", "kind topic partition")
        self.snapshot_time = self._gauge(
            "snapshot_timestamp_seconds",
            "When the newest snapshot was committed (wall clock); an old one makes the next recovery long.",
            "kind topic partition",
        )
        self.recovering = self._gauge(
            "recovering", "1 while state is loaded after an assignment; alerts wait for the end of it.", ""
        )
        self.recovery_seconds = self._gauge("recovery_duration_seconds", "How long the newest recovery took.", "")
        self.ready = self._gauge("ready", "1 if /ready says so; the reasons against it are in its JSON.", "")

    def _decisions(self) -> None:
        self.open_episodes = self._gauge(
            "open_episodes",
            f"Alerts that are open now by rule; operator {EVERY_OPERATOR} is a silence of the whole city.",
            "city operator policy rule",
        )
        self.alert_events = self._counter(
            "alert_events", "Alert events sent; re-sent ones after a crash count again.", "city operator kind state"
        )
        self.responses = self._counter(
            "responses",
            "Responses of an operator that joined an alert, by what they say; repeats count again.",
            "operator status",
        )
        self.density_records = self._counter(
            "density_records", "Records told to cell.density; re-sent ones after a crash count again.", "city"
        )
        self.density_cells = self._gauge("density_cells", "Cells of a city that are told to hold bikes.", "city")
        self.reports = ReportMetrics(self.registry, city=self._city, operator=self._operator, rule=self._rule)
        self.alert_latency = self._histogram(
            "alert_latency_seconds",
            "From the record that closed the deciding tick to the event's acknowledgement (live clock only).",
            "kind",
            _LATENCY_BUCKETS,
        )
        self.feed_heard = self._gauge(
            "feed_heard_timestamp_seconds",
            "Stream time at which an operator was last heard in a city, by this worker; the newest of all workers counts.",
            "city operator",
        )

    def _trouble(self) -> None:
        self.quarantined = self._counter(
            "quarantined_records",
            "Records set aside in the topic quarantine; internal_error is a bug of ours, the rest an operator's.",
            "reason",
        )
        self.quarantine_suppressed = self._counter(
            "quarantine_suppressed_records", "Refused records over the cap: counted here and nowhere kept.", "reason"
        )
        self.policies_refused = self._counter(
            "policies_refused",
            "Policies on their topic that a city refused; the last good one of that id stays in force, the alert says why.",
            "city",
        )
        self.responses_refused = self._counter(
            "responses_refused",
            "Responses that joined no alert: none with that id is open, or it is another operator's. The operator is not told.",
            "operator reason",
        )
        self.frame_conflicts = self._counter(
            "frame_conflicts", "Two different frames for one source and tick: never right, see the runbook.", ""
        )

    def _about(self, version: str, clock: str) -> None:
        build = self._gauge(
            "build_info", "What runs: always 1. Workers that differ are an unfinished upgrade.", "version python semantics"
        )
        build.labels(version, platform.python_version(), str(SEMANTICS)).set(1)
        self.clock_live = self._gauge(
            "clock_live", "1 if stream time follows the wall clock; if 0, ages against now mean nothing.", ""
        )
        self.clock_live.set(float(clock == "live"))
        self.config_info = self._gauge(
            "config_info", "The configuration in force, by hash: always 1. Workers must agree.", "hash"
        )

    def _start_at_zero(self) -> None:
        """A counter that first appears at 1 has not risen, for Prometheus: the first error would go unseen."""
        for operator in (*self._operators, ""):
            for outcome in OUTCOMES:
                self.pings.labels(operator or UNKNOWN, outcome)
        for city in self._cities:
            self.facts.labels(city)
            self.policies_refused.labels(city)
            self.density_records.labels(city)
            self.reports.records.labels(city)
            for operator in (*self._operators, EVERY_OPERATOR):
                for kind in KINDS:
                    for state in STATES:
                        self.alert_events.labels(city, operator, kind, state)
        for operator in self._operators:
            for status in STATUSES:
                self.responses.labels(operator, status)
            for reason in REFUSALS:
                self.responses_refused.labels(operator, reason)
        for reason in QUARANTINED:
            self.quarantined.labels(reason)
            self.quarantine_suppressed.labels(reason)

    # How the worker says it.

    def count_outcomes(self, outcomes: NDArray[np.int64]) -> None:
        """Counts of one frame: int64 (operators + 1, outcomes); the last row is of operators that are not known."""
        for row, column in zip(*np.nonzero(outcomes), strict=True):
            operator = self._operators[row] if row < len(self._operators) else UNKNOWN
            self.pings.labels(operator, OUTCOMES[column]).inc(int(outcomes[row, column]))

    def documents(self, topic: str, *, taken: int, refused: int) -> None:
        """Records of a configured control topic that are documents, and those that are none."""
        self.control_records.labels(topic, "taken").inc(taken)
        self.control_records.labels(topic, "refused").inc(refused)

    def source_at(self, topic: str, partition: int, *, clock_ms: int, complete_ms: int, bikes: int | None = None) -> None:
        """A source's clock, the end of the newest tick that it has completed (-1: none yet), and its bikes in memory."""
        labels = (topic, str(partition))
        for gauge, value in ((self.source_clock, clock_ms), (self.source_complete, complete_ms)):
            if value >= 0:
                gauge.labels(*labels).set(value / 1000)
        if bikes is not None:
            self.source_bikes.labels(*labels).set(bikes)

    def heard(self, city: str, winners: NDArray[np.int64], end_ms: int) -> None:
        """Who spoke in a city in a tick that ended at end_ms: int64 (operators,), as in a section of a frame."""
        for row in np.flatnonzero(winners).tolist():
            self.feed_heard.labels(self._city(city), self._operators[row]).set(end_ms / 1000)

    def city_at(self, city: str, end_ms: int) -> None:
        """The end of the newest tick that a city has worked."""
        self.city_clock.labels(self._city(city)).set(end_ms / 1000)

    def city_waits_for(self, city: str, waits_s: Mapping[tuple[str, int], float]) -> None:
        """The sources that hold a city back now and for how long; the ones not named hold it no more."""
        _drop(self.city_waits, city=city)
        for (topic, partition), seconds in waits_s.items():
            self.city_waits.labels(self._city(city), topic, str(partition)).set(seconds)

    def roster(self, city: str, bikes: Mapping[str, int]) -> None:
        """Standing bikes of a city by operator."""
        for operator, count in bikes.items():
            self.roster_bikes.labels(self._city(city), self._operator(operator)).set(count)

    def density_told(self, city: str, cells: int) -> None:
        """Records that were handed over."""
        self.density_records.labels(self._city(city)).inc(cells)

    def density(self, city: str, *, cells: int) -> None:
        """Cells of a city that are told to hold bikes."""
        self.density_cells.labels(self._city(city)).set(cells)

    def episodes(self, city: str, counts: Mapping[tuple[str, str, str], int]) -> None:
        """Open episodes of a city by (operator, policy id, rule id); operator "" is city-wide. All of them, each time."""
        _drop(self.open_episodes, city=city)
        for (operator, policy, rule), count in counts.items():
            labels = (self._city(city), self._recipient(operator), *self._rule((policy, rule)))
            self.open_episodes.labels(*labels).inc(count)

    def decided(self, city: str, kind: str, state: str) -> None:
        """An event of a city; those that come again after a crash count again."""
        if kind == POLICY_REFUSED and state != CLEARED:
            self.policies_refused.labels(self._city(city)).inc()

    def answered(self, outcomes: Mapping[tuple[str, str], int]) -> None:
        """Responses by operator and what became of them, as `geo.responses.Responses` counts them."""
        for (operator, outcome), count in outcomes.items():
            counter = self.responses_refused if outcome in REFUSALS else self.responses
            counter.labels(self._operator(operator), outcome).inc(count)

    def alert_sent(self, city: str, operator: str, kind: str, state: str, *, latency_s: float | None) -> None:
        """One event was acknowledged by the broker. latency_s: None where stream time is not the wall clock's."""
        kind = kind if kind in KINDS else UNKNOWN
        state = state if state in STATES else UNKNOWN
        self.alert_events.labels(self._city(city), self._recipient(operator), kind, state).inc()
        if latency_s is not None:
            self.alert_latency.labels(kind).observe(latency_s)

    def snapshot_written(
        self, kind: SnapshotKind, topic: str, partition: int, *, seconds: float, size: int, now_s: float
    ) -> None:
        """A snapshot was committed. size: compressed bytes; now_s: wall clock, seconds since the epoch."""
        self.snapshot_duration.labels(kind).observe(seconds)
        self.snapshot_bytes.labels(kind, topic, str(partition)).set(size)
        self.snapshot_time.labels(kind, topic, str(partition)).set(now_s)

    def quarantine(self, reason: str, *, kept: int, suppressed: int = 0) -> None:
        """Records set aside, and those over the cap that were only counted."""
        reason = reason if reason in QUARANTINED else UNKNOWN
        self.quarantined.labels(reason).inc(kept)
        self.quarantine_suppressed.labels(reason).inc(suppressed)

    def lag(self, topic: str, partition: int, records: int) -> None:
        """Records of a partition that were not read yet."""
        self.consumer_lag.labels(topic, str(partition)).set(records)

    def configuration(self, hashes: Iterable[str]) -> None:
        """The hash of the configuration in force; replaces the one before."""
        self.config_info.clear()
        for digest in hashes:
            self.config_info.labels(digest).set(1)

    def forget_source(self, topic: str, partition: int) -> None:
        """The partition of an input topic is another worker's now."""
        gauges = (self.consumer_lag, self.source_clock, self.source_complete, self.source_bikes)
        for gauge in (*gauges, self.snapshot_bytes, self.snapshot_time):
            _drop(gauge, topic=topic, partition=str(partition))

    def forget_city(self, city: str) -> None:
        """The city is another worker's now. (Its partition of the facts is a source to forget, too.)"""
        cities = (self.city_clock, self.city_waits, self.roster_bikes, self.open_episodes, self.density_cells)
        for gauge in (*cities, *self.reports.gauges):
            _drop(gauge, city=city)

    def render(self) -> bytes:
        """The text format, for `CONTENT_TYPE`."""
        return render(self.registry)

    # Bounds of the labels.

    def _city(self, name: str) -> str:
        return name if name in self._cities else UNKNOWN

    def _operator(self, name: str) -> str:
        return name if name in self._operators else UNKNOWN

    def _rule(self, rule: tuple[str, str]) -> tuple[str, str]:
        """Rules that came from the topic of policies are unknown here."""
        return rule if rule in self._rules else (UNKNOWN, UNKNOWN)

    def _recipient(self, name: str) -> str:
        return EVERY_OPERATOR if name == "" else self._operator(name)

    def _counter(self, name: str, text: str, labels: str) -> Counter:
        return Counter(f"urban_brain_{name}", text, labels.split(), registry=self.registry)

    def _histogram(self, name: str, text: str, labels: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"urban_brain_{name}", text, labels.split(), registry=self.registry, buckets=buckets)

    def _gauge(self, name: str, text: str, labels: str) -> Gauge:
        return Gauge(f"urban_brain_{name}", text, labels.split(), registry=self.registry)


def render(registry: CollectorRegistry) -> bytes:
    """A registry in the text format, for `CONTENT_TYPE`."""
    return generate_latest(_Plain(registry))


class _Plain:
    """A registry without the `_created` series, which double the page and which no rule of ours reads.

    prometheus_client has a switch for them, but for the whole process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Everything but when each series began."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


def _drop(metric: MetricWrapperBase, **labels: str) -> None:
    metric.remove_by_labels(labels)
