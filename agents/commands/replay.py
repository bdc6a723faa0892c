"""urban-brain replay"""

from __future__ import annotations

from pathlib import Path

import click

from agents.commands.common import (
    InstantType,
    SpeedType,
    config_option,
    file_format,
    input_options,
    input_topics_fit,
    json_option,
    print_json,
    progress,
    tell_bad_rows,
)
from streams.feeds.order import feed_records, shift_records
from streams.feeds.producing import Produced, produce
from streams.feeds.readers import read_rows
from streams.feeds.records import ReadReport, Router, TableError
from streams.settings import load


@click.command(
    epilog="Example: urban-brain replay bikes.csv.gz --format csv --map lng=lon,status=:available --operator amber "
    "--speed 60 --config examples/city.toml"
)
@input_options
@config_option
@click.option(
    "--speed", type=SpeedType(), default="1", metavar="N|max", show_default=True, help="Stream time over wall time, or max."
)
@click.option(
    "--shift-to", type=InstantType(), metavar="now|TIME", help="Move all times so that the first record is at this time."
)
@json_option
def command(
    files: tuple[Path, ...],
    form: str,
    mapping: dict[str, str] | None,
    tz: str | None,
    operator: str | None,
    split_operators: int | None,
    spread: float,
    strict: bool,
    config: tuple[Path, ...],
    speed: float | None,
    shift_to: int | None,
    as_json: bool,
) -> int:
    """Write recorded pings into the input topics, in order of record time (received_at, else the device's).

    Clock records go into every partition of every input topic once a minute of stream time and at the end, so that alerts
    come as they would have come. The topics must stamp records with CreateTime (clock = "replay").
    """
    settings = load(*config)
    how = file_format(settings, form=form, mapping=mapping, tz=tz, operator=operator, split_operators=split_operators)
    input_topics_fit(settings)
    if settings.deployment.clock == "live" and (speed != 1 or shift_to is None):
        click.echo('Note: clock = "live": the broker stamps these records with its own time, at any --speed.', err=True)
    report = ReadReport()
    try:
        records = feed_records(read_rows(files, how, report), Router(settings), spread_ms=round(spread * 1000))
        with progress("Replaying") as show:
            done = produce(settings, shift_records(records, shift_to), speed=speed, progress=show)
    except TableError as error:
        raise click.UsageError(str(error)) from None
    tell(done, report.skipped_rows, as_json=as_json)
    return tell_bad_rows(report, strict=strict)


def tell(done: Produced, skipped: int, *, as_json: bool) -> None:
    """The summary."""
    if as_json:
        print_json(
            {
                "records": done.records,
                "clock_records": done.clock_records,
                "skipped_rows": skipped,
                "seconds": round(done.seconds, 3),
                "records_per_second": round(done.per_second),
                "speed": round(done.speed, 1),
            }
        )
        return
    click.echo(
        f"{done.records:,} pings and {done.clock_records:,} clock records in {done.seconds:.1f} s: "
        f"{done.per_second:,.0f} pings/s, {done.speed:,.0f} times as fast as stream time; all acknowledged.",
        err=True,
    )
