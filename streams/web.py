"""What a worker tells over HTTP, on a port of its own: whether it lives, whether it is ready, and its metrics.

`/live` (and `/`) answers as long as the event loop turns: liveness. `/ready` says whether the worker does its work, and if
not, why: an orchestrator waits on it, and the alert rule UrbanBrainWorkerNotReady reads the same from `/metrics`.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from prometheus_client import Gauge

from streams.errors import ConfigurationError
from streams.metrics import CONTENT_TYPE


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the worker does its work; `reasons` holds one sentence for each thing that it still needs."""

    reasons: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.reasons


class Shown(Protocol):
    """What is shown at /metrics: a worker's metrics, or a bridge's."""

    ready: Gauge

    def render(self) -> bytes: ...


class WebServer:
    """Serves one worker, or one bridge. `readiness` is asked at every request of `/ready` and at every scrape."""

    def __init__(self, metrics: Shown, readiness: Callable[[], Readiness], *, version: str) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._version = version
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port, which matters if 0 was asked for: any free one."""
        app = web.Application()
        app.router.add_get("/", self._alive)
        app.router.add_get("/live", self._alive)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/metrics", self._show_metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigurationError([_cannot_listen(host, port, error)]) from error
        self._runner = runner
        return int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Closes the port and open connections. Does nothing if it was not started."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _alive(self, request: web.Request) -> web.Response:
        return web.json_response({"alive": True, "version": self._version})

    async def _ready(self, request: web.Request) -> web.Response:
        readiness = self._readiness()
        body = {"ready": readiness.ok, "reasons": list(readiness.reasons)}
        return web.json_response(body, status=200 if readiness.ok else 503)

    async def _show_metrics(self, request: web.Request) -> web.Response:
        # Asked here and not kept by a timer: a worker that no longer gets to its timers must not look ready.
        self._metrics.ready.set(float(self._readiness().ok))
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})


def refuse_taken_port(host: str, port: int) -> None:
    """Raises ConfigurationError if nobody can listen there: before anything is started, so that there is one clear message."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise ConfigurationError([_cannot_listen(host, port, error)]) from error


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: give this worker another one (URBAN_BRAIN_HTTP_PORT), 0 takes any free one"
    return f"cannot listen on {host}:{port}: {error.strerror or error} (URBAN_BRAIN_HTTP_HOST, URBAN_BRAIN_HTTP_PORT)"
