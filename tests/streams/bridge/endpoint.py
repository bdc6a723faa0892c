"""A real HTTP server that does what a test says, and remembers what came."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

Behaviour = Callable[[web.Request], Awaitable[web.Response]]


def status(code: int, **headers: str) -> Behaviour:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=code, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


def slow(seconds: float) -> Behaviour:
    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(seconds)
        return web.Response()

    return answer


async def cut(request: web.Request) -> web.Response:
    """The connection ends in the middle of the answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


OK = status(200)


@dataclass
class Arrival:
    """One request. at: seconds of the event loop's clock; headers: by lower-case name."""

    id: str
    at: float
    headers: dict[str, str]
    body: bytes


@dataclass
class Endpoint:
    """Answers 200 unless a test has said otherwise: for the next requests of an id, or for all of an episode."""

    arrivals: list[Arrival] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    _script: dict[str, deque[Behaviour]] = field(default_factory=lambda: defaultdict(deque))
    _always: dict[str, Behaviour] = field(default_factory=dict)
    _runner: web.AppRunner | None = None
    port: int = 0

    def then(self, event_id: str, *behaviours: Behaviour) -> None:
        """What the next requests of an event get; after that it is taken."""
        self._script[event_id].extend(behaviours)

    def always(self, episode: str, behaviour: Behaviour | None) -> None:
        """What every request of an episode gets, until it is told otherwise."""
        if behaviour is None:
            del self._always[episode]
        else:
            self._always[episode] = behaviour

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/alerts?token=1"

    def ids(self) -> list[str]:
        return [arrival.id for arrival in self.arrivals]

    async def start(self) -> None:
        """On the port that it had before, if it had one."""
        app = web.Application()
        app.router.add_post("/alerts", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.Response:
        name, body = request.headers["webhook-id"], await request.read()
        self.arrivals.append(
            Arrival(
                name, asyncio.get_running_loop().time(), {name.lower(): value for name, value in request.headers.items()}, body
            )
        )
        script, episode = self._script[name], name.partition("/")[0]
        behaviour = script.popleft() if script else self._always.get(episode, OK)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            response = await behaviour(request)
        finally:
            self.at_once -= 1
        if 200 <= response.status < 300 and request.transport is not None:
            self.taken.append(name)
        return response
