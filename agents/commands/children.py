"""Child processes that never outlive their parent, and what they said last when they fail."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from streams.errors import UrbanBrainError

_END_S = 15.0
_TAIL_LINES = 15
_PAGE_S = 2.0


class Interrupts:
    """A context manager: Ctrl-C and SIGTERM raise KeyboardInterrupt, but never inside `held`, where they wait."""

    def __init__(self) -> None:
        self._holding = False
        self._pending = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._come)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _come(self, *_: object) -> None:
        if self._holding:
            self._pending = True
        else:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """A part that must not be left half done."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt


class Children:
    """A context manager over commands of our own. At the end all are told to stop, and killed if they do not."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()
        self._folder = Path()

    def __enter__(self) -> Self:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="urban-brain-")))
        return self

    def __exit__(self, *error: object) -> None:
        with self._interrupts.held():
            self._stop()
            self._stack.close()

    def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run `urban-brain <arguments>`. It is not in our terminal's group: Ctrl-C comes to us, and we end it.

        An interrupt between the child's start and our knowing of it would leave it running for ever.
        """
        with (self._folder / f"{name}.log").open("wb") as log, self._interrupts.held():
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "agents", *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises UrbanBrainError with its last words if any has ended."""
        for name, process in self._running.items():
            if (status := process.poll()) is not None:
                raise UrbanBrainError(f"the {name} ended with status {status}. {self.tail(name)}")

    def tail(self, name: str) -> str:
        """The last lines that a child wrote."""
        text = (self._folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(["Its last lines:", *text.splitlines()[-_TAIL_LINES:]])

    def _stop(self) -> None:
        """In the reverse order of their start: who writes goes before who reads."""
        for process in reversed(self._running.values()):
            process.terminate()
        for process in reversed(self._running.values()):
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def page(url: str) -> str | None:
    """The text of a page; None if there is none (not there yet, or an error status)."""
    try:
        with urllib.request.urlopen(url, timeout=_PAGE_S) as answer:
            text: str = answer.read().decode()
            return text
    except (urllib.error.URLError, OSError):
        return None
