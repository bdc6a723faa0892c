"""urban-brain doctor"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from agents.commands.common import clock_text, config_option, json_option, print_json
from streams.alert_log import newest_times
from streams.errors import UrbanBrainError
from streams.settings import Settings, load
from streams.topics import check

_OLD_S = 60.0


class Finding(NamedTuple):
    """One thing that was looked at. verdict: ok, warning, wrong."""

    subject: str
    verdict: str
    text: str


@click.command(epilog="Example: urban-brain doctor --config examples/city.toml")
@config_option
@json_option
def command(config: tuple[Path, ...], as_json: bool) -> int:
    """Look for what is wrong: configuration, brokers, topics, and the clock of every source.

    A city waits for its slowest source: if alerts do not come, the source that is furthest behind says why.
    """
    settings = load(*config)
    worst = 0
    for finding in _findings(settings):
        worst = max(worst, int(finding.verdict == "wrong"))
        if as_json:
            print_json(finding._asdict())
        else:
            click.echo(f"{finding.verdict:8}{finding.subject}: {finding.text}")
    return worst


def _findings(settings: Settings) -> Iterator[Finding]:
    timeline = settings.timeline
    yield Finding(
        "configuration",
        "ok",
        f"{len(timeline.epochs)} versions, {len(timeline.cities)} cities, {len(timeline.operators)} operators, "
        f"{len(settings.sources)} sources, hash {timeline.epochs[-1].hash[:12]}",
    )
    try:
        differences = check(settings)
    except UrbanBrainError as error:
        yield Finding("brokers", "wrong", str(error))
        return
    yield Finding("brokers", "ok", ", ".join(settings.deployment.brokers))
    for difference in differences:
        yield Finding("topics", "wrong" if difference.fatal else "warning", str(difference))
    if not differences:
        yield Finding("topics", "ok", "all are as configured")
    missing = {difference.topic for difference in differences if difference.kind in ("missing", "partitions")}
    if not missing.intersection(settings.input_topics):
        yield from _clocks(settings)


def _clocks(settings: Settings) -> Iterator[Finding]:
    """How far the newest record of each source is. Live: from now; replay: from the source that is furthest."""
    newest = newest_times(settings.deployment, settings.sources)
    live = settings.deployment.clock == "live"
    reference_ms = int(time.time() * 1000) if live else max((ms for ms in newest.values() if ms is not None), default=0)
    for topic, partition in settings.sources:
        subject, ms = f"clock of {topic}/{partition}", newest[topic, partition]
        if ms is None:
            yield Finding(subject, "warning", "no record yet: no city can go on before its first one")
            continue
        behind_s = (reference_ms - ms) / 1000
        verdict = "warning" if behind_s > _OLD_S or (live and behind_s < -_OLD_S) else "ok"
        yield Finding(subject, verdict, f"{clock_text(ms)}, {behind_s:,.0f} s behind {'now' if live else 'the furthest'}")
