"""urban-brain bridge webhook"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click

from agents.commands.common import config_option
from streams.settings import load_bridge
from streams.web import refuse_taken_port


@click.group(epilog="Example: urban-brain bridge webhook --config bridge.toml")
def command() -> None:
    """Carry alerts to where they are needed."""


@command.command("webhook", epilog="Example: URBAN_BRAIN_WEBHOOK_SECRET=… urban-brain bridge webhook --config bridge.toml")
@config_option
def webhook_command(config: tuple[Path, ...]) -> int:
    """POST every alert to an HTTP endpoint, signed, at least once, in order within its episode; until SIGTERM or Ctrl-C.

    The configuration needs [deployment] and [webhook] only; the secret comes from URBAN_BRAIN_WEBHOOK_SECRET. What the endpoint
    does not take goes to the dead letters. Health and metrics are on deployment.http_port: /live, /ready, /metrics.
    """
    settings = load_bridge(*config)
    refuse_taken_port(settings.deployment.http_host, settings.deployment.http_port)
    from streams.bridge.bridge import run  # aiokafka and aiohttp: only when the configuration is right

    logging.basicConfig(level=settings.deployment.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return asyncio.run(run(settings))
