"""urban-brain report"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agents.commands.alert_text import plain
from agents.commands.common import config_option, json_option
from streams.alert_log import AlertLog
from streams.report_log import Found, newest_days
from streams.settings import load

_DEFAULT_LIMIT = 50
_WIDE = 400
_COLUMNS = {
    "date": "date",
    "city": "city",
    "operator": "operator",
    "rule": "rule",
    "opened": "opened",
    "withdrawn": "withdrawn",
    "response_rate": "responded",
    "resolution_rate": "resolved",
    "on_time_rate": "on time",
    "median_response_s": "to respond",
    "median_resolution_s": "to resolve",
    "open": "open",
}


@click.command(epilog="Example: urban-brain report --operator amber --day 2026-03-01 --rules --config examples/city.toml")
@config_option
@click.option("--operator", metavar="NAME", help="Only this operator.")
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="Only this day, by the city's clocks.")
@click.option("--rules", is_flag=True, help="Also each rule by itself.")
@click.option("--limit", type=click.IntRange(min=1), default=_DEFAULT_LIMIT, show_default=True, help="The newest so many.")
@json_option
def command(config: tuple[Path, ...], operator: str | None, day: Any, rules: bool, limit: int, as_json: bool) -> int:
    """Show the city's three rates: what each operator responded to and resolved, and how much of it in time, by day.

    Of the days that are over; the rates of today are metrics of the worker.
    """
    settings = load(*config)
    if operator is not None and operator not in settings.timeline.operators:
        known = ", ".join(settings.timeline.operators)
        raise click.UsageError(f"--operator {operator} is not an allowed operator; there are {known}.")
    with AlertLog(settings.deployment, settings.topics.report) as log:
        found = newest_days(log.to_end())
    date = day and f"{day:%Y-%m-%d}"
    found = [one for one in found if operator in (None, one[0]["operator"]) and date in (None, one[0]["date"])][-limit:]
    if as_json:
        for _, value in found:
            click.echo(value)
    else:
        _show(found, rules=rules)
    return 0


def _show(found: Iterable[Found], *, rules: bool) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, title in _COLUMNS.items():
        table.add_column(title, no_wrap=True, justify="left" if name in ("date", "city", "operator", "rule") else "right")
    for body, _ in found:
        for row in _rows(body, rules=rules):
            table.add_row(*(Text(_cell(name, row.get(name))) for name in _COLUMNS))
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE  # a file or a pipe has no edge to cut at
    console.print(table if table.row_count else Text("No reports."))


def _rows(body: dict[str, Any], *, rules: bool) -> Iterator[dict[str, Any]]:
    heading = {name: body[name] for name in ("date", "city", "operator")}
    yield heading | {"rule": "(all)"} | body["total"]
    for rule in body["rules"] if rules else ():
        if isinstance(rule, dict):
            yield heading | {"rule": f"{rule.get('policy_id')}/{rule.get('rule_id')}"} | rule


def _cell(name: str, value: object) -> str:
    if name.endswith("_rate") and isinstance(value, float):
        return f"{100 * value:.2f} %"  # all four decimals: 100 % are all
    if name.endswith("_s") and isinstance(value, int):
        return f"{value // 60}:{value % 60:02d} min"
    return "-" if value is None else plain(value)
