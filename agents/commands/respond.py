"""urban-brain respond"""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from agents.commands.common import config_option, json_option, print_json, record_time, record_time_option
from geo.handling import STATUSES
from streams.control import DocumentRefused, ResponseDecoder
from streams.control_log import as_lines, produce, read_topic
from streams.errors import ConfigurationError
from streams.response_documents import RESPONSE_SCHEMA
from streams.settings import Settings, load
from streams.settings.problems import nearest

_AGAIN = "Answer again: the same answer twice is one"


@click.command(
    epilog="Example: urban-brain respond 0b7f4e0c-6c1e-5f0a-9d55-3a1f2f4c8a10 --operator amber --status dispatched "
    "--eta 2026-03-01T08:40:00+08:00 --config examples/city.toml"
)
@click.argument("episode_id", required=False)
@click.option("--operator", required=True, metavar="NAME", help="Who answers: each has a topic of its own.")
@click.option("--status", type=click.Choice(STATUSES), help="What is done about the alert.")
@click.option("--eta", metavar="TIME", help="With dispatched: when somebody will be there, with its offset.")
@click.option("--reason", metavar="TEXT", help="With rejected: why, in a line.")
@click.option("--for", "city", metavar="CITY", help="The city of the alert; may be left out if there is only one.")
@click.option("--log", "show_log", is_flag=True, help="Show what this operator has answered so far, a line each.")
@record_time_option
@config_option
@json_option
def command(
    episode_id: str | None,
    operator: str,
    status: str | None,
    eta: str | None,
    reason: str | None,
    city: str | None,
    show_log: bool,
    at_ms: int | None,
    config: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Answer an alert as its operator: it is seen, somebody is on the way, it is done, or it will not be done.

    The alert's next event says so. An answer to an alert that is not open, or is another operator's, changes nothing, and
    nobody is told. With --log: the lines that `backtest --control responses.NAME=FILE` reads.
    """
    settings = load(*config)
    topic = _topic(settings, operator)
    if show_log:
        if episode_id or status:
            raise click.UsageError("--log shows what was answered; it does not go with EPISODE_ID or --status.")
        for line in as_lines(read_topic(settings, topic)):
            click.echo(line)
        return 0
    if episode_id is None or status is None:
        raise click.UsageError("Write which alert and what is done: EPISODE_ID --status STATUS.")
    said = {"city": _city(settings, city), "episode_id": episode_id, "status": status, "eta": eta, "reason": reason}
    record = {"schema": RESPONSE_SCHEMA} | {key: value for key, value in said.items() if value is not None}
    value = orjson.dumps(record)
    try:
        ResponseDecoder(settings.timeline.cities).decode(value)
    except DocumentRefused as error:
        raise click.UsageError(f"{error}.") from None
    stamp = record_time(settings, read_topic(settings, topic) if at_ms is None and _replays(settings) else (), at_ms)
    produce(settings, topic, [(episode_id, value)], at_ms=stamp, remedy=_AGAIN)
    if as_json:
        print_json({"episode_id": episode_id, "operator": operator, "status": status})
    else:
        click.echo(f"{episode_id}: {operator} has answered {status}; the alert's next event says so.")
    return 0


def _replays(settings: Settings) -> bool:
    return settings.deployment.clock == "replay"


def _topic(settings: Settings, operator: str) -> str:
    """Where an operator answers, if it can at all."""
    topics = {control.operator: control.topic for control in settings.controls if control.kind == "response"}
    if not topics:
        raise ConfigurationError(["network.control.responses: is false. There are no topics of responses; set it to true"])
    if operator not in topics:
        known = nearest(operator, settings.timeline.operators)
        raise click.UsageError(f"--operator {operator} is not an allowed operator. {known}")
    return topics[operator]


def _city(settings: Settings, named: str | None) -> str:
    cities = settings.timeline.cities
    if named is None and len(cities) == 1:
        return cities[0]
    if named in cities:
        return str(named)
    if named is None:
        raise click.UsageError(f"There are several cities: say which with --for CITY. Known here: {', '.join(cities)}.")
    raise click.UsageError(f"--for {named} is not a configured city. {nearest(named, cities)}")
