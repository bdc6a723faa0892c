"""What tests of commands share: a configuration, a way to run a command, and a broker inside of the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agents.cli import status
from streams.embedded import EmbeddedBroker
from streams.settings import Settings, loads

CONFIGURATION = """
[deployment]
clock = "replay"
brokers = ["127.0.0.1:1"]
[network]
operators = ["amber", "cobalt"]
[[network.feeds]]
topic = "pings"
gateway = true
partitions = 2
[city]
name = "rivertown"
time_zone = "UTC"
boundary = { south = 52, west = 9.9, north = 52.25, east = 10.2 }
[[city.rules]]
id = "crowded"
name = "Too many"
per_hectare = 0.5
for = "10s"
"""
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "all.toml"
    path.write_text(CONFIGURATION)
    return path


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs a command in this process -> (exit status, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = status([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return call


@pytest.fixture
def broker(config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The embedded broker; every command finds it through the environment."""
    with EmbeddedBroker.of(loads(CONFIGURATION)) as embedded:
        monkeypatch.setenv("URBAN_BRAIN_BROKERS", embedded.bootstrap)
        yield loads(CONFIGURATION)
