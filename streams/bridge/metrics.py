"""What a bridge measures. What to do about it: docs/operations.md."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from streams.bridge.event import Place
from streams.metrics import render

RESULTS = ("2xx", "1xx", "3xx", "4xx", "429", "5xx", "503", "timeout", "unreachable")

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class BridgeMetrics:
    """Everything that one bridge shows at /metrics. No label comes from a message."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "urban_brain_webhook_events",
            "Events by what became of them; a dead one waits in the dead letters for a person.",
            ["outcome"],
            registry=self.registry,
        )
        self.requests = Counter(
            "urban_brain_webhook_requests",
            "Requests by result; anything but 2xx is repeated, and says what is wrong with the endpoint.",
            ["result"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "urban_brain_webhook_request_seconds",
            "Time that the endpoint takes to answer; near the timeout it is too slow.",
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.held = Gauge(
            "urban_brain_webhook_held_events",
            "Events that are read and not delivered; at the window nothing more is read.",
            registry=self.registry,
        )
        self.oldest = Gauge(
            "urban_brain_webhook_oldest_held_seconds",
            "How long the oldest of these has been waited for; if it grows, the endpoint does not take it.",
            registry=self.registry,
        )
        self.lag = Gauge(
            "urban_brain_webhook_lag_records",
            "Records of a partition that are not read yet; if it grows, the endpoint is too slow or away.",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.ready = Gauge(
            "urban_brain_webhook_ready", "1 if the bridge does its work; 0: /ready says why not.", registry=self.registry
        )
        for outcome in ("delivered", "dead"):
            self.events.labels(outcome)
        for result in RESULTS:
            self.requests.labels(result)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def forget(self, places: Iterable[Place]) -> None:
        """These partitions are another's now."""
        for place in places:
            self.lag.remove_by_labels({"topic": place.topic, "partition": str(place.partition)})

    def render(self) -> bytes:
        return render(self.registry)
