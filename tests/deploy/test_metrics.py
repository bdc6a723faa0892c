"""What /metrics shows: bounded labels, nothing of partitions that left, counters that start at zero."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from geo.frame import OUTCOMES
from geo.handling import STATUSES
from geo.report import Tally
from geo.responses import REFUSALS
from streams.metrics import EVERY_OPERATOR, Metrics
from streams.settings import loads

CITY = """
[network]
operators = ["amber", "jade"]
[[network.feeds]]
topic = "pings"
gateway = true
partitions = 2
[city]
name = "rivertown"
time_zone = "Europe/Berlin"
boundary = { south = 52.05, west = 9.90, north = 52.25, east = 10.20 }
[[city.rules]]
id = "crowded"
name = "Too many"
per_hectare = 2
"""


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(loads(CITY).timeline, version="1.2.3", clock="live")


def families(metrics: Metrics) -> Iterator[Metric]:
    return text_string_to_metric_families(metrics.render().decode())


def series(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Label values (in order of the labels' names) -> value, of one metric."""
    samples = [sample for family in families(metrics) for sample in family.samples if sample.name == f"urban_brain_{name}"]
    return {tuple(value for _, value in sorted(s.labels.items())): s.value for s in samples}


def test_outcomes_of_a_frame_are_counted_by_operator_and_of_unknown_ones_together(metrics: Metrics) -> None:
    outcomes = np.zeros((3, len(OUTCOMES)), np.int64)
    outcomes[1, OUTCOMES.index("accepted")] = 7
    outcomes[2, OUTCOMES.index("malformed")] = 3
    metrics.count_outcomes(outcomes)
    metrics.count_outcomes(outcomes)
    pings = series(metrics, "pings_total")
    assert pings["jade", "accepted"] == 14
    assert pings["unknown", "malformed"] == 6
    assert sum(pings.values()) == 20


def test_counters_that_page_exist_before_they_count(metrics: Metrics) -> None:
    assert series(metrics, "quarantined_records_total")[("internal_error",)] == 0
    assert series(metrics, "frame_conflicts_total") == {(): 0}
    assert series(metrics, "density_records_total") == {("rivertown",): 0}
    assert series(metrics, "report_records_total") == {("rivertown",): 0}
    assert series(metrics, "alert_events_total")["rivertown", "feed_silent", EVERY_OPERATOR, "raised"] == 0
    assert len(series(metrics, "pings_total")) == 3 * len(OUTCOMES)
    assert len(series(metrics, "responses_total")) == 2 * len(STATUSES)
    assert len(series(metrics, "responses_refused_total")) == 2 * len(REFUSALS)


def test_no_name_from_outside_of_the_configuration_becomes_a_label(metrics: Metrics) -> None:
    outside = "a" * 200
    metrics.alert_sent(outside, outside, outside, outside, latency_s=1.0)
    metrics.city_at(outside, 5_000)
    metrics.roster(outside, {outside: 4})
    metrics.episodes(outside, {(outside, outside, outside): 1})
    metrics.quarantine(outside, kept=1)
    metrics.density(outside, cells=3)
    metrics.density_told(outside, 1)
    metrics.reports.told(outside, 1)
    metrics.reports.today(outside, {outside: {(outside, outside): Tally(opened=1, resolved=1, resolutions=[7000])}})
    metrics.heard(outside, np.ones(2, np.int64), 5_000)
    metrics.answered({(outside, "done"): 1, (outside, "not_yours"): 2})
    assert outside not in metrics.render().decode()
    assert series(metrics, "roster_bikes") == {("unknown", "unknown"): 4}
    assert series(metrics, "report_episodes")["unknown", "unknown", "opened", "unknown", "unknown"] == 1


def test_what_a_partition_showed_leaves_with_it(metrics: Metrics) -> None:
    for partition in (0, 1):
        metrics.source_at("pings", partition, clock_ms=20_000, complete_ms=15_000, bikes=9)
        metrics.lag("pings", partition, 4)
        metrics.snapshot_written("source", "pings", partition, seconds=0.5, size=1000, now_s=20.0)
    metrics.forget_source("pings", 0)
    assert series(metrics, "source_clock_timestamp_seconds") == {("1", "pings"): 20}
    assert series(metrics, "source_complete_timestamp_seconds") == {("1", "pings"): 15}
    assert series(metrics, "source_bikes") == {("1", "pings"): 9}
    assert series(metrics, "consumer_lag_records") == {("1", "pings"): 4}
    assert series(metrics, "snapshot_timestamp_seconds") == {("source", "1", "pings"): 20}


def test_what_a_city_showed_leaves_with_it(metrics: Metrics) -> None:
    metrics.city_at("rivertown", 15_000)
    metrics.city_waits_for("rivertown", {("pings", 1): 12.5})
    metrics.roster("rivertown", {"amber": 2})
    metrics.episodes("rivertown", {("amber", "rivertown", "crowded"): 1})
    metrics.density("rivertown", cells=3)
    metrics.reports.today("rivertown", {"amber": {("rivertown", "crowded"): Tally(opened=1, open=1, responses=[7000])}})
    assert series(metrics, "city_clock_timestamp_seconds") == {("rivertown",): 15}
    assert series(metrics, "density_cells") == {("rivertown",): 3}
    metrics.forget_city("rivertown")
    names = ["city_clock_timestamp_seconds", "city_waits_seconds", "roster_bikes", "open_episodes", "density_cells"]
    for name in (*names, "report_episodes", "report_rate", "report_median_seconds"):
        assert series(metrics, name) == {}


def test_a_city_waits_only_for_the_sources_named_last(metrics: Metrics) -> None:
    metrics.city_waits_for("rivertown", {("pings", 0): 3.0, ("pings", 1): 3.0})
    metrics.city_waits_for("rivertown", {("pings", 1): 4.0})
    assert series(metrics, "city_waits_seconds") == {("rivertown", "1", "pings"): 4}


def test_episodes_are_those_of_now_and_a_silent_city_is_no_operators(metrics: Metrics) -> None:
    metrics.episodes("rivertown", {("amber", "rivertown", "crowded"): 2})
    metrics.episodes("rivertown", {("", "built-in", "feed_silent"): 1})
    assert series(metrics, "open_episodes") == {("rivertown", EVERY_OPERATOR, "built-in", "feed_silent"): 1}


def test_the_rates_of_today_are_those_of_all_rules_and_stand_only_where_there_are_any(metrics: Metrics) -> None:
    """By rule the counts; of an operator with nothing to answer for there is no rate."""
    own, topics = ("rivertown", "crowded"), ("written", "later")
    metrics.reports.today("rivertown", {"jade": {own: Tally(opened=9, open=9)}})
    day = {own: Tally(opened=3, resolved=2, resolved_in_time=1, open=1, resolutions=[60_000, 90_000])}
    withdrawn = {own: Tally(opened=2, withdrawn=2)}
    metrics.reports.today("rivertown", {"amber": day | {topics: Tally(opened=1, lapsed=1)}, "jade": withdrawn})
    episodes = series(metrics, "report_episodes")
    assert episodes["rivertown", "amber", "opened", "rivertown", "crowded"] == 3
    assert episodes["rivertown", "amber", "lapsed", "unknown", "unknown"] == 1, "a policy of the topic is no label"
    assert episodes["rivertown", "jade", "withdrawn", "rivertown", "crowded"] == 2
    rates = {"response": 0, "resolution": 0.5, "on_time": 0.25}
    assert series(metrics, "report_rate") == {("rivertown", "amber", name): value for name, value in rates.items()}
    assert series(metrics, "report_median_seconds") == {("rivertown", "amber", "resolution"): 75}


def test_a_feed_is_heard_at_the_end_of_its_tick(metrics: Metrics) -> None:
    metrics.heard("rivertown", np.array([0, 5]), 25_000)
    assert series(metrics, "feed_heard_timestamp_seconds") == {("rivertown", "jade"): 25}


def test_a_source_without_a_closed_tick_shows_no_time(metrics: Metrics) -> None:
    metrics.source_at("pings", 0, clock_ms=-1, complete_ms=-1)
    assert series(metrics, "source_clock_timestamp_seconds") == {}


def test_latency_is_only_measured_where_stream_time_is_the_wall_clocks(metrics: Metrics) -> None:
    metrics.alert_sent("rivertown", "amber", "overcrowded", "raised", latency_s=None)
    assert series(metrics, "alert_latency_seconds_count") == {}
    metrics.alert_sent("rivertown", "amber", "overcrowded", "updated", latency_s=6.0)
    assert series(metrics, "alert_latency_seconds_count") == {("overcrowded",): 1}


def test_a_worker_says_what_it_is_and_what_it_was_told(metrics: Metrics) -> None:
    metrics.configuration(["aa", "bb"])
    metrics.configuration(["cc"])
    assert series(metrics, "config_info") == {("cc",): 1}
    assert [labels[2] for labels in series(metrics, "build_info")] == ["1.2.3"]
    assert series(metrics, "clock_live") == {(): 1}


def test_every_metric_says_what_to_conclude_and_carries_our_name(metrics: Metrics) -> None:
    ours = [family for family in families(metrics) if not family.name.startswith(("process_", "python_"))]
    assert all(family.name.startswith("urban_brain_") for family in ours)
    assert all(len(family.documentation) > 30 and family.documentation.endswith(".") for family in ours)


def test_the_page_holds_no_series_of_when_a_counter_began(metrics: Metrics) -> None:
    assert b"_created" not in metrics.render()


def test_two_workers_in_one_process_do_not_meet(metrics: Metrics) -> None:
    other = Metrics(loads(CITY).timeline, version="1.2.3", clock="replay")
    other.frame_conflicts.inc()
    assert series(metrics, "frame_conflicts_total") == {(): 0}
    assert series(other, "clock_live") == {(): 0}
