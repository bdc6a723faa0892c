"""urban-brain backtest"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

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
from geo.alert import rfc3339
from geo.density import Telling
from geo.report import Reported
from streams.feeds.order import feed_records
from streams.feeds.producing import Produced
from streams.feeds.readers import read_rows
from streams.feeds.records import FeedRecord, ReadReport, Router, TableError
from streams.settings import load


@click.command(epilog="Example: urban-brain backtest pings.ndjson --out alerts.ndjson --config examples/city.toml")
@input_options
@config_option
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Alert events, one a line; - is stdout."
)
@click.option(
    "--density",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also what the topic cell.density would hold, one record a line: key, observed_at, value (null: without value).",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also what the topic operator.report would hold, in the same form.",
)
@click.option(
    "--policy",
    "policies",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="JSON file of MDS policies (and geographies) to put into force from the start; may be given several times.",
)
@click.option("--partitions", type=click.IntRange(1, 1024), default=1, show_default=True, help="Of each feed; changes nothing.")
@documents_option
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
    out: Path,
    density: Path | None,
    report: Path | None,
    policies: tuple[Path, ...],
    partitions: int,
    controls: tuple[str, ...],
    as_json: bool,
) -> int:
    """Turn recorded pings into the alerts that the live system would send, without Kafka.

    One event per line, the same bytes as the value in the topic `alerts`. With --policy, those that it would send if
    these policies had been in force all the time.
    """
    settings = load(*config, trial=policies)
    how = file_format(settings, form=form, mapping=mapping, tz=tz, operator=operator, split_operators=split_operators)
    from agents.backtest import backtest, with_documents

    documents = recorded_documents(settings, controls)
    read, kinds, done = ReadReport(), Counter[tuple[str, str, str]](), Produced()
    started = time.monotonic()
    to_stdout = str(out) == "-"
    target = nullcontext(click.get_binary_stream("stdout")) if to_stdout else out.open("wb")
    try:
        records = feed_records(read_rows(files, how, read), Router(settings), spread_ms=round(spread * 1000))
        with target as file, _records(density) as cells, _records(report) as days, progress("Backtesting") as show:
            told = with_documents(_counted(records, done, show, started), documents)
            for event in backtest(settings, told, partitions=partitions, density=cells, report=days):
                file.write(event.body + b"\n")
                kinds[event.operator, event.kind, event.state] += 1
    except TableError as error:
        raise click.UsageError(str(error)) from None
    done.seconds = time.monotonic() - started
    _tell(kinds, done, read, as_json=as_json, err=to_stdout)
    return tell_bad_rows(read, strict=strict)


@contextmanager
def _records(path: Path | None) -> Iterator[Callable[[Telling | Reported], None]]:
    """Where what is told of cells, or of days, goes: a line each, with the same bytes as the record's value, or nowhere."""
    if path is None:
        yield lambda told: None
        return
    with path.open("wb") as file:

        def write(told: Telling | Reported) -> None:
            heading = f'{{"key":"{told.key.decode()}","observed_at":"{rfc3339(told.at_ms)}","value":'
            file.write(heading.encode() + (told.body or b"null") + b"}\n")

        yield write


def _counted(
    records: Iterable[FeedRecord], done: Produced, show: Callable[[Produced], None], started: float
) -> Iterator[FeedRecord]:
    for record in records:
        done.records += 1
        if not done.records & 0x3FFF:
            done.stream_ms, done.seconds = record.record_ms, time.monotonic() - started
            show(done)
        yield record


def _tell(kinds: Counter[tuple[str, str, str]], done: Produced, report: ReadReport, *, as_json: bool, err: bool) -> None:
    rows = [
        {"operator": operator, "kind": kind, "state": state, "events": count}
        for (operator, kind, state), count in sorted(kinds.items())
    ]
    if as_json:
        summary = {"records": done.records, "skipped_rows": report.skipped_rows, "seconds": round(done.seconds, 3)}
        print_json({**summary, "events": rows}, err=err)
        return
    click.echo(f"{done.records:,} pings in {done.seconds:.1f} s ({done.per_second:,.0f}/s), {kinds.total():,} events", err=True)
    for row in rows:
        click.echo(f"  {row['operator'] or '(city)':20} {row['kind']:12} {row['state']:8} {row['events']:>8,}", err=True)
