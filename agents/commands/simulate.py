"""urban-brain simulate"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from agents.commands.common import (
    InstantType,
    SpeedType,
    config_option,
    input_topics_fit,
    json_option,
    print_json,
    progress,
)
from agents.commands.replay import tell
from streams.feeds.producing import produce
from streams.feeds.records import FeedRecord
from streams.feeds.simulate import DEFAULT_START_MS, Plan, simulate
from streams.settings import load


@click.command(epilog="Example: urban-brain simulate --seconds 3600 --out pings.ndjson --config examples/city.toml")
@config_option
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="The same seed, the same pings.")
@click.option("--bikes", type=click.IntRange(1, 1_000_000), default=3_000, show_default=True, help="In each city.")
@click.option("--seconds", type=click.IntRange(min=1), help="Of stream time; left out: until Ctrl-C.")
@click.option("--start", type=InstantType(), metavar="now|TIME", default=DEFAULT_START_MS, help="Stream time of the start.")
@click.option(
    "--speed", type=SpeedType(), default="1", metavar="N|max", show_default=True, help="Stream time over wall time, or max."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="NDJSON file instead of Kafka.")
@json_option
def command(
    config: tuple[Path, ...],
    seed: int,
    bikes: int,
    seconds: int | None,
    start: int,
    speed: float | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Write pings of a simulated city: bikes ride, park, crowd at hot spots and are taken away by trucks."""
    settings = load(*config)
    if out is not None and seconds is None:
        raise click.UsageError("--out needs --seconds: a file must end.")
    records = simulate(settings, Plan(seed=seed, bikes=bikes, seconds=seconds, start_ms=start))
    if out is not None:
        count = _write(out, records)
        if as_json:
            print_json({"records": count, "file": str(out)})
        else:
            click.echo(f"{count:,} pings in {out}", err=True)
        return 0
    input_topics_fit(settings)
    with progress("Simulating") as show:
        done = produce(settings, records, speed=speed, progress=show)
    tell(done, 0, as_json=as_json)
    return 0


def _write(out: Path, records: Iterable[FeedRecord]) -> int:
    count = 0
    with out.open("wb") as file:
        for record in records:
            file.write(record.value + b"\n")
            count += 1
    return count
