"""The published documents are what the code says, and are what they claim to be."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from streams.events import DATA_SCHEMA
from streams.schemas.documents import documents
from streams.settings import load
from streams.topics import wanted
from tests.schemas.validating import PAYLOADS, PUBLISHED, ROOT, asyncapi_validator, published, schema


def test_the_committed_files_are_what_the_code_says() -> None:
    made = documents()
    assert {path.name for path in PUBLISHED.iterdir()} == made.keys()
    for name, content in made.items():
        assert (PUBLISHED / name).read_bytes() == content, "run: python -m streams.schemas"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streams.schemas", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_writes_what_is_missing_and_finds_what_is_old(tmp_path: Path) -> None:
    assert run("--check", tmp_path).returncode == 1
    assert run(tmp_path).returncode == 0
    assert run("--check", tmp_path).returncode == 0
    (tmp_path / "ping.schema.json").write_text("{}")
    done = run("--check", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{tmp_path}/ping.schema.json is not what the code says. Run: python -m streams.schemas"
    ]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_schema_is_a_schema_and_tells_of_every_field(payload: str) -> None:
    document = schema(payload)
    Draft202012Validator.check_schema(document)
    for part in (document, *document.get("$defs", {}).values()):
        assert part["description"]
        for name, field in part["properties"].items():
            assert field.get("description"), f"{part['title']}.{name}"


def test_the_headers_name_the_schema_of_the_body() -> None:
    assert schema("alert")["$id"] == DATA_SCHEMA


def test_the_asyncapi_document_is_one() -> None:
    errors = [f"{error.json_path}: {error.message}" for error in asyncapi_validator().iter_errors(published("asyncapi.json"))]
    assert errors == []


def test_a_document_that_is_none_would_be_found() -> None:
    document = published("asyncapi.json")
    document["channels"]["alerts"]["adress"] = document["channels"]["alerts"].pop("address")
    assert not asyncapi_validator().is_valid(document)


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from ([part["$ref"]] if isinstance(part.get("$ref"), str) else [])
        for inside in part.values():
            yield from references(inside)
    elif isinstance(part, list):
        for inside in part:
            yield from references(inside)


@pytest.mark.parametrize("name", [path.name for path in sorted(PUBLISHED.iterdir())])
def test_every_reference_leads_somewhere(name: str) -> None:
    document = published(name)
    for reference in references(document):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        assert found, reference


def test_every_topic_has_one_channel_and_every_channel_a_topic() -> None:
    settings = load(ROOT / "examples" / "city.toml")
    channels = published("asyncapi.json")["channels"]
    values = {"prefix": [""], "app_id": ["urban-brain"], "operator": settings.timeline.operators}
    for name, form in (("feed", "json"), ("mds_feed", "mds"), ("arrow_feed", "arrow")):
        values[name] = [feed.topic for feed in settings.feeds if feed.format == form]
    values["topic"] = [*(feed.topic for feed in settings.feeds), settings.topics.facts]
    told: dict[str, str] = {}
    for channel in channels.values():
        assert set(channel["parameters"]) == set(re.findall(r"\{(\w+)\}", channel["address"]))
        addresses = [channel["address"]]
        for name in channel["parameters"]:
            addresses = [a.replace(f"{{{name}}}", value) for a in addresses for value in values[name]]
        for address in addresses:
            assert address not in told
            told[address] = channel["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"][0]
    assert told == {topic.name: topic.config["cleanup.policy"] for topic in wanted(settings)}


def test_the_asyncapi_document_and_the_schemas_say_the_same() -> None:
    components = published("asyncapi.json")["components"]["schemas"]
    for payload in PAYLOADS:
        document = json.loads(json.dumps(schema(payload)).replace("#/$defs/", "#/components/schemas/"))
        parts = {document["title"]: document, **document.pop("$defs", {})}
        for name, part in parts.items():
            assert components[name] == {key: value for key, value in part.items() if key not in ("$schema", "$id")}
