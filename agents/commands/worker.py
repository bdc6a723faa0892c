"""urban-brain worker"""

from __future__ import annotations

from pathlib import Path

import click

from agents.commands.common import config_option
from streams.settings import load


@click.command(epilog="Example: urban-brain worker --config network.toml --config rivertown.toml")
@config_option
def command(config: tuple[Path, ...]) -> int:
    """Run a worker: turn pings into alerts, until SIGTERM or Ctrl-C.

    Start as many as you like with the same configuration; they share the partitions. Health and metrics are on
    deployment.http_port: /live, /ready, /metrics.
    """
    settings = load(*config)
    from agents.worker import run  # Faust and all: only when the configuration is right

    return run(settings)
