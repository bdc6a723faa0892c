"""urban-brain alerts"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agents.commands.alert_text import COLUMNS, cells, line
from agents.commands.common import config_option, json_option
from streams.alert_log import AlertLog, distinct, newest_open
from streams.settings import Settings, load

_DEFAULT_LIMIT = 50
_WIDE = 400
Event = tuple[dict[str, Any], bytes]


@click.command(epilog="Example: urban-brain alerts --operator amber --follow --json --config examples/city.toml")
@config_option
@click.option("--operator", metavar="NAME", help="Only this operator's, as it sees them itself.")
@click.option("--open", "only_open", is_flag=True, help="Only alerts that are open now.")
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--from-beginning", is_flag=True, help="Everything that is kept, oldest first.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many; without --from-beginning the newest ones (50).")
@json_option
def command(
    config: tuple[Path, ...],
    operator: str | None,
    only_open: bool,
    follow: bool,
    from_beginning: bool,
    limit: int | None,
    as_json: bool,
) -> int:
    """Show alerts: the newest ones, the open ones, or all as they come."""
    settings = load(*config)
    if operator is not None and operator not in settings.timeline.operators:
        known = ", ".join(settings.timeline.operators)
        raise click.UsageError(f"--operator {operator} is not an allowed operator; there are {known}.")
    if only_open and (follow or from_beginning):
        raise click.UsageError("--open shows what is open now; it does not go with --follow or --from-beginning.")
    if only_open:
        _show_table(_open_now(settings, operator, limit), as_json=as_json)
    elif follow:
        _show_lines(_following(settings, operator, from_beginning, limit), as_json=as_json)
    else:
        _show_table(_recorded(settings, operator, from_beginning, limit), as_json=as_json)
    return 0


def _topic(settings: Settings, operator: str | None) -> str:
    return settings.topics.alerts if operator is None else settings.topics.operator_topic(operator)


def _open_now(settings: Settings, operator: str | None, limit: int | None) -> list[Event]:
    """alerts.open holds the city's copies: an operator's are told by the name in them."""
    with AlertLog(settings.deployment, settings.topics.alerts_open) as log:
        found = newest_open(log.to_end())
    return [event for event in found if operator is None or event[0].get("operator") == operator][:limit]


def _recorded(settings: Settings, operator: str | None, from_beginning: bool, limit: int | None) -> list[Event]:
    with AlertLog(settings.deployment, _topic(settings, operator)) as log:
        events = (event for event in distinct(log.to_end()) if event is not None)
        return list(islice(events, limit)) if from_beginning else list(deque(events, limit or _DEFAULT_LIMIT))


def _following(settings: Settings, operator: str | None, from_beginning: bool, limit: int | None) -> Iterator[Event]:
    with AlertLog(settings.deployment, _topic(settings, operator)) as log:
        events = (event for event in distinct(log.follow(from_beginning=from_beginning)) if event is not None)
        yield from islice(events, limit)


def _show_table(events: Iterable[Event], *, as_json: bool) -> None:
    if as_json:
        for _, value in events:
            click.echo(value)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        table.add_column(column, no_wrap=True)
    for body, _ in events:
        table.add_row(*cells(body))
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE  # a file or a pipe has no edge to cut at
    if table.row_count:
        console.print(table)
    else:
        console.print(Text("No alerts."))


def _show_lines(events: Iterable[Event], *, as_json: bool) -> None:
    console = Console(soft_wrap=True)
    for body, value in events:
        if as_json:
            click.echo(value)
        else:
            console.print(line(body))
