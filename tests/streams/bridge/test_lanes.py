"""Delivery to a real HTTP server that fails in every way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from streams.bridge.dead_letters import DeadLetterFile, DeadLetters, Death
from streams.bridge.event import Event, Place, signature
from streams.bridge.lanes import Lanes, Patience
from streams.bridge.metrics import BridgeMetrics
from streams.bridge.post import HttpPost
from tests.streams.bridge.endpoint import Endpoint, cut, slow, status

PLACE = Place("alerts.amber", 0)
KEY = b"0123456789abcdef01234567"
TIMEOUT_S = 0.3
PATIENCE = Patience(attempts=4, first_s=0.02, longest_s=0.05, parallel=4)


@dataclass
class Kept:
    """Dead letters in memory."""

    letters: list[tuple[str, Death]] = field(default_factory=list)

    async def put(self, event: Event, death: Death) -> None:
        self.letters.append((event.id, death))


class Rig:
    """Lanes, an endpoint, and dead letters."""

    def __init__(
        self, endpoint: Endpoint, post: HttpPost, patience: Patience = PATIENCE, dead: DeadLetters | None = None
    ) -> None:
        self.endpoint = endpoint
        self.dead = Kept()
        self.metrics = BridgeMetrics()
        self.lanes = Lanes(post, dead or self.dead, patience, self.metrics, chance=lambda: 0.0)
        self.offset = 0

    def take(self, *ids: str) -> None:
        for name in ids:
            headers = [("ce_id", name.encode()), ("content-type", b"application/json")]
            self.lanes.take(Event(PLACE, self.offset, name.partition("/")[0].encode(), f'"{name}"'.encode(), headers))
            self.offset += 1

    async def until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, (self.endpoint.ids(), self.dead.letters)
            await asyncio.sleep(0.005)

    async def settled(self) -> None:
        await self.until(lambda: not len(self.lanes.ledger))

    @property
    def position(self) -> int:
        return self.lanes.ledger.positions()[PLACE]

    def count(self, metric: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"urban_brain_webhook_{metric}", labels) or 0.0


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    await endpoint.start()
    yield endpoint
    await endpoint.stop()


@pytest.fixture
async def post(endpoint: Endpoint) -> AsyncIterator[HttpPost]:
    async with HttpPost(endpoint.url, KEY, timeout_s=TIMEOUT_S, agent="test/1") as post:
        yield post


@pytest.fixture
async def rig(endpoint: Endpoint, post: HttpPost) -> AsyncIterator[Rig]:
    rig = Rig(endpoint, post)
    yield rig
    await rig.lanes.close()


async def test_the_body_is_that_of_the_topic_and_the_signature_holds(rig: Rig) -> None:
    rig.take("a/1")
    await rig.settled()
    (arrival,) = rig.endpoint.arrivals
    assert arrival.body == b'"a/1"'
    assert arrival.headers["ce-id"] == arrival.headers["webhook-id"] == "a/1"
    assert arrival.headers["user-agent"] == "test/1"
    now_s = int(arrival.headers["webhook-timestamp"])
    assert abs(now_s - time.time()) < 5
    assert arrival.headers["webhook-signature"] == signature(KEY, "a/1", now_s, arrival.body)
    assert (rig.position, rig.count("events_total", outcome="delivered")) == (1, 1)


@pytest.mark.parametrize(
    ("failure", "result"),
    [(status(500), "5xx"), (status(404), "4xx"), (status(302, Location="/elsewhere"), "3xx"), (cut, "unreachable"),
     (slow(5.0), "timeout")],
    ids=["500", "404", "redirect", "cut", "timeout"],
)  # fmt: skip
async def test_a_failure_is_repeated_and_holds_up_no_other_episode(rig: Rig, failure: object, result: str) -> None:
    rig.endpoint.then("a/1", failure, failure)  # type: ignore[arg-type]
    rig.take("a/1", "a/2", "b/1", "b/2", "c/1")
    await rig.until(lambda: {"b/2", "c/1"} <= set(rig.endpoint.taken))
    assert "a/2" not in rig.endpoint.ids(), "it waits for the one before"
    assert rig.position == 0
    await rig.settled()
    assert [name for name in rig.endpoint.ids() if name.startswith("a")] == ["a/1", "a/1", "a/1", "a/2"]
    assert rig.position == 5
    assert rig.dead.letters == []
    assert rig.count("requests_total", result=result) == 2


async def test_an_endpoint_that_is_away_is_asked_until_it_is_there(endpoint: Endpoint, post: HttpPost) -> None:
    rig = Rig(endpoint, post, Patience(attempts=1000, first_s=0.02, longest_s=0.05, parallel=4))
    await endpoint.stop()
    rig.take("a/1", "a/2", "b/1")
    await rig.until(lambda: rig.count("requests_total", result="unreachable") >= 6)
    assert rig.lanes.oldest_s() > 0
    await endpoint.start()
    await rig.settled()
    assert [name for name in endpoint.taken if name.startswith("a")] == ["a/1", "a/2"]
    assert rig.lanes.oldest_s() == 0


async def test_a_slow_endpoint_is_waited_for_and_asked_by_so_many_at_once(rig: Rig) -> None:
    for n in range(12):
        rig.endpoint.then(f"e{n}/1", slow(TIMEOUT_S / 6))
    rig.take(*(f"e{n}/1" for n in range(12)))
    await rig.settled()
    assert rig.endpoint.most_at_once == PATIENCE.parallel
    assert len(rig.endpoint.ids()) == 12


async def test_waits_double_up_to_the_longest(rig: Rig) -> None:
    waits = [PATIENCE.wait_s(failures, 0.0) for failures in (1, 2, 3, 4, 1000)]
    assert waits == [0.02, 0.04, 0.05, 0.05, 0.05]
    assert PATIENCE.wait_s(2, 0.5) == 0.03, "cut short by chance, by half at most"
    rig.endpoint.always("a", status(500))
    rig.take("a/1")
    await rig.settled()
    times = [arrival.at for arrival in rig.endpoint.arrivals]
    assert all(after - before >= wait for before, after, wait in zip(times, times[1:], waits, strict=False))


async def test_what_fails_too_often_is_a_dead_letter_and_the_next_of_its_episode_goes_on(rig: Rig) -> None:
    rig.endpoint.then("a/1", *[status(500)] * PATIENCE.attempts)
    rig.take("a/1", "a/2")
    await rig.settled()
    assert rig.endpoint.ids() == ["a/1"] * PATIENCE.attempts + ["a/2"]
    ((name, death),) = rig.dead.letters
    assert (name, death.reason, death.attempts) == ("a/1", "HTTP 500", PATIENCE.attempts)
    assert (rig.position, rig.count("events_total", outcome="dead")) == (2, 1)


async def test_an_endpoint_that_asks_for_time_gets_it_from_all_and_that_is_no_failure(rig: Rig) -> None:
    """More often than `attempts`, and then one failure; the first time says how long, which all obey."""
    rig.endpoint.then("a/1", status(429, Retry_After="1"), *[status(429)] * (PATIENCE.attempts + 2), status(500))
    rig.take("a/1")
    await rig.until(rig.endpoint.ids)
    asked = rig.endpoint.arrivals[0].at
    await rig.until(lambda: rig.count("requests_total", result="429") >= 1)
    rig.take("b/1", "c/1")
    await rig.settled()
    assert min(arrival.at for arrival in rig.endpoint.arrivals[1:]) >= asked + 1.0
    assert set(rig.endpoint.taken) == {"a/1", "b/1", "c/1"}
    assert rig.dead.letters == []


async def test_close_lets_requests_end_and_begins_no_others(rig: Rig) -> None:
    rig.endpoint.then("a/1", slow(TIMEOUT_S / 3))
    rig.endpoint.always("b", status(500))
    rig.take("a/1", "a/2", "b/1")
    await rig.until(lambda: {"a/1", "b/1"} <= set(rig.endpoint.ids()))
    await rig.lanes.close()
    assert "a/1" in rig.endpoint.taken
    asked = len(rig.endpoint.ids())
    assert rig.position == 1, "a/1 is settled; what comes after it will be read again"
    assert len(rig.lanes.ledger) == 2
    await asyncio.sleep(3 * PATIENCE.longest_s)
    assert len(rig.endpoint.ids()) == asked


async def test_close_of_one_partition_leaves_the_others_alone(rig: Rig) -> None:
    other = Place("alerts.amber", 1)
    rig.endpoint.always("a", status(500))
    rig.take("a/1")
    rig.lanes.take(Event(other, 0, b"b", b"{}", [("ce_id", b"b/1")]))
    await rig.lanes.close([PLACE])
    await rig.until(lambda: rig.lanes.ledger.positions()[other] == 1)
    assert rig.position == 0
    assert rig.lanes.oldest_s() == 0


async def test_a_dead_letter_that_can_not_be_kept_ends_the_bridge_and_settles_nothing(
    endpoint: Endpoint, post: HttpPost
) -> None:
    class Full:
        async def put(self, event: Event, death: Death) -> None:
            raise OSError("no space left")

    rig = Rig(endpoint, post, dead=Full())
    endpoint.always("a", status(500))
    rig.take("a/1")
    rig.lanes.check()

    def failed() -> bool:
        try:
            rig.lanes.check()
        except OSError:
            return True
        return False

    await rig.until(failed)
    assert rig.position == 0


async def test_dead_letters_in_a_file_say_all_that_is_needed_to_send_them_again(tmp_path: Path) -> None:
    path = tmp_path / "dead.ndjson"
    letters = DeadLetterFile(path)
    event = Event(PLACE, 7, b"a", b'{"x": "\xc3\xa9"}', [("ce_id", b"a/1")])
    await letters.put(event, Death("HTTP 500", 4, 1_700_000_000.0))
    await DeadLetterFile(path).put(Event(PLACE, 8, None, b"\xff", []), Death("HTTP 500", 4, 1_700_000_000.0))
    one, two = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert one == {
        "event_id": "a/1",
        "reason": "HTTP 500",
        "attempts": 4,
        "at": "2023-11-14T22:13:20.000+00:00",
        "origin": {"topic": "alerts.amber", "partition": 0, "offset": 7},
        "key": "a",
        "headers": {"ce_id": "a/1"},
        "body": '{"x": "é"}',
    }
    assert (two["body_base64"], two["key"]) == ("/w==", None)


async def test_a_file_that_can_not_be_written_is_found_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        DeadLetterFile(tmp_path / "nowhere" / "dead.ndjson")
