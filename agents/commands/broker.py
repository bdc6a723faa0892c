"""urban-brain broker (hidden)"""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from agents.commands.common import config_option
from streams.embedded import EmbeddedBroker
from streams.settings import load


@click.command(epilog="Example: urban-brain broker --config examples/city.toml")
@config_option
def command(config: tuple[Path, ...]) -> int:
    """Run the embedded broker with all topics until Ctrl-C; prints its address. It keeps nothing. For trying things out."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    signal.signal(signal.SIGINT, lambda *_: over.set())
    with EmbeddedBroker.of(load(*config)) as broker:
        click.echo(broker.bootstrap)
        click.echo("It keeps nothing. Use it with: export URBAN_BRAIN_BROKERS=" + broker.bootstrap, err=True)
        over.wait()
    return 0
