"""urban-brain demo: broker, worker and simulator on this machine, and what comes out of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from agents.commands import demo_view
from agents.commands.alert_text import line
from agents.commands.children import Children, Interrupts, free_port, page
from agents.commands.common import SpeedType
from agents.commands.demo_state import DemoState, OperatorCounts
from streams.alert_log import AlertLog, distinct
from streams.embedded import EmbeddedBroker
from streams.errors import UrbanBrainError
from streams.settings import load
from streams.settings.deployment import ENV_PREFIX

_READY_LIMIT_S = 60.0
_METRICS_EVERY_S = 1.0
_STATUS_EVERY_S = 10.0
_HEADLESS_SECONDS = 90
Show = Callable[[DemoState, float], None]


@dataclass(frozen=True, slots=True)
class _Plan:
    seed: int
    bikes: int
    speed: float | None
    seconds: int | None
    headless: bool


@click.command(epilog="Example: urban-brain demo --headless --seconds 90")
@click.option("--headless", is_flag=True, help="Plain lines; exit status 0 only if alerts came.")
@click.option("--seconds", type=click.IntRange(min=1), help="End after so many seconds (headless: 90).")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="The same seed, the same pings.")
@click.option("--bikes", type=click.IntRange(100, 50_000), default=3_000, show_default=True)
@click.option("--speed", type=SpeedType(), metavar="N", default="20", show_default=True, help="Stream over wall time.")
def command(headless: bool, seconds: int | None, seed: int, bikes: int, speed: float | None) -> int:
    """A simulated city in this terminal: pings in, alerts out. Needs no Kafka; keeps nothing.

    Starts a broker inside this process, a worker and a simulator, and shows alerts as they are raised, updated, cleared.
    """
    if speed is None:
        raise click.UsageError("--speed must be a number: the embedded broker keeps little, so the demo is paced.")
    plan = _Plan(seed, bikes, speed, seconds or (_HEADLESS_SECONDS if headless else None), headless)
    with _own_environment(), as_file(files("agents.commands") / "demo.toml") as config:
        state = _run(plan, config)
    if headless and not state.raised:
        raise UrbanBrainError(f"no alert within {plan.seconds} s: the machine may be too slow; try --seconds 300")
    return 0


@contextmanager
def _own_environment() -> Iterator[None]:
    """Settings of a real deployment in the environment are not for the demo."""
    ours = {key: value for key, value in os.environ.items() if key.startswith(ENV_PREFIX)}
    for key in ours:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(ours)


def _run(plan: _Plan, config: Path) -> DemoState:
    settings = load(config)
    state = DemoState({name: OperatorCounts() for name in settings.timeline.operators})
    console = demo_view.console()
    try:
        with EmbeddedBroker.of(settings) as broker, Interrupts() as interrupts, Children(interrupts) as children:
            _play(plan, config, broker.bootstrap, children, state, console)
    except KeyboardInterrupt:
        console.print("Ended.")
    return state


def _play(plan: _Plan, config: Path, bootstrap: str, children: Children, state: DemoState, console: Console) -> None:
    port = free_port()
    environment = {"URBAN_BRAIN_BROKERS": bootstrap, "URBAN_BRAIN_HTTP_PORT": str(port)}
    settings = load(config)
    deployment = settings.deployment.model_copy(update={"brokers": (bootstrap,)})
    console.print(f"Broker at {bootstrap}. {demo_view.NOT_DURABLE}")
    children.start("worker", ["worker", "--config", str(config)], environment)
    base = f"http://127.0.0.1:{port}"
    _wait_ready(children, base)
    console.print(f"Worker ready, its metrics are at {base}/metrics. A city of {plan.bikes:,} bikes wakes up.")
    simulate = ["simulate", "--config", str(config), "--seed", str(plan.seed), "--bikes", str(plan.bikes)]
    children.start("simulator", [*simulate, "--speed", str(plan.speed)], environment)
    with AlertLog(deployment, settings.topics.alerts) as log, _shown(plan, console) as show:
        _watch(plan, base, children, state, distinct(log.follow(from_beginning=True)), show)


def _wait_ready(children: Children, base: str) -> None:
    started = time.monotonic()
    while page(f"{base}/ready") is None:
        children.check()
        if time.monotonic() - started > _READY_LIMIT_S:
            raise UrbanBrainError(f"the worker was not ready after {_READY_LIMIT_S:g} s. {children.tail('worker')}")
        time.sleep(0.2)


def _watch(
    plan: _Plan,
    base: str,
    children: Children,
    state: DemoState,
    events: Iterator[tuple[dict[str, Any], bytes] | None],
    show: Show,
) -> None:
    """Until the time is over. The log gives None twice a second when it is quiet, so this never stands still for long."""
    started = time.monotonic()
    measured = 0.0
    for event in events:
        now = time.monotonic()
        if event is not None:
            state.take_event(event[0])
        if now - measured >= _METRICS_EVERY_S:
            measured = now
            children.check()
            if (text := page(f"{base}/metrics")) is not None:
                state.take_metrics(text, now)
        show(state, now - started)
        if plan.seconds is not None and now - started >= plan.seconds:
            return


@contextmanager
def _shown(plan: _Plan, console: Console) -> Iterator[Show]:
    if plan.headless or not console.is_terminal:
        yield _Lines(console)
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:

        def draw(state: DemoState, seconds: float) -> None:
            live.update(demo_view.screen(state, seconds=seconds, height=console.height), refresh=True)

        yield draw


class _Lines:
    """Every event once, and a line about the whole now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: str = ""
        self._next_s = _STATUS_EVERY_S

    def __call__(self, state: DemoState, seconds: float) -> None:
        newest = state.events[-1] if state.events else None
        if newest is not None and newest["event_id"] != self._printed:
            self._printed = newest["event_id"]
            self._console.print(line(newest))
        if seconds >= self._next_s:
            self._next_s += _STATUS_EVERY_S
            self._console.print(demo_view.status_line(state, seconds=seconds))
