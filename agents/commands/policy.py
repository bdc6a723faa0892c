"""urban-brain policy check | apply | list | show | diff | withdraw | log | try"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import click

from agents.commands.common import (
    InstantType,
    config_option,
    json_option,
    print_json,
    record_time,
    record_time_option,
)
from agents.commands.policy_text import Row, differences, row_of, tell, tell_differences
from agents.commands.policy_try import try_command
from geo.params import City
from geo.policy import Policy
from streams.alert_log import Logged
from streams.control_log import as_lines, newest_ms
from streams.errors import ConfigurationError, UrbanBrainError
from streams.policy_documents import drafts, read_policy, withdrawal
from streams.policy_log import check_drafts, enacted, read_log, write
from streams.settings import Settings, load
from streams.settings.problems import nearest

_files = click.argument(
    "files", nargs=-1, required=True, metavar="FILE…", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
_for = click.option("--for", "city", metavar="CITY", help="Only for this city; left out: for every city.")


@click.group(epilog="Example: urban-brain policy check policies.json geographies.json --config examples/city.toml")
def command() -> None:
    """Policies of a city: check and try them, put them into force and out of it, and see what is in force."""


command.add_command(try_command)


@command.command("check", epilog="Example: urban-brain policy check policies.json geographies.json --config city.toml")
@_files
@config_option
@json_option
def check_command(files: tuple[Path, ...], config: tuple[Path, ...], as_json: bool) -> int:
    """Read files of MDS policies and geographies as `apply` would, and say what each rule then counts.

    Everything that is wrong is told at once, with status 2. Try them on recorded pings next: urban-brain policy try
    """
    before = {policy for city in load(*config).timeline.epochs[-1].cities for policy in city.policies}
    cities = load(*config, trial=files).timeline.epochs[-1].cities
    tell([row_of(city, p, at_ms=None) for city in cities for p in city.policies if p not in before], as_json=as_json)
    return 0


@command.command("apply", epilog="Example: urban-brain policy apply policies.json --for rivertown --config city.toml")
@_files
@_for
@record_time_option
@config_option
@json_option
def apply_command(files: tuple[Path, ...], city: str | None, at_ms: int | None, config: tuple[Path, ...], as_json: bool) -> int:
    """Put the policies of files into force: from the tick after they are written, or from their start if that is later.

    They are checked as by `policy check`; if anything is wrong, nothing is written. Each is written with the geographies that it
    names. One with the id of a policy that is in force takes its place.
    """
    settings = _settings(config, city)
    log = read_log(settings)
    now_ms = _now(settings, log)
    known = {p.policy_id for one in enacted(settings, log, now_ms) for p in one.city.policies}
    documents = list(drafts(load(*config, trial=files, known=sorted(known)).library, city))
    if not documents:
        raise ConfigurationError(["the files hold no policy. Geographies are written with the policies that name them"])
    check_drafts(settings, documents, city=city, at_ms=now_ms)
    write(settings, documents, at_ms=record_time(settings, log, at_ms))
    _written([(document.policy_id, "written") for document in documents], city, as_json=as_json)
    return 0


@command.command("withdraw", epilog="Example: urban-brain policy withdraw quiet-square --config city.toml")
@click.argument("policy_id")
@_for
@record_time_option
@config_option
@json_option
def withdraw_command(policy_id: str, city: str | None, at_ms: int | None, config: tuple[Path, ...], as_json: bool) -> int:
    """Put a policy out of force, from the tick after this is written; its open alerts are cleared.

    It may be one of the configuration: the topic has the last word.
    """
    settings = _settings(config, city)
    log = read_log(settings)
    there = [one for one in enacted(settings, log, _now(settings, log)) if city in (None, one.city.name)]
    known = {p.policy_id for one in there for p in one.city.policies}.union(*(one.refused for one in there))
    if policy_id not in known:
        raise click.UsageError(f"No policy {policy_id} is in force, will be, or is refused. {nearest(policy_id, known)}")
    write(settings, [withdrawal(policy_id, city)], at_ms=record_time(settings, log, at_ms))
    _written([(policy_id, "withdrawn")], city, as_json=as_json)
    return 0


@command.command("list", epilog="Example: urban-brain policy list --at 2026-03-01T08:30:00+08:00 --config city.toml")
@click.option("--at", "at_ms", type=InstantType(), help="A moment: a time with its offset, or now. Left out: now.")
@click.option("--configured", is_flag=True, help="Only what the configuration says; needs no broker.")
@config_option
@json_option
def list_command(at_ms: int | None, configured: bool, config: tuple[Path, ...], as_json: bool) -> int:
    """The policies of every city, which of their rules are in force at a moment, and when that changes next.

    From the configuration, and from the topic of policies as it was written until then.
    """
    tell(_rows(config, at_ms, configured=configured), as_json=as_json)
    return 0


@command.command("show", epilog="Example: urban-brain policy show quiet-square --config city.toml")
@click.argument("policy_id")
@click.option("--at", "at_ms", type=InstantType(), help="A moment: a time with its offset, or now. Left out: now.")
@config_option
@json_option
def show_command(policy_id: str, at_ms: int | None, config: tuple[Path, ...], as_json: bool) -> int:
    """One policy, as `policy list` has it."""
    rows = _rows(config, at_ms, configured=False)
    mine = [row for row in rows if row["policy_id"] == policy_id]
    if not mine:
        raise click.UsageError(f"There is no policy {policy_id}. {nearest(policy_id, {row['policy_id'] for row in rows})}")
    tell(mine, as_json=as_json)
    return 0


@command.command("diff", epilog="Example: urban-brain policy diff policies.json --config city.toml")
@_files
@_for
@config_option
@json_option
def diff_command(files: tuple[Path, ...], city: str | None, config: tuple[Path, ...], as_json: bool) -> int:
    """What `policy apply` of the same files would change. Exit status 0, whether anything would or not."""
    settings = _settings(config, city)
    log = read_log(settings)
    now_ms = _now(settings, log)
    there = {one.city.name: one.city for one in enacted(settings, log, now_ms) if city in (None, one.city.name)}
    known = {p.policy_id for one in there.values() for p in one.policies}
    documents = list(drafts(load(*config, trial=files, known=sorted(known)).library, city))
    check_drafts(settings, documents, city=city, at_ms=now_ms)
    policies = [policy for document in documents if (policy := read_policy(document.value).policy) is not None]
    tell_differences([row for one in there.values() for row in _differences(one, policies)], as_json=as_json)
    return 0


@command.command("log", epilog="Example: urban-brain policy log --config city.toml > policies.ndjson")
@config_option
def log_command(config: tuple[Path, ...]) -> int:
    """Everything that was ever written to the topic of policies, a line each: what `backtest --control policies=FILE` reads."""
    for line in as_lines(read_log(_settings(config, None))):
        click.echo(line)
    return 0


def _settings(config: tuple[Path, ...], city: str | None) -> Settings:
    """The configuration, if policies may come from their topic at all."""
    settings = load(*config)
    if not any(control.kind == "policy" for control in settings.controls):
        raise ConfigurationError(["network.control.policies: is false. There is no topic of policies; set it to true"])
    if city is not None and city not in settings.timeline.cities:
        raise click.UsageError(f"--for {city} is not a configured city. {nearest(city, settings.timeline.cities)}")
    return settings


def _now(settings: Settings, log: Iterable[Logged]) -> int:
    """The stream's present moment: live the wall's, in a replay what the topic's clock says."""
    wall_ms = time.time_ns() // 1_000_000
    if settings.deployment.clock == "live":
        return wall_ms
    newest = newest_ms(log)
    return wall_ms if newest < 0 else newest


def _rows(config: tuple[Path, ...], at_ms: int | None, *, configured: bool) -> list[Row]:
    settings = load(*config)
    if configured or not any(control.kind == "policy" for control in settings.controls):
        at_ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
        timeline = settings.timeline
        cities = timeline.at(at_ms // timeline.tick_ms).cities
        return [row_of(city, policy, at_ms=at_ms) for city in cities for policy in city.policies]
    try:
        log = read_log(settings)
    except UrbanBrainError as error:
        raise UrbanBrainError(f"{error} What the configuration says by itself: policy list --configured") from None
    at_ms = _now(settings, log) if at_ms is None else at_ms
    rows: list[Row] = []
    for one in enacted(settings, log, at_ms):
        rows += [row_of(one.city, policy, at_ms=at_ms) for policy in one.city.policies]
        rows += [{"city": one.city.name, "policy_id": name, "refused": text} for name, text in sorted(one.refused.items())]
    return rows


def _differences(city: City, policies: Iterable[Policy]) -> list[Row]:
    there = {policy.policy_id: policy for policy in city.policies}
    return [row for policy in policies for row in differences(city, there.get(policy.policy_id), policy)]


def _written(done: list[tuple[str, str]], city: str | None, *, as_json: bool) -> None:
    for policy_id, what in done:
        if as_json:
            print_json({"policy_id": policy_id, "city": city, "state": what})
        else:
            where = "every city" if city is None else city
            click.echo(f"{policy_id}: {what} for {where}; acts from the next tick, or from its start if that is later.")
