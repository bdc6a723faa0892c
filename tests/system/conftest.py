"""Deployments for tests: each with topics and a group of its own on the shared cluster, ended whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kafka_fixtures import Kafka
from tests.system.harness import System, make_system
from tests.system.told import Told, worker_run

MakeSystem = Callable[..., System]


@pytest.fixture
def deploy(kafka: Kafka, tmp_path: Path) -> Iterator[MakeSystem]:
    """Make a deployment out of the options of `harness.configuration`; its workers never outlive the test."""
    made: list[System] = []

    def make(**options: object) -> System:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        bootstrap = str(options.pop("bootstrap", kafka.bootstrap))
        made.append(make_system(bootstrap, directory, **options))
        return made[-1]

    yield make
    for system in made:
        system.close()


@pytest.fixture(scope="session")
def told(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """What a worker told an operator. Only to be read."""
    with worker_run(kafka.bootstrap, tmp_path_factory.mktemp("told")) as told:
        yield told
