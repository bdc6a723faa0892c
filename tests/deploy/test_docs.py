"""What the documents claim of files, commands and settings is so."""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import orjson
import pytest

from agents.cli import COMMANDS, HIDDEN
from streams.settings import Deployment, Webhook, load
from streams.topics import wanted
from tests.deploy.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page if not path else (page.parent / path)
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_way_through_the_code_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"\b(?:geo|streams|agents|tests)/[\w/]*\w(?:\.py)?", text))
    assert len(named) > 40
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_deployment_setting_is_explained() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().split("\n## Settings\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.M) == [*Deployment.model_fields]


def test_every_setting_of_the_bridge_is_explained() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().split("\n## The webhook bridge\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", section, re.M))
    assert list(rows) == [*Webhook.model_fields]
    for key, field in Webhook.model_fields.items():
        if isinstance(field.default, int | timedelta):
            shown = field.default if isinstance(field.default, int) else short(field.default)
            assert rows[key].strip("` ") == str(shown)


def short(length: timedelta) -> str:
    """As it is written in a configuration."""
    minutes, seconds = divmod(int(length.total_seconds()), 60)
    return f"{minutes}m" if minutes else f"{seconds}s"


def test_every_topic_is_explained() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().split("\n## Topics\n")[1].split("\n## ")[0]
    told = set(re.findall(r"^\| `([\w.]+)`", section, re.M)) | {
        "alerts.<operator>",
        "alert.responses.<operator>",
        "<app_id>-<topic>-changelog",
        "feeds",
    }
    settings = load(ROOT / "examples" / "city.toml")
    special = {"input": "feeds", "changelog": "<app_id>-<topic>-changelog"}
    own = {settings.topics.operator_topic(name): "alerts.<operator>" for name in settings.timeline.operators}
    own[settings.topics.policies] = "policies"
    own |= {settings.topics.responses(name): "alert.responses.<operator>" for name in settings.timeline.operators}
    assert told == {own.get(topic.name) or special.get(topic.purpose, topic.name) for topic in wanted(settings)}


@pytest.mark.parametrize("part", ["Alert", "Rule", "Area", "Bike", "Move", "Response", "Escalation"])
def test_every_field_of_an_alert_is_explained(part: str) -> None:
    section = (ROOT / "docs" / "operators.md").read_text().split("\n## What is in an alert\n")[1].split("\n## ")[0]
    begins = {
        "Alert": "",
        "Rule": "Of `rule`:",
        "Area": "Of `area`:",
        "Bike": "Of each of `bikes`",
        "Move": "Of each of `moves`",
        "Response": "Of `response`:",
        "Escalation": "Of each of `escalations`",
    }
    table = section.partition(begins[part])[2].strip().split("|\n\n")[0] if begins[part] else section.split("\nOf ")[0]
    told = [name for cell in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`(\w+)`", cell)]
    components = orjson.loads((ROOT / "docs" / "schemas" / "asyncapi.json").read_bytes())["components"]["schemas"]
    assert told == list(components[part]["properties"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_only_commands_that_exist_are_named(page: Path) -> None:
    named = set(re.findall(r"urban-brain ([a-z]+)", page.read_text())) - {"worker"}
    assert named <= set(COMMANDS) - HIDDEN


def test_one_version_stands_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version("urban-brain") == project
    for path in ("docker-compose.yml", "docs/operations.md", "deploy/Dockerfile"):
        assert set(re.findall(r"urban-brain:(\d[\w.]*)", (ROOT / path).read_text())) == {project}


def test_no_registry_and_no_place_of_one_machine_stands_in_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index-url" not in lock
    assert "--find-links" not in lock
    pinned = re.findall(r"^[a-z0-9-]+==", lock, re.M)
    assert len(pinned) == len(re.findall(r"^\S", lock, re.M))
    assert lock.count("--hash=sha256:") > len(pinned)
