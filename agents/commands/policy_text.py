"""Policies in words, for a terminal or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from agents.commands.common import print_json
from geo.alert import rfc3339
from geo.params import City
from geo.policy import Policy, Rule

Row = dict[str, Any]


def row_of(city: City, policy: Policy, *, at_ms: int | None) -> Row:
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
        row["source"] = "configuration" if policy.zones is None else "topic"
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
        "merge": rule.merge,
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


def tell(rows: list[Row], *, as_json: bool) -> None:
    for row in rows:
        if as_json:
            print_json(row)
            continue
        if "refused" in row:
            click.echo(f"{row['city']}  {row['policy_id']}  refused: {'; '.join(row['refused'])}")
            continue
        who = ", ".join(row["operators"] or ["every operator"])
        dates = "".join(f", {word} {row[word]}" for word in ("from", "until") if row[word])
        change = f", changes {row['next_change']}" if row.get("next_change") else ""
        topic = ", from the topic" if row.get("source") == "topic" else ""
        click.echo(f"{row['city']}  {row['policy_id']}  {row['name']} ({who}{dates}{change}{topic})")
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
        "cells that touch as one alert" if rule["merge"] else None,
        "shadow" if rule["mode"] == "shadow" else None,
    ]
    return f"{mark}{rule['name']}: {', '.join(part for part in parts if part)}"


# --- differences --------------------------------------------------------------------------------------------------------


def differences(city: City, before: Policy | None, after: Policy) -> Iterator[Row]:
    """What would change under a policy's id: one row for each value that is another one."""
    head = {"city": city.name, "policy_id": after.policy_id}
    if before is None:
        yield head | {"change": "new", "where": "", "before": None, "after": after.name}
        return
    old, new = _values(city, before), _values(city, after)
    if after.from_ms is None or (before.from_ms is not None and after.from_ms <= before.from_ms):
        old["from"] = new["from"]  # when the one before began to act is no difference
    for where in [*old, *(where for where in new if where not in old)]:
        if old.get(where) != new.get(where):
            change = "added" if where not in old else "removed" if where not in new else "changed"
            yield head | {"change": change, "where": where, "before": old.get(where), "after": new.get(where)}


def _values(city: City, policy: Policy) -> dict[str, str]:
    """Every value of a policy by where it stands; rules by id, geographies by what they are."""
    zones = {zone.geography_id: zone for zone in (city.geographies if policy.zones is None else policy.zones)}
    found = {"name": policy.name, "operators": ", ".join(policy.operators) or "every operator"}
    found |= {"from": _moment(policy.from_ms), "until": _moment(policy.until_ms)}
    found["order of rules"] = ", ".join(rule.rule_id for rule in policy.rules)
    for rule in policy.rules:
        for name, value in asdict(rule).items():
            if name not in ("policy_id", "rule_id"):
                found[f"rule {rule.rule_id}: {name}"] = str(value)
        for name in rule.geographies:
            zone = zones[name]
            found[f"geography {name}"] = f"{zone.name}, {zone.capacity} places, {zone.polygons}"
    return found


def _moment(ms: int | None) -> str:
    return "-" if ms is None else rfc3339(ms)


def tell_differences(rows: list[Row], *, as_json: bool) -> None:
    for row in rows:
        if as_json:
            print_json(row)
        elif row["change"] == "new":
            click.echo(f"{row['city']}  {row['policy_id']}  new: {row['after']}")
        else:
            before, after = (_short(row[key]) for key in ("before", "after"))
            click.echo(f"{row['city']}  {row['policy_id']}  {row['where']}: {before} -> {after}")
    if not rows and not as_json:
        click.echo("No difference.")


def _short(value: str | None) -> str:
    text = "nothing" if value is None else value
    return text if len(text) <= 60 else text[:57] + "…"
