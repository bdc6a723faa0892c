"""urban-brain policy try"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from agents.commands.common import (
    config_option,
    documents_option,
    file_format,
    input_options,
    json_option,
    print_json,
    progress,
    recorded_documents,
    tell_bad_rows,
)
from geo.params import Timeline
from streams.errors import ConfigurationError
from streams.feeds.order import feed_records
from streams.feeds.producing import Produced
from streams.feeds.readers import read_rows
from streams.feeds.records import ReadReport, Router, TableError
from streams.settings import Settings, load


@click.command("try", epilog="Example: urban-brain policy try policies.json pings.ndjson --config examples/city.toml")
@click.argument("policy", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="POLICY")
@input_options
@config_option
@documents_option
@json_option
def try_command(
    policy: Path,
    files: tuple[Path, ...],
    form: str,
    mapping: dict[str, str] | None,
    tz: str | None,
    operator: str | None,
    split_operators: int | None,
    spread: float,
    strict: bool,
    config: tuple[Path, ...],
    controls: tuple[str, ...],
    as_json: bool,
) -> int:
    """What would these policies have done on recorded feeds, beside what is in force?

    POLICY is a file as for `policy check`; its policies count from the start, whatever dates they have. Beside them stands what
    the configuration (and --control) has by the same ids, and by those that they replace. Hours are those with an alert open.
    """
    settings, tried = load(*config), load(*config, trial=[policy])
    how = file_format(settings, form=form, mapping=mapping, tz=tz, operator=operator, split_operators=split_operators)
    from agents.backtest import Trial, backtester, with_documents
    from agents.trial import Comparison, Tally

    ids = {document.policy_id: document.prev_policies for _, document in tried.library.named_policies([policy])}
    if not ids:
        raise ConfigurationError([f"{policy}: holds no policy"])
    zones = _zones(settings)
    active = Tally(frozenset(ids).union(*ids.values()), zones)
    new = Tally(frozenset(ids), zones)
    report, done, started = ReadReport(), Produced(), time.monotonic()
    try:
        rows = feed_records(read_rows(files, how, report), Router(settings), spread_ms=round(spread * 1000))
        records = with_documents(rows, recorded_documents(settings, controls))
        with progress("Trying") as show:
            test = backtester(settings, trial=Trial(tried.timeline, frozenset(ids)))
            for event, on_trial in test.run_both(_counted(records, done, show, started)):
                (new if on_trial else active).add(event)
    except TableError as error:
        raise click.UsageError(str(error)) from None
    end_ms = (done.stream_ms // settings.timeline.tick_ms + 1) * settings.timeline.tick_ms
    active.finish(end_ms)
    new.finish(end_ms)
    comparison = Comparison(active, new)
    days, worst = comparison.days(), comparison.worst()
    if as_json:
        print_json({"records": done.records, "policies": sorted(ids), "days": days, "worst": worst})
    else:
        _tell(days, worst)
    return tell_bad_rows(report, strict=strict)


def _counted(records: Any, done: Produced, show: Any, started: float) -> Any:
    for record in records:
        done.records += 1
        done.stream_ms = record.record_ms
        if not done.records & 0x3FFF:
            done.seconds = time.monotonic() - started
            show(done)
        yield record


def _zones(settings: Settings) -> dict[str, str]:
    """Time zone of each city, as it is last."""
    timeline: Timeline = settings.timeline
    return {city.name: city.time_zone for epoch in timeline.epochs for city in epoch.cities}


def _tell(days: list[dict[str, Any]], worst: list[dict[str, Any]]) -> None:
    click.echo(f"{'day':12}{'city':16}{'operator':16}{'episodes':>20}{'hours open':>22}")
    click.echo(f"{'':44}{'active -> tried':>20}{'active -> tried':>22}")
    for row in days:
        episodes, hours = row["episodes"], row["hours"]
        counts = f"{episodes['active']:,} -> {episodes['tried']:,}"
        lengths = f"{hours['active']:,.1f} -> {hours['tried']:,.1f}"
        click.echo(f"{row['day']:12}{row['city']:16}{row['operator']:16}{counts:>20}{lengths:>22}")
    if not days:
        click.echo("No episodes, neither now nor with what is tried.")
    if worst:
        click.echo("\nWorst places of what is tried:")
    for row in worst:
        place = f"{row['area']} ({row['rule_id']}, {row['operator']})"
        click.echo(f"  {place:60}{row['episodes']:>5,} episodes{row['hours']:>9,.1f} h, {row['peak']:,} at the peak")
