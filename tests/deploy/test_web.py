"""What a worker answers over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from streams.errors import ConfigurationError
from streams.metrics import CONTENT_TYPE, Metrics
from streams.settings import loads
from streams.web import Readiness, WebServer
from tests.deploy.test_metrics import CITY


class Worker:
    """A server with a state that a test sets, and somebody who asks it."""

    def __init__(self) -> None:
        self.reasons: tuple[str, ...] = ()
        self.metrics = Metrics(loads(CITY).timeline, version="1.2.3", clock="live")
        self.server = WebServer(self.metrics, lambda: Readiness(self.reasons), version="1.2.3")
        self.port = 0

    async def get(self, path: str) -> tuple[int, str, str]:
        """Status, content type and body of a page."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
            return answer.status, answer.headers["Content-Type"], await answer.text()


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker()
    worker.port = await worker.server.start("127.0.0.1", 0)
    yield worker
    await worker.server.stop()


@pytest.mark.parametrize("path", ["/", "/live"])
async def test_a_worker_that_is_not_ready_is_alive(worker: Worker, path: str) -> None:
    worker.reasons = ("state is being loaded",)
    status, _, body = await worker.get(path)
    assert (status, body) == (200, '{"alive": true, "version": "1.2.3"}')


async def test_ready_says_everything_that_is_missing(worker: Worker) -> None:
    worker.reasons = ("state is being loaded", "no partitions yet")
    status, kind, body = await worker.get("/ready")
    assert status == 503
    assert kind.startswith("application/json")
    assert body == '{"ready": false, "reasons": ["state is being loaded", "no partitions yet"]}'
    worker.reasons = ()
    assert (await worker.get("/ready"))[::2] == (200, '{"ready": true, "reasons": []}')


async def test_a_scrape_tells_whether_the_worker_is_ready_at_that_moment(worker: Worker) -> None:
    status, kind, body = await worker.get("/metrics")
    assert (status, kind) == (200, CONTENT_TYPE)
    assert "\nurban_brain_ready 1.0\n" in body
    worker.reasons = ("state is being loaded",)
    assert "\nurban_brain_ready 0.0\n" in (await worker.get("/metrics"))[2]


async def test_any_other_page_is_not_found(worker: Worker) -> None:
    assert (await worker.get("/secret"))[0] == 404


async def test_a_busy_port_is_told_with_the_remedy(worker: Worker) -> None:
    second = Worker()
    with pytest.raises(ConfigurationError, match=rf"port {worker.port} on 127\.0\.0\.1 is in use.*URBAN_BRAIN_HTTP_PORT"):
        await second.server.start("127.0.0.1", worker.port)
    await second.server.stop()


async def test_an_address_that_is_not_ours_is_told_with_the_setting(worker: Worker) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:0.*URBAN_BRAIN_HTTP_HOST"):
        await Worker().server.start("192.0.2.1", 0)


async def test_a_stopped_server_gives_its_port_back(worker: Worker) -> None:
    await worker.server.stop()
    await worker.server.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await worker.get("/live")
    assert await worker.server.start("127.0.0.1", worker.port) == worker.port
