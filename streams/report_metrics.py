"""The city's three rates as metrics: the local day of now, which `operator.report` tells of only when it is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from geo.report import RuleKey, Tally

_LABELS: Final = {
    "response_rate": "response",
    "resolution_rate": "resolution",
    "on_time_rate": "on_time",
    "median_response_s": "response",
    "median_resolution_s": "resolution",
}


class ReportMetrics:
    """Of one worker. Its labels are bounded by whoever makes it."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        city: Callable[[str], str],
        operator: Callable[[str], str],
        rule: Callable[[RuleKey], RuleKey],
    ) -> None:
        """city, operator, rule: the labels for a name."""
        self._city, self._operator, self._rule = city, operator, rule
        self.records = Counter(
            "urban_brain_report_records",
            "Days of operators told to operator.report; re-sent ones after a crash count again.",
            ["city"],
            registry=registry,
        )
        self.episodes = Gauge(
            "urban_brain_report_episodes",
            "Alerts that opened on the local day of now, by what became of them; at midnight the count begins anew.",
            ["city", "operator", "policy", "rule", "outcome"],
            registry=registry,
        )
        self.rate = Gauge(
            "urban_brain_report_rate",
            "Response, resolution and on-time rate of the local day of now; what is open counts as not done yet.",
            ["city", "operator", "rate"],
            registry=registry,
        )
        self.median = Gauge(
            "urban_brain_report_median_seconds",
            "Median time to the first response, or to the resolution, of alerts that opened on the local day of now.",
            ["city", "operator", "until"],
            registry=registry,
        )
        self.gauges = (self.episodes, self.rate, self.median)

    def told(self, city: str, days: int) -> None:
        """Records that were handed over."""
        self.records.labels(self._city(city)).inc(days)

    def today(self, city: str, day: Mapping[str, Mapping[RuleKey, Tally]]) -> None:
        """The local day of now of a city, by operator and rule. All of it, each time."""
        for gauge in self.gauges:
            gauge.remove_by_labels({"city": self._city(city)})
        for operator, rules in day.items():
            labels, total = (self._city(city), self._operator(operator)), Tally()
            for rule, tally in rules.items():
                for outcome, count in tally.counts.items():
                    self.episodes.labels(*labels, *self._rule(rule), outcome).inc(count)
                total.add(tally)
            for gauge, figures in ((self.rate, total.rates), (self.median, total.medians)):
                for name, value in figures.items():
                    if value is not None:
                        gauge.labels(*labels, _LABELS[name]).set(value)
