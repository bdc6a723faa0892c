"""The local Kafka says what it lacks, and never lets CI pass without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import kafka_local
from tests.kafka_fixtures import REQUIRE, Kafka, start_kafka


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("URBAN_BRAIN_KAFKA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return tmp_path


def test_without_java_it_says_what_to_install(bare_machine: Path) -> None:
    assert "install OpenJDK 17" in (kafka_local.why_unavailable() or "")
    with pytest.raises(kafka_local.KafkaError, match="install OpenJDK 17"):
        kafka_local.KafkaCluster(bare_machine / "cluster").start()


def test_maven_is_needed_only_until_the_jars_are_there(bare_machine: Path) -> None:
    java = bare_machine / "java"
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    assert "install it (apt install maven)" in (kafka_local.why_unavailable() or "")
    jars = bare_machine / "cache" / kafka_local.KAFKA_VERSION
    jars.mkdir(parents=True)
    (jars / "complete").touch()
    assert kafka_local.why_unavailable() is None


def test_tests_are_skipped_with_the_reason(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="install OpenJDK 17"):
        next(start_kafka(bare_machine))


def test_where_kafka_is_required_they_fail_instead(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match=f"{REQUIRE}=1, but no Java"):
        next(start_kafka(bare_machine))


@pytest.mark.kafka
def test_a_cluster_is_found_again_by_its_directory(kafka: Kafka) -> None:
    again = kafka_local.KafkaCluster(kafka.cluster.directory)
    assert again.bootstrap == kafka.bootstrap
    assert again.alive(1) == kafka.cluster.alive(1) is not None
