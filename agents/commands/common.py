"""What several commands share: options, progress, output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click
import orjson

from streams.alert_log import Logged
from streams.errors import ConfigurationError
from streams.feeds.producing import Produced
from streams.feeds.readers import FORMATS, Format
from streams.feeds.records import FeedRecord, ReadReport
from streams.settings import Settings
from streams.settings.problems import RefusedError, nearest
from streams.settings.scalars import instant_ms, time_zone

F = TypeVar("F", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    "--city",
    "config",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    envvar="URBAN_BRAIN_CONFIG",
    show_envvar=True,
    help="TOML file with [deployment], [network], [city]; may be given several times.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")


class MapType(click.ParamType):
    """--map field=column,field=:constant"""

    name = "field=column,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        if isinstance(value, dict):
            return value
        pairs = [part.partition("=") for part in str(value).split(",")]
        if not all(key.strip() and sign and source.strip() for key, sign, source in pairs):
            self.fail(f'"{value}" is not field=column,field=:constant', param, ctx)
        return {key.strip(): source.strip() for key, _, source in pairs}


class InstantType(click.ParamType):
    """A time with its offset, or `now`; milliseconds."""

    name = "now|TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value == "now":
            return instant_ms(datetime.now(UTC))
        try:
            return instant_ms(value)
        except RefusedError as error:
            self.fail(f'"{value}" {error.rule}. {error.remedy}', param, ctx)


class SpeedType(click.ParamType):
    """Stream seconds a second of wall time, or `max` (None)."""

    name = "N|max"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if value is None or value == "max":
            return None
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not 0 < speed < float("inf"):
            self.fail(f'"{value}" is neither a number above zero nor max', param, ctx)
        return speed


def input_options(function: F) -> F:
    """FILE… and how they are to be read."""
    for decorate in (
        click.option("--strict", is_flag=True, help="Fail if any row cannot be read."),
        click.option("--spread", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS",
                     help="Lay rows that share a time evenly over so many seconds, in file order."),
        click.option("--split-operators", type=click.IntRange(min=1), metavar="N",
                     help="Split the bikes over the first N allowed operators, by a stable hash of their id."),
        click.option("--operator", metavar="NAME", help="Operator of a feed that names none (not ndjson)."),
        click.option("--tz", metavar="ZONE", help="Time zone of times that have no offset (not ndjson)."),
        click.option("--map", "mapping", type=MapType(), help="Columns of a table: ts=when,lng=lon,status=:available."),
        click.option("--format", "form", type=click.Choice(FORMATS), default="ndjson", show_default=True,
                     help="ndjson: a ping a line; csv: any table; mobike: bike_id,ts,lon,lat; trips: a table of trips, "
                     "bike_id,start_ts,start_lat,start_lng,end_ts,end_lat,end_lng. Gzip is unpacked."),
        click.argument("files", nargs=-1, required=True, metavar="FILE…",
                       type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    ):  # fmt: skip
        function = decorate(function)
    return function


def file_format(
    settings: Settings,
    *,
    form: str,
    mapping: dict[str, str] | None,
    tz: str | None,
    operator: str | None,
    split_operators: int | None,
) -> Format:
    """The options of `input_options` as a Format. Raises UsageError for what does not fit."""
    allowed = settings.timeline.operators
    if operator is not None and operator not in allowed:
        raise click.UsageError(f"--operator {operator} is not an allowed operator; there are {', '.join(allowed)}.")
    if split_operators is not None and split_operators > len(allowed):
        raise click.UsageError(f"--split-operators {split_operators}: only {len(allowed)} operators are allowed.")
    if form == "ndjson" and (mapping or tz or operator):
        raise click.UsageError("--map, --tz and --operator are for tables: give --format csv or trips.")
    columns = dict(mapping or {})
    if operator is not None:
        columns["operator"] = f":{operator}"
    elif form == "mobike" and "operator" not in columns:
        if len(allowed) > 1 and not split_operators:
            raise click.UsageError("--format mobike has no operators: give --operator NAME or --split-operators N.")
        columns["operator"] = f":{allowed[0]}"
    try:
        zone = None if tz is None else ZoneInfo(time_zone(tz))
    except RefusedError as error:
        raise click.UsageError(f"--tz {tz} {error.rule}. {error.remedy}") from None
    return Format(form, columns, zone, allowed[:split_operators] if split_operators else ())


def tell_bad_rows(report: ReadReport, *, strict: bool) -> int:
    """What could not be read, on stderr. The exit status: 1 if `strict`, or if nothing could be read at all."""
    if not report.skipped_rows:
        return 0
    click.echo(f"{report.skipped_rows:,} rows could not be read and were skipped:", err=True)
    for reason, count in report.skipped.most_common():
        click.echo(f"  {count:,} × {reason}", err=True)
    for example in report.examples:
        click.echo(f"    {example}", err=True)
    return 1 if strict or not report.rows else 0


def print_json(value: object, *, err: bool = False) -> None:
    """One object, one line."""
    click.echo(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), err=err)


@contextmanager
def progress(label: str, unit: str = "pings") -> Iterator[Callable[[Produced], None]]:
    """A line on stderr that grows with the work, only on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(Text(label), console=Console(stderr=True), refresh_per_second=5, transient=True) as live:
        yield lambda done: live.update(
            Text(f"{label}: {done.records:,} {unit}, {done.per_second:,.0f}/s, at {clock_text(done.stream_ms)}")
        )


def clock_text(ms: int) -> str:
    """Stream time for people."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"


def require(problems: Iterable[str]) -> None:
    """Wrong topics are wrong configuration: all at once, before anything is written."""
    found = list(problems)
    if found:
        raise ConfigurationError(found)


def documents_option(function: F) -> F:
    """--control policies=FILE, --control responses.OPERATOR=FILE"""
    decorate = click.option(
        "--control", "controls", metavar="NAME=FILE", multiple=True,
        help="Documents of a control topic to go with the pings: policies=FILE, as `policy log` prints them, or "
        "responses.OPERATOR=FILE, as `respond --log` does.",
    )  # fmt: skip
    return decorate(function)


def record_time_option(function: F) -> F:
    """--at"""
    text = 'Record time, only under clock = "replay"; left out: the newest of the topic.'
    return click.option("--at", "at_ms", type=InstantType(), help=text)(function)


def record_time(settings: Settings, log: Iterable[Logged], at_ms: int | None) -> int | None:
    """When a document is to be written to a control topic that holds `log`, ms; None: the broker says. Raises UsageError."""
    from streams.control_log import newest_ms

    if settings.deployment.clock == "live":
        if at_ms is not None:
            raise click.UsageError('--at is for replays: under clock = "live" the broker says what time it is.')
        return None
    return max(newest_ms(log), 0) if at_ms is None else at_ms


def recorded_documents(settings: Settings, controls: Iterable[str]) -> list[FeedRecord]:
    """The records that --control names, in order of time. Raises UsageError."""
    from streams.control_log import recorded

    records: list[FeedRecord] = []
    for given in controls:
        path = given.partition("=")[2]
        topic = _control_topic(settings, given)
        if not Path(path).is_file():
            raise click.UsageError(f"--control {given}: there is no such file.")
        records += recorded(Path(path), topic)
    return sorted(records, key=lambda record: record.record_ms)


def _control_topic(settings: Settings, given: str) -> str:
    """The topic of a --control NAME=FILE. Raises UsageError."""
    name, sign, _ = given.partition("=")
    table, _, operator = name.partition(".")
    if not sign or table not in ("policies", "responses") or (table == "responses") != bool(operator):
        raise click.UsageError(f"--control {given}: write policies=FILE or responses.OPERATOR=FILE.")
    kind = "policy" if table == "policies" else "response"
    there = {control.operator: control.topic for control in settings.controls if control.kind == kind}
    if not there:
        raise click.UsageError(f"--control {name}: network.control.{table} is false.")
    if (operator or None) not in there:
        raise click.UsageError(
            f"--control {name}: {operator} is not an allowed operator. {nearest(operator, settings.timeline.operators)}"
        )
    return there[operator or None]


def input_topics_fit(settings: Settings) -> None:
    """The input topics exist with the right partitions and clock. Raises ConfigurationError or BrokerAwayError."""
    from streams.topics import PATIENCE_S, check

    inputs = set(settings.input_topics)
    require(str(found) for found in check(settings, patience_s=PATIENCE_S) if found.fatal and found.topic in inputs)
