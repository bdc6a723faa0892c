"""The demo: alerts from nothing, and no process left behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from agents.commands.demo_state import DemoState, OperatorCounts
from agents.commands.demo_view import NOT_DURABLE, screen, status_line

# The view, from values alone.


@pytest.fixture
def state() -> DemoState:
    return DemoState({"amber": OperatorCounts(), "cobalt": OperatorCounts()})


def event(episode: str, sequence: int, name: str, operator: str = "amber") -> dict[str, object]:
    return {"event_id": f"{episode}/{sequence}", "episode_id": episode, "state": name, "operator": operator, "kind": "k"}


def page(pings: int, *, clock_s: float = 1_767_225_600) -> str:
    return (
        "# TYPE urban_brain_pings_total counter\n"
        f'urban_brain_pings_total{{operator="amber",outcome="accepted"}} {pings}\n'
        'urban_brain_pings_total{operator="unknown",outcome="malformed"} 5\n'
        'urban_brain_roster_bikes{city="rivertown",operator="amber"} 700\n'
        f'urban_brain_city_clock_timestamp_seconds{{city="rivertown"}} {clock_s}\n'
    )


def test_events_are_counted_by_operator_and_open_ones_remembered(state: DemoState) -> None:
    for body in (event("a", 1, "raised"), event("a", 2, "updated"), event("b", 1, "raised"), event("a", 3, "cleared")):
        state.take_event(body)
    assert state.operators["amber"].events == {"raised": 2, "updated": 1, "cleared": 1}
    assert (state.open_episodes, state.raised) == ({"b"}, 2)


def test_metrics_give_rates_clock_and_bikes(state: DemoState) -> None:
    state.take_metrics(page(1_000), 10.0)
    state.take_metrics(page(5_000), 12.0)
    assert state.pings_per_second == 2_000
    assert (state.operators["amber"].pings, state.operators["amber"].standing) == (5_000, 700)
    assert state.stream_ms == 1_767_225_600_000


def test_the_screen_shows_operators_clock_and_alerts_and_says_that_nothing_is_kept(state: DemoState) -> None:
    state.take_metrics(page(1_000), 10.0)
    for number in range(50):
        state.take_event(event(f"[b]{number}", 1, "raised"))
    console = Console(width=200, height=30, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(screen(state, seconds=12, height=30))
    text = console.export_text()
    assert "stream clock 2026-01-01 00:00:00Z" in text
    assert NOT_DURABLE in text
    assert text.count("raised  ") >= 3
    assert len(text.splitlines()) <= 30
    assert "50 alerts open" in status_line(state, seconds=12)


# The whole thing.


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Its temporary files lie in `tmp_path`; settings of a real deployment in the environment must not reach it."""
    environment = os.environ | {"TMPDIR": str(tmp_path), "URBAN_BRAIN_TOPIC_PREFIX": "real.", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "agents", "demo", "--headless", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def lines_until(process: subprocess.Popen[str], wanted: Callable[[str], bool]) -> list[str]:
    """What it prints, up to and including the first line that is wanted."""
    assert process.stdout is not None
    seen: deque[str] = deque()
    for line in process.stdout:
        seen.append(line)
        if wanted(line):
            return list(seen)
    pytest.fail(f"the demo ended without it:\n{''.join(seen)}")


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.slow
def test_an_alert_comes_within_a_minute_and_everything_ends_in_time(tmp_path: Path) -> None:
    with start(tmp_path, "--seconds", "40") as process:
        lines = lines_until(process, lambda line: " raised " in line)
        assert any(NOT_DURABLE in line for line in lines)
        family = children(process)
        assert len(family) == 2
        rest, _ = process.communicate(timeout=100)
        assert process.returncode == 0, rest
    assert psutil.wait_procs(family, timeout=5)[1] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_when_it_is_told_to_stop_it_takes_its_children_along(tmp_path: Path, number: signal.Signals) -> None:
    with start(tmp_path) as process:
        lines_until(process, lambda line: "wakes up" in line)
        family = children(process)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1, "no alert came"
    assert "Traceback" not in out
    assert psutil.wait_procs(family, timeout=5)[1] == []


@pytest.mark.slow
def test_when_a_child_dies_it_says_which_and_ends_with_the_others(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        lines_until(process, lambda line: "wakes up" in line)
        family = children(process)
        worker = next(child for child in family if "worker" in child.cmdline())
        worker.kill()
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Error: the worker ended with status -9." in out
    assert psutil.wait_procs(family, timeout=5)[1] == []
