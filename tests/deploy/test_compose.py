"""docker-compose.yml, as far as it can be judged without Docker: its form, its images, its commands, its settings.

tests/deploy/test_compose_runs.py runs what it starts, on a Kafka with its settings.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from agents.cli import cli
from deploy.kafka_local import KAFKA_VERSION
from streams.settings import Deployment, load
from streams.settings.deployment import ENV_PREFIX
from tests.deploy.conftest import ROOT

TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
CONDITIONS = ["service_started", "service_healthy", "service_completed_successfully"]
# The part of the compose specification that we use; a key outside of it is most likely a slip.
SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image"],
    "properties": {
        "image": {"type": "string"},
        "build": {
            "type": "object",
            "additionalProperties": False,
            "required": ["context", "dockerfile"],
            "properties": {"context": {"type": "string"}, "dockerfile": {"type": "string"}},
        },
        "command": TEXTS,
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "volumes": {"type": "array", "items": {"type": "string", "pattern": r"^(\./)?[\w./-]+:/[\w./-]+(:ro)?$"}},
        "ports": {"type": "array", "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}},
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "stop_grace_period": {"type": "string", "pattern": r"^\d+s$"},
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["condition"],
                "properties": {"condition": {"enum": CONDITIONS}},
            },
        },
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "disable": {"type": "boolean"},
                "test": TEXTS,
                "interval": {"type": "string"},
                "timeout": {"type": "string"},
                "retries": {"type": "integer"},
            },
        },
    },
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "services"],
    "properties": {
        "name": {"type": "string"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"type": "object", "maxProperties": 0}},
    },
    "patternProperties": {"^x-": {}},
}


def test_it_has_the_form_of_a_compose_file(compose: dict[str, Any]) -> None:
    jsonschema.validate(compose, SCHEMA)


def test_a_service_waits_only_for_services_that_exist_and_can_meet_the_condition(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for other, wish in service.get("depends_on", {}).items():
            assert other in services, f"{name} waits for {other}"
            if wish["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"]
            if wish["condition"] == "service_completed_successfully":
                assert "restart" not in services[other]


def test_every_mounted_file_and_volume_exists(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for source in (volume.split(":")[0] for volume in service.get("volumes", ())):
            assert (ROOT / source).exists() if source.startswith("./") else source in compose["volumes"]


def test_every_image_is_pinned_and_kafka_is_the_one_that_the_tests_run(compose: dict[str, Any]) -> None:
    images = {service["image"] for service in compose["services"].values()}
    assert all(re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", image) for image in images)
    assert f"apache/kafka:{KAFKA_VERSION}" in images


def test_ports_are_on_this_machine_only_and_distinct(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_every_variable_is_a_setting_of_ours(ours: dict[str, Any]) -> None:
    known = {ENV_PREFIX + key.upper() for key in Deployment.model_fields} | {ENV_PREFIX + "CONFIG"}
    assert {name for service in ours.values() for name in service["environment"]} <= known


def test_the_settings_load_with_exactly_the_environment_of_each_service(
    ours: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    instances = []
    for service in ours.values():
        with monkeypatch.context() as patch:
            for name, value in service["environment"].items():
                patch.setenv(name, value)
            settings = load(mounted(service, service["environment"]["URBAN_BRAIN_CONFIG"]))
        assert settings.deployment.brokers == ("kafka:9092",)
        instances.append(settings.deployment.instance_id)
    assert sorted(filter(None, instances)) == ["worker-1", "worker-2"]


def mounted(service: dict[str, Any], inside: str) -> Path:
    """Where on this machine a file of the container comes from."""
    for volume in service["volumes"]:
        source, target = volume.split(":")[:2]
        if target == inside:
            return ROOT / str(source)
    raise AssertionError(f"{inside} is not mounted")


def test_every_command_line_is_one_of_ours(ours: dict[str, Any]) -> None:
    for service in ours.values():
        result = CliRunner().invoke(cli, [*service["command"], "--help"])
        assert result.exit_code == 0, result.output
        assert " ".join(w for w in service["command"] if not w.startswith("-"))[:8] in result.output


def test_prometheus_scrapes_exactly_the_workers_at_the_port_they_serve(compose: dict[str, Any]) -> None:
    configuration = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    targets = [t for job in configuration["scrape_configs"] for s in job["static_configs"] for t in s["targets"]]
    workers = [name for name, service in compose["services"].items() if service.get("command") == ["worker"]]
    port = Deployment.model_fields["http_port"].default
    assert sorted(targets) == [f"{name}:{port}" for name in sorted(workers)]
    assert [job["job_name"] for job in configuration["scrape_configs"]] == ["urban-brain"]


def test_jobs_that_serve_no_page_are_not_asked_for_one(ours: dict[str, Any]) -> None:
    for service in ours.values():
        assert service.get("healthcheck", {}).get("disable", False) == (service["command"] != ["worker"])
