"""The configuration of a deployment for tests, as TOML."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

RULE = """
[[city.rules]]
id = "crowded"
name = "Crowded"
per_hectare = "{per_hectare}"
for = "10s"
keep_firing_for = "10s"
cooldown = "30s"
update_interval = "10s"
"""


CITY = """
[[city]]
name = "{name}"
time_zone = "UTC"
boundary = {boundary}
{rules}
"""


def configuration(
    bootstrap: str,
    name: str,
    *,
    clock: str = "replay",
    operators: Sequence[str] = ("alpha",),
    partitions: int = 3,
    tick: str = "5s",
    session: str = "6s",
    snapshots: str = "1s",
    network: str = "",
    deployment: str = "",
    boundary: str = "{ south = 39.4, west = 115.4, north = 41.1, east = 117.6 }",
    rules: str = RULE.format(per_hectare="0.5"),
    cities: str = "",
) -> str:
    """TOML of a deployment whose topics all begin with `name`: one gateway feed, one city, if none are given."""
    brokers = orjson.dumps(bootstrap.split(",")).decode()
    return f"""
[deployment]
brokers = {brokers}
clock = "{clock}"
app_id = "{name}"
topic_prefix = "{name}."
session_timeout = "{session}"
snapshot_interval = "{snapshots}"
{deployment}

[network]
tick = "{tick}"
operators = {orjson.dumps(list(operators)).decode()}
{network}

[[network.feeds]]
topic = "{name}.pings"
gateway = true
partitions = {partitions}
{cities or CITY.format(name="rivertown", boundary=boundary, rules=rules)}
"""
