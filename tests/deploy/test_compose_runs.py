"""What docker-compose.yml starts, started here: its command lines, with its environment, on a Kafka with its settings."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kafka_local import KafkaCluster, why_unavailable
from streams.settings import load
from tests.deploy.conftest import ROOT, Promtool
from tests.deploy.test_compose import mounted
from tests.kafka_fixtures import REQUIRE
from tests.system.harness import free_port, until

pytestmark = pytest.mark.kafka
# Where a container listens and keeps its files is not how it is here.
PLACES = re.compile("NODE_ID|PROCESS_ROLES|QUORUM|LISTENER|LOG_DIRS")


def properties(environment: dict[str, str]) -> dict[str, str]:
    """As the image of Kafka reads its environment: KAFKA_A_B is the property a.b."""
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in environment.items()
        if not PLACES.search(name)
    }


def page(port: int, path: str) -> tuple[int, str]:
    """Status and body; 0 while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


class Composed:
    """The services that run our image, each a process."""

    def __init__(self, services: dict[str, Any], bootstrap: str, directory: Path) -> None:
        self.services = services
        self.bootstrap = bootstrap
        self.directory = directory
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {name: free_port() for name in services}

    def environment(self, name: str) -> dict[str, str]:
        service = self.services[name]
        own = dict(service["environment"])
        own["URBAN_BRAIN_CONFIG"] = str(mounted(service, own["URBAN_BRAIN_CONFIG"]))
        own["URBAN_BRAIN_BROKERS"] = own["URBAN_BRAIN_BROKERS"].replace("kafka:9092", self.bootstrap)
        return {**os.environ, **own, "URBAN_BRAIN_HTTP_PORT": str(self.ports[name]), "PYTHONUNBUFFERED": "1"}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "agents", *self.services[name]["command"]]
        with (self.directory / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                command, cwd=ROOT, env=self.environment(name), stdout=log, stderr=subprocess.STDOUT
            )
        return self.running[name]

    def get(self, name: str, path: str) -> tuple[int, str]:
        assert self.running[name].poll() is None, self.log(name)
        return page(self.ports[name], path)

    def value(self, name: str, metric: str) -> float:
        """Sum over all series of a metric."""
        found = re.findall(rf"^{metric}(?:{{.*}})? (\S+)$", self.get(name, "/metrics")[1], re.M)
        return sum(map(float, found))

    def log(self, name: str) -> str:
        return f"{name}:\n" + (self.directory / f"{name}.log").read_text(errors="replace")[-4000:]


@pytest.fixture
def composed(compose: dict[str, Any], ours: dict[str, Any], tmp_path: Path) -> Iterator[Composed]:
    if (reason := why_unavailable()) is not None:
        (pytest.fail if os.environ.get(REQUIRE) == "1" else pytest.skip)(reason)
    wished = properties(compose["services"]["kafka"]["environment"])
    with KafkaCluster(tmp_path / "kafka", properties=wished, short_lived=True) as cluster:
        services = Composed(ours, cluster.bootstrap, tmp_path)
        yield services
        for process in services.running.values():
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.mark.slow
def test_the_composed_deployment_turns_the_feed_into_a_citys_time(composed: Composed, promtool: Promtool) -> None:
    assert composed.start("topics").wait(60) == 0, composed.log("topics")
    workers = [name for name, service in composed.services.items() if service["command"] == ["worker"]]
    for name in (*workers, "feed"):
        composed.start(name)
    for name in workers:
        until(lambda name=name: composed.get(name, "/ready")[0] == 200, f"{name} is ready", 60)
    settings = load(ROOT / "examples" / "city.toml")
    sources = len(settings.sources)

    def clocks() -> float:
        return sum(composed.value(name, "urban_brain_city_clock_timestamp_seconds") for name in workers)

    until(lambda: clocks() > 0, "the city's clock runs", 60)
    began = clocks()
    until(lambda: clocks() >= began + 10, "the city's clock follows its sources", 60)
    pages = [composed.get(name, "/metrics")[1] for name in workers]
    shown = [set(re.findall(r"^urban_brain_source_clock_timestamp_seconds{(.*)}", text, re.M)) for text in pages]
    assert sum(map(len, shown)) == sources
    assert all(shown), "each of the two workers has a part of the sources"
    assert sum(composed.value(name, 'urban_brain_pings_total{operator="amber",outcome="accepted"}') for name in workers) > 100
    for text in pages:
        promtool("check", "metrics", stdin=text)
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())["groups"]
    told = str([rule["expr"] for group in rules if group["name"] != "urban-brain-webhook" for rule in group["rules"]])
    for metric in set(re.findall(r"urban_brain_\w+", told)):
        name = re.sub("_bucket$", "", metric)
        assert all(f"# TYPE {name} " in text for text in pages), f"{metric} is in a rule and on no page"

    composed.running["feed"].send_signal(signal.SIGINT)
    for name in workers:
        composed.running[name].send_signal(signal.SIGTERM)
    assert composed.running["feed"].wait(30) in (0, 130), composed.log("feed")
    for name in workers:
        assert composed.running[name].wait(30) == 0, composed.log(name)
