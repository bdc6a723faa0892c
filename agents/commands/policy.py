"""urban-brain policy check | list"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from agents.commands.common import InstantType, config_option, json_option, print_json
from geo.alert import rfc3339
from geo.params import City
from geo.policy import Policy, Rule
from streams.settings import load

Row = dict[str, Any]


@click.group(epilog="Example: urban-brain policy check policies.json geographies.json --config examples/city.toml")
def command() -> None:
    """Look at the policies of a city before they are in force, and while they are."""


@command.command("check", epilog="Example: urban-brain policy check policies.json geographies.json --config city.toml")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@config_option
@json_option
def check_command(files: tuple[Path, ...], config: tuple[Path, ...], as_json: bool) -> int:
    """Read files of MDS policies and geographies as `backtest --policy` would, and say what each rule then counts.

    Everything that is wrong is told at once, with status 2. Try them on recorded pings next: urban-brain backtest --policy
    """
    before = {policy for city in load(*config).timeline.epochs[-1].cities for policy in city.policies}
    timeline = load(*config, trial=files).timeline
    cities = timeline.epochs[-1].cities
    rows = [_row(city, policy, at_ms=None) for city in cities for policy in city.policies if policy not in before]
    _tell(rows, as_json=as_json)
    return 0


@command.command("list", epilog="Example: urban-brain policy list --at 2026-03-01T08:30:00+08:00 --config city.toml")
@click.option(
    "--at", "at_ms", type=InstantType(), default="now", show_default=True, help="A moment: a time with its offset, or now."
)
@config_option
@json_option
def list_command(at_ms: int, config: tuple[Path, ...], as_json: bool) -> int:
    """The configured policies of every city, which of their rules are in force at a moment, and when that changes next."""
    timeline = load(*config).timeline
    cities = timeline.at(at_ms // timeline.tick_ms).cities
    _tell([_row(city, policy, at_ms=at_ms) for city in cities for policy in city.policies], as_json=as_json)
    return 0


def _row(city: City, policy: Policy, *, at_ms: int | None) -> Row:
    """A policy in words. at_ms None: whenever; nothing is said of what is in force."""
    row: Row = {
        "city": city.name,
        "policy_id": policy.policy_id,
        "name": policy.name,
        "operators": list(policy.operators) or None,
        "from": None if policy.from_ms is None else rfc3339(policy.from_ms),
        "until": None if policy.until_ms is None else rfc3339(policy.until_ms),
        "rules": [_rule(city, rule) for rule in policy.rules],
    }
    if at_ms is not None:
        now = policy.rules_at(at_ms, city.offsets)
        changes = min(policy.edges(at_ms, city.offsets), default=None)
        row["next_change"] = None if changes is None else rfc3339(changes)
        for told, rule in zip(row["rules"], policy.rules, strict=True):
            told["in_force"] = rule in now
    return row


def _rule(city: City, rule: Rule) -> Row:
    return {
        "rule_id": rule.rule_id,
        "name": rule.name,
        "area": f"cell of resolution {rule.resolution}" if rule.area == "cell" else rule.area.replace("_", " "),
        "geographies": len(rule.geographies) or None,
        "limits": list(_limits(rule)),
        "window": None
        if rule.window is None
        else f"{_clock(rule.window.start_s)} to {_clock(rule.window.end_s)} {city.time_zone}",
        "mode": "shadow" if rule.shadow else "active",
    }


def _limits(rule: Rule) -> Iterator[str]:
    if rule.maximum is not None:
        yield f"at most {rule.maximum}"
    if rule.per_hectare is not None:
        yield f"at most {rule.per_hectare_text} per hectare"
    if rule.capacity is not None:
        yield f"at most {float(rule.capacity):g} of the places"
    if rule.share_of_fleet is not None:
        yield f"at most {float(rule.share_of_fleet):g} of the fleet"
    if rule.minimum is not None:
        yield f"at least {rule.minimum}"


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}"


def _tell(rows: list[Row], *, as_json: bool) -> None:
    for row in rows:
        if as_json:
            print_json(row)
            continue
        who = ", ".join(row["operators"] or ["every operator"])
        dates = "".join(f", {word} {row[word]}" for word in ("from", "until") if row[word])
        change = f", changes {row['next_change']}" if row.get("next_change") else ""
        click.echo(f"{row['city']}  {row['policy_id']}  {row['name']} ({who}{dates}{change})")
        for rule in row["rules"]:
            click.echo(f"  {_sentence(rule)}")
    if not rows and not as_json:
        click.echo("No policies.")


def _sentence(rule: Row) -> str:
    mark = "" if "in_force" not in rule else "* " if rule["in_force"] else "- "
    where = f"{rule['area']}, {rule['geographies']} geographies" if rule["geographies"] else f"{rule['area']}, whole city"
    parts = [
        f"{' and '.join(rule['limits']) or 'no limit'} ({where})",
        rule["window"],
        "shadow" if rule["mode"] == "shadow" else None,
    ]
    return f"{mark}{rule['name']}: {', '.join(part for part in parts if part)}"
