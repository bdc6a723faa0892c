"""urban-brain topics create | check"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from agents.commands.common import config_option, json_option, print_json
from streams.reach import TIMEOUT_S
from streams.settings import load
from streams.topics import check, create, wanted


@click.group(epilog="Example: urban-brain topics create --config examples/city.toml")
def command() -> None:
    """Make the topics that a configuration needs, or check them."""


@command.command("create", epilog="Example: urban-brain topics create --config examples/city.toml")
@config_option
@click.option("--alter", is_flag=True, help="Also set the settings of existing topics that differ.")
@json_option
def create_command(config: tuple[Path, ...], alter: bool, as_json: bool) -> int:
    """Make all topics that are missing. May be run again at any time."""
    settings = load(*config)
    done = create(settings, alter=alter)
    if as_json:
        print_json({"done": done, "wanted": len(wanted(settings))})
    else:
        for name in done:
            click.echo(name)
        click.echo(f"{len(done)} of {len(wanted(settings))} topics made or altered, the others were there.", err=True)
    left = [difference for difference in check(settings, patience_s=TIMEOUT_S) if difference.fatal]
    for difference in left:
        click.echo(str(difference), err=True)
    return 1 if left else 0


@command.command("check", epilog="Example: urban-brain topics check --config examples/city.toml --json")
@config_option
@json_option
def check_command(config: tuple[Path, ...], as_json: bool) -> int:
    """Say exactly what differs between the topics and the configuration, and the remedy.

    Exit status 1 if a worker would refuse to start; what only costs space or time is shown, and the status stays 0.
    """
    settings = load(*config)
    differences = check(settings)
    for difference in differences:
        if as_json:
            print_json(asdict(difference))
        else:
            click.echo(f"{'WRONG ' if difference.fatal else 'differs'} {difference}")
    if not differences and not as_json:
        click.echo(f"All {len(wanted(settings))} topics are as configured.")
    return 1 if any(difference.fatal for difference in differences) else 0
