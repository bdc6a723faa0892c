"""deploy/Dockerfile without Docker: its build stage is run in a folder, and what it makes must do all that the image does."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from streams.metrics import Metrics
from streams.settings import loads
from streams.web import Readiness, WebServer
from tests.deploy.conftest import ROOT
from tests.deploy.test_metrics import CITY

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
BUILD, RUN = ([line for line in stage.splitlines() if line and line[0] != "#"] for stage in DOCKERFILE.split("\nFROM ")[1:])


def instructions(stage: list[str], name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in stage if line.startswith(f"{name} ")]


class Image:
    """The folders that the build stage makes: /src, /wheel, /opt/urban-brain."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, **environment: str) -> str:
        """A command of the image's environment. Fails if it does."""
        path = f"{self.root}/opt/urban-brain/bin"
        variables = {"PATH": f"{path}:{os.environ['PATH']}", **environment}
        done = subprocess.run(
            [f"{path}/{command[0]}", *command[1:]], cwd=self.root, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def wheel(self) -> Path:
        (wheel,) = (self.root / "wheel").glob("*.whl")
        return wheel


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Everything of the build stage but its own tools: those are this environment, installed from the same lock."""
    root = tmp_path_factory.mktemp("image")
    (root / "tools").symlink_to(sys.prefix)
    (root / "src").mkdir()
    for line in BUILD:
        if line.startswith("COPY "):
            *sources, target = line.split()[1:]
            for source in sources:
                copy(ROOT / source, root / "src" / target / ("" if target == "./" else "."))
        elif line.startswith("RUN ") and "-m venv /tools" not in line:
            command = re.sub(r"(?<![\w.])/(tools|opt|wheel)\b", rf"{shlex.quote(str(root))}/\1", line.removeprefix("RUN "))
            command = command.replace("--python python3.11", f"--python {sys.executable}")
            trusting = os.environ | {"UV_SYSTEM_CERTS": "1"}  # a mirror's certificate, where there is one
            done = subprocess.run(
                command, shell=True, cwd=root / "src", env=trusting, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    yield Image(root)
    shutil.rmtree(root)


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def test_the_base_image_is_pinned_and_the_same_in_both_stages() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+(\.\d+)?-slim-\w+", bases[0])


def test_nothing_that_is_copied_is_ignored_and_nothing_else_is_sent() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    copied = {word for line in instructions(BUILD, "COPY") for word in line.split()[:-1]}
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line[0] == "!"} == copied


def test_the_image_does_not_run_as_root_and_stops_as_a_worker_does() -> None:
    assert instructions(RUN, "USER") == ["urban-brain"]
    assert any("useradd" in line and "urban-brain" in line for line in instructions(RUN, "RUN"))
    assert instructions(RUN, "ENTRYPOINT") == ['["urban-brain"]']  # the exec form: SIGTERM reaches it


@pytest.mark.slow
def test_the_wheel_holds_our_packages_with_their_data_and_nothing_else(image: Image) -> None:
    names = zipfile.ZipFile(image.wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"agents", "geo", "streams"}
    tracked = {path.relative_to(ROOT).as_posix() for top in ("agents", "geo", "streams") for path in (ROOT / top).rglob("*.*")}
    wanted = {path for path in tracked if not fnmatch(path, "*__pycache__*")}
    assert wanted <= set(names)
    assert "agents/commands/demo.toml" in names


@pytest.mark.slow
def test_the_image_holds_what_runs_and_no_tool_of_the_tests(image: Image) -> None:
    python = image.root / "opt" / "urban-brain" / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    listed = subprocess.run([uv, "pip", "list", "--python", python, "--format", "json"], capture_output=True, check=True)
    found = {package["name"]: package["version"] for package in json.loads(listed.stdout)}
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.M))
    assert found.pop("urban-brain")
    assert not {"pytest", "mypy", "hypothesis", "uv", "hatchling"}.intersection(found)
    numpy = found.pop("numpy")  # locked once for each range of Pythons
    assert numpy in re.findall(r"^numpy==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.M)
    assert found == {name: locked[name] for name in found}


@pytest.mark.slow
def test_every_command_of_the_compose_file_starts_in_the_image(image: Image, ours: dict[str, Any]) -> None:
    assert image.run("urban-brain", "--version").startswith("urban-brain, version ")
    image.run("python", "-c", "import agents.worker, agents.backtest")  # imported only when they run
    for command in {tuple(service["command"]) for service in ours.values()} | {("demo",), ("replay",), ("doctor",)}:
        assert "Usage: urban-brain" in image.run("urban-brain", *command, "--help")


@pytest.mark.slow
def test_the_image_simulates_and_backtests(image: Image) -> None:
    config, pings = str(ROOT / "examples" / "city.toml"), f"{image.root}/pings.ndjson"
    image.run("urban-brain", "simulate", "--config", config, "--seconds", "60", "--bikes", "100", "--out", pings)
    image.run("urban-brain", "backtest", pings, "--config", config, "--out", f"{image.root}/alerts.ndjson")


@pytest.mark.slow
async def test_the_health_check_asks_a_worker_whether_it_lives(image: Image) -> None:
    (line,) = instructions(RUN, "HEALTHCHECK")
    command = json.loads(line.partition("CMD ")[2])
    metrics = Metrics(loads(CITY).timeline, version="1", clock="live")
    server = WebServer(metrics, lambda: Readiness(("state is being loaded",)), version="1")
    port = str(await server.start("127.0.0.1", 0))
    await asyncio.to_thread(image.run, *command, URBAN_BRAIN_HTTP_PORT=port)
    await server.stop()
    with pytest.raises(AssertionError, match="Connection refused"):
        await asyncio.to_thread(image.run, *command, URBAN_BRAIN_HTTP_PORT=port)
