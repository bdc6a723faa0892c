"""The demo on a terminal: a full-screen view for people, or plain lines for logs and tests."""

from __future__ import annotations

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agents.commands.alert_text import line, plain
from agents.commands.common import clock_text
from agents.commands.demo_state import DemoState

NOT_DURABLE = "Nothing is kept: the broker and all state live in memory and end with the demo."
_FRAME_LINES = 14  # everything but the alerts


def screen(state: DemoState, *, seconds: float, height: int) -> Group:
    """What to draw now."""
    clock = clock_text(state.stream_ms) if state.stream_ms else "waiting for the first tick"
    head = Text.assemble(
        ("Urban Brain", "bold"),
        f"   stream clock {clock}   {state.pings:,} pings, {state.pings_per_second:,.0f}/s   "
        f"{len(state.open_episodes)} alerts open   {seconds:.0f} s",
    )
    events = list(state.events)[-max(3, height - _FRAME_LINES) :]
    lines = [line(body) for body in events] or [Text("No alert yet. Bikes are on their way to the hot spots.", "dim")]
    for text in lines:
        text.no_wrap = True
    alerts = Panel(Group(*lines), title="alerts, newest last", title_align="left")
    return Group(head, Text(), operators(state), Text(), alerts, Text(f"{NOT_DURABLE} Ctrl-C ends it.", "dim"))


def operators(state: DemoState) -> Table:
    """A row for each operator."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("operator")
    for name in ("pings", "bikes parked", "raised", "updated", "cleared"):
        table.add_column(name, justify="right")
    for name, counts in state.operators.items():
        figures = (counts.pings, counts.standing, *(counts.events[key] for key in ("raised", "updated", "cleared")))
        table.add_row(Text(plain(name)), *(f"{figure:,}" for figure in figures))
    return table


def status_line(state: DemoState, *, seconds: float) -> str:
    """The same in one line."""
    parked = sum(counts.standing for counts in state.operators.values())
    clock = clock_text(state.stream_ms) if state.stream_ms else "not started"
    return (
        f"{seconds:.0f} s: stream clock {clock}, {state.pings:,} pings, {state.pings_per_second:,.0f}/s, "
        f"{parked:,} bikes parked, {len(state.open_episodes)} alerts open"
    )


def console() -> Console:
    return Console(highlight=False, soft_wrap=True)
